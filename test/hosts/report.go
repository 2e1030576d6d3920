// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
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
var told = strings.Fields("systemd-sysv docker.io containerd podman runc crun lxc incus systemd-container bubblewrap util-linux busybox-static")

// writeReport writes the table of hosts.
func writeReport(file string, all []report) error {
	var b bytes.Buffer
	b.WriteString("# Hosts\n\nWritten by `go run ./test/hosts -docs docs/hosts.md`; [testing.md](testing.md) says what these hosts are.\n")
	for _, r := range all {
		fmt.Fprintf(&b, "\n## %s\n\n", r.host.name)
		if r.results == nil || !r.results.done {
			b.WriteString("Did not run to the end.\n")
		}
		if r.results == nil {
			continue
		}
		fmt.Fprintf(&b, "Linux %s", r.results.kernel)
		for _, name := range told {
			if v := r.versions[name]; v != "" {
				fmt.Fprintf(&b, ", %s %s", name, v)
			}
		}
		b.WriteString(".\n\n| package | user | test | |\n|---|---|---|---|\n")
		for _, j := range r.results.jobs {
			if !strings.HasSuffix(j.pkg, "/guest") {
				fmt.Fprintf(&b, "| `%s` | %s | %d passed, %d failed, %d skipped | %s |\n", j.pkg, j.user,
					j.count("PASS"), j.count("FAIL"), j.count("SKIP"), verdict(j.code))
				continue
			}
			for _, o := range j.tests {
				fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", j.pkg, j.user, o.name, strings.ToLower(o.word))
			}
		}
	}
	return os.WriteFile(file, b.Bytes(), 0o644)
}

func verdict(code int) string {
	if code == 0 {
		return "pass"
	}
	return "fail"
}
