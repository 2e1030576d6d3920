// SPDX-License-Identifier: Apache-2.0

package testutil

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// threadSlack is how many threads a test may add for good: Go keeps those that
// once waited in a system call.
const threadSlack = 16

// NoLeaks fails the test if, after all cleanups that were registered after this
// call, the process has more descriptors, children (zombies and adopted orphans
// too) or many more threads than now, or the machine other mounts or more
// cgroups with outband-… in the name. It is not for parallel tests.
func NoLeaks(t testing.TB) {
	t.Helper()
	noLeaks(t, settleTime)
}

func noLeaks(t testing.TB, limit time.Duration) {
	t.Helper()
	// Orphans of our descendants become our children, and so are seen. It stays
	// set: those of earlier tests would only be out of sight.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	// The first pipe makes the runtime open its own two descriptors for good.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	w.Close()
	before, threads := leakState(), threadCount()
	t.Cleanup(func() {
		t.Helper()
		left := settle(before, leakState, limit)
		if n := threadCount() - threads; n > threadSlack {
			left = append(left, fmt.Sprintf("%d more threads", n))
		}
		for _, c := range children() {
			if i := slices.Index(left, "+ "+c.fact()); i >= 0 {
				left[i] += ", " + c.name + ", state " + c.state
			}
		}
		if len(left) > 0 {
			t.Errorf("left behind (+) or lost (-):\n\t%s", strings.Join(left, "\n\t"))
			reapLeft(before)
		}
	})
}

// leakState is what a test must leave as it was.
func leakState() state {
	s := state{}
	for fd, target := range descriptors() {
		s[fmt.Sprintf("descriptor %d: %s", fd, target)] = true
	}
	for _, c := range children() {
		s[c.fact()] = true
	}
	for _, line := range readLines("/proc/self/mountinfo") {
		s["mount "+line] = true
	}
	for _, dir := range cgroups() {
		s["cgroup "+dir] = true
	}
	return s
}

// diff lists what now has more, by +, and what it lacks, by -.
func (s state) diff(now state) []string {
	var changes []string
	for fact := range now {
		if !s[fact] {
			changes = append(changes, "+ "+fact)
		}
	}
	for fact := range s {
		if !now[fact] && !transient(fact) {
			changes = append(changes, "- "+fact)
		}
	}
	slices.Sort(changes)
	return changes
}

// transient facts may end without anybody's fault: an earlier test's thread
// closes a descriptor, another program's cgroup goes.
func transient(fact string) bool {
	for _, kind := range []string{"mount ", "ip_forward ", "packet filter "} {
		if strings.HasPrefix(fact, kind) {
			return false
		}
	}
	return true
}

// descriptors maps this process's open ones to what they refer to.
func descriptors() map[int]string {
	open := map[int]string{}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return open
	}
	for _, entry := range entries {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		// The one of ReadDir itself is closed by now.
		if target, err := os.Readlink("/proc/self/fd/" + entry.Name()); err == nil {
			open[fd] = target
		}
	}
	return open
}

// child is a process whose parent is this one.
type child struct {
	pid         int
	name, state string
	startTime   string
}

// fact is what does not change in a child's life.
func (c child) fact() string {
	return fmt.Sprintf("child %d, started at tick %s", c.pid, c.startTime)
}

// children finds them by their stat: /proc/PID/task/TID/children needs
// CONFIG_PROC_CHILDREN.
func children() []child {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil
	}
	var found []child
	self := strconv.Itoa(os.Getpid())
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		text := string(data)
		open, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
		if open < 0 || end < open {
			continue
		}
		// proc_pid_stat(5): state is field 3, the parent 4, the start time 22.
		fields := strings.Fields(text[end+1:])
		if len(fields) < 20 || fields[1] != self {
			continue
		}
		pid, _ := strconv.Atoi(strings.TrimSpace(text[:open]))
		found = append(found, child{pid, text[open+1 : end], fields[0], fields[19]})
	}
	return found
}

// reapLeft collects zombies that were left, so that the next test starts clean.
// Running ones are reported alone: they are not this function's to end.
func reapLeft(before state) {
	for _, c := range children() {
		if !before[c.fact()] && c.state == "Z" {
			_, _ = unix.Wait4(c.pid, nil, unix.WNOHANG, nil)
		}
	}
}

func threadCount() int {
	entries, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return 0
	}
	return len(entries)
}
