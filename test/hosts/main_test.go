// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestFind(t *testing.T) {
	found, err := find("bullseye,sid")
	if err != nil || len(found) != 2 || found[0].name != "bullseye" || found[1].name != "sid" {
		t.Errorf("%v, %v", found, err)
	}
	for _, names := range []string{"", "sid,", "jessie", "../sid"} {
		if found, err := find(names); err == nil || !strings.Contains(err.Error(), "there are sid, bookworm, bullseye") {
			t.Errorf("%q: %v, %v", names, found, err)
		}
	}
}

// TestNoQemu is told, and is a failure only where everything has to be there.
func TestNoQemu(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for require, fails := range map[string]bool{"": false, "all": true} {
		t.Setenv("OUTBAND_REQUIRE", require)
		var said bytes.Buffer
		err := hostsMain(t.Context(), options{hosts: "sid"}, &said)
		text := said.String()
		if err != nil {
			text += err.Error()
		}
		if (err != nil) != fails || !strings.Contains(text, "qemu-system-x86") {
			t.Errorf("%q: %v, %q", require, err, text)
		}
	}
}

// TestNoNetwork makes an image where nothing can be had; what mmdebstrap says is
// in the error.
func TestNoNetwork(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\necho E: Unable to connect >&2\nexit 25\n"
	for _, name := range []string{"nice", "mke2fs", "mmdebstrap"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
	if os.Geteuid() != 0 {
		if err := tiny.build(t.Context(), t.TempDir()); err == nil || !strings.Contains(err.Error(), "root") {
			t.Error(err)
		}
		return
	}
	img, err := cached(t.Context(), t.TempDir(), tiny, tiny.build)
	if err == nil || !strings.Contains(err.Error(), "image of tiny: ") || !strings.Contains(err.Error(), "Unable to connect") {
		t.Errorf("%v, %v", img, err)
	}
}

func TestJobs(t *testing.T) {
	h := host{selected: []job{{pkg: "./a", user: "root"}, {pkg: "./b", user: "tester"}}}
	if got := h.jobs(options{run: "X"}); len(got) != 2 || got[1] != (job{pkg: "./b", user: "tester", run: "X"}) {
		t.Errorf("selected: %+v", got)
	}
	got := h.jobs(options{pkgs: "./c,.", run: "X", skip: "Y", user: "tester"})
	if !slices.Equal(got, []job{{"./c", "X", "Y", "tester"}, {".", "X", "Y", "tester"}}) {
		t.Errorf("asked for: %+v", got)
	}
}

// TestScript keeps what a shell would take apart in one word.
func TestScript(t *testing.T) {
	p := payload{cover: true, jobs: []job{{pkg: "./a/b", user: "root", run: `^(A|B) 'c' $(d)$`}}}
	want := `root './a/b' '/mnt/pkg/a/b' '-test.v' '-test.count=1' '-test.timeout=20m0s' '-test.run=^(A|B) '\''c'\'' $(d)$' ` +
		"'-test.coverprofile=/tmp/outband/out/cover-0'\n"
	if got := p.script(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestReport(t *testing.T) {
	file := filepath.Join(t.TempDir(), "hosts.md")
	done := &results{kernel: "6.1", done: true, jobs: []*jobResult{
		{pkg: "./test/hosts/guest", user: "root", tests: []outcome{{"TestRunC", "PASS"}, {"TestDocker", "SKIP"}}},
		{pkg: "./a", user: "tester", code: 1, tests: []outcome{{"TestA", "FAIL"}}},
	}}
	err := writeReport(file, []report{{host: host{name: "one"}, results: done, versions: map[string]string{"runc": "1.3"}}, {host: host{name: "two"}}})
	b, _ := os.ReadFile(file)
	for _, want := range []string{"- `one`: Linux 6.1, runc 1.3.\n", "- `two` did not run.", "| test | one, root | one, tester |",
		"| `TestRunC` | pass |  |\n", "| `./a` |  | 0 passed, 1 failed, 0 skipped |\n"} {
		if err != nil || !strings.Contains(string(b), want) {
			t.Errorf("no %q in %s, %v", want, b, err)
		}
	}
	if strings.Contains(string(b), "TestDocker") {
		t.Errorf("what was skipped is there: %s", b)
	}
}
