// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// report is what is known of one host's run.
type report struct {
	host     host
	results  *results // nil if it did not run
	versions map[string]string
}

// versions reads those of an image's packages.
func versions(img *image) map[string]string {
	all := map[string]string{}
	b, err := os.ReadFile(img.file("versions"))
	if err != nil {
		return all
	}
	for line := range strings.Lines(string(b)) {
		if name, version, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			all[name] = version
		}
	}
	return all
}

// told are the packages whose versions a report has.
var told = strings.Fields("systemd-sysv docker.io containerd podman runc crun lxc incus lxd systemd-container bubblewrap util-linux busybox-static")

// writeReport writes the table of hosts: a line for each test, a column for each
// host and user.
func writeReport(file string, all []report) error {
	var b bytes.Buffer
	b.WriteString("# Hosts\n\nWritten by `go run ./test/hosts -host sid,bookworm,bullseye -docs docs/hosts.md`;\n" +
		"[testing.md](testing.md#whole-hosts) says what these hosts are. `tester` is an ordinary user.\n\n")
	var heads []string
	cells := map[string]map[string]string{} // test, column
	for _, r := range all {
		b.WriteString(r.describe())
		if r.results == nil {
			continue
		}
		for _, j := range r.results.jobs {
			head := r.host.name + ", " + j.user
			if !slices.Contains(heads, head) {
				heads = append(heads, head)
			}
			for row, word := range j.rows() {
				if cells[row] == nil {
					cells[row] = map[string]string{}
				}
				cells[row][head] = word
			}
		}
	}
	b.WriteString("\n| test | " + strings.Join(heads, " | ") + " |\n|---|" + strings.Repeat("---|", len(heads)) + "\n")
	for _, row := range slices.Sorted(maps.Keys(cells)) {
		b.WriteString("| " + row)
		for _, head := range heads {
			b.WriteString(" | " + cells[row][head])
		}
		b.WriteString(" |\n")
	}
	return os.WriteFile(file, b.Bytes(), 0o644)
}

// describe is one line about a host.
func (r report) describe() string {
	if r.results == nil {
		return fmt.Sprintf("- `%s` did not run.\n", r.host.name)
	}
	line := fmt.Sprintf("- `%s`: Linux %s", r.host.name, r.results.kernel)
	for _, name := range told {
		if v := r.versions[name]; v != "" {
			line += ", " + name + " " + v
		}
	}
	if !r.results.done {
		line += "; did not run to the end"
	}
	return line + ".\n"
}

// rows are the lines of a job: each test of package guest, else the package.
func (j *jobResult) rows() map[string]string {
	if !strings.HasSuffix(j.pkg, "/guest") {
		return map[string]string{fmt.Sprintf("`%s`", j.pkg): fmt.Sprintf("%d passed, %d failed, %d skipped",
			j.count("PASS"), j.count("FAIL"), j.count("SKIP"))}
	}
	rows := map[string]string{}
	for _, o := range j.tests {
		if word := strings.ToLower(o.word); !strings.Contains(o.name, "/") && word != "skip" {
			rows["`"+o.name+"`"] = word
		}
	}
	return rows
}
