// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// outcome is what became of one test.
type outcome struct{ name, word string } // word: PASS, FAIL, SKIP

// jobResult is what one job reported.
type jobResult struct {
	pkg, user string
	code      int // of the test binary; -1 until it has ended
	tests     []outcome
	took      time.Duration
	began     time.Time
}

func (j *jobResult) count(word string) (n int) {
	for _, o := range j.tests {
		if o.word == word {
			n++
		}
	}
	return n
}

// results is what a host reported, line by line.
type results struct {
	started time.Time
	up      time.Duration // until the first line
	kernel  string
	jobs    []*jobResult
	done    bool
}

// add takes one line. Lines of go test -v other than verdicts are for people.
func (r *results) add(line string) {
	fields := strings.Fields(line)
	switch {
	case strings.HasPrefix(line, "== up ") && len(fields) == 4 && r.up == 0:
		r.up, r.kernel = time.Since(r.started), fields[3]
	case strings.HasPrefix(line, "== begin ") && len(fields) == 4:
		r.jobs = append(r.jobs, &jobResult{pkg: fields[2], user: fields[3], code: -1, began: time.Now()})
	case strings.HasPrefix(line, "== end ") && len(r.jobs) > 0:
		j := r.jobs[len(r.jobs)-1]
		j.took = time.Since(j.began)
		if code, err := strconv.Atoi(fields[2]); err == nil {
			j.code = code
		}
	case line == "== done":
		r.done = true
	case strings.HasPrefix(strings.TrimLeft(line, " "), "--- ") && len(fields) >= 3 && len(r.jobs) > 0:
		j := r.jobs[len(r.jobs)-1]
		j.tests = append(j.tests, outcome{fields[2], strings.TrimSuffix(fields[1], ":")})
	}
}

// late says which deadline has passed.
func (r *results) late(limits deadlines) error {
	if r.up == 0 {
		return fmt.Errorf("no line from the host in %v", limits.boot)
	}
	return fmt.Errorf("no line from the host for %v", limits.silence)
}

// failures lists what did not pass: jobs, and their tests.
func (r *results) failures() (list []string) {
	for _, j := range r.jobs {
		for _, o := range j.tests {
			if o.word == "FAIL" {
				list = append(list, fmt.Sprintf("%s (%s): %s", j.pkg, j.user, o.name))
			}
		}
		if j.code != 0 {
			list = append(list, fmt.Sprintf("%s (%s): exit code %d", j.pkg, j.user, j.code))
		}
	}
	return list
}
