// SPDX-License-Identifier: Apache-2.0

package cve

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/test/cve/rig"
)

// junk is a caller that ignores signals, has no standard streams and no umask,
// and secrets and libraries in its environment.
const junk = `trap '' CHLD HUP PIPE USR1; umask 0; ulimit -n 99; export LD_PRELOAD=/evil.so ` + secret + `; exec "$@" <&- >&- 2>&-`

// traits are what a command reports of itself that must be as its init's.
var traits = []string{"SigBlk", "SigIgn", "Umask", "NoNewPrivs", "CapEff", "CapBnd", "Max open files"}

// TestA34 enters from there.
func TestA34(t *testing.T) {
	begin(t)
	c := testutil.Throwaway(t, throwaway.Spec{Rlimits: map[int]unix.Rlimit{unix.RLIMIT_NOFILE: {Cur: 77, Max: 88}}})
	report := rootPath(c.Pid(), "/tmp/report")
	enter := func(tool *rig.Tool) string {
		_ = os.Remove(report)
		call := tool.Args(append([]string{"enter", fmt.Sprint(c.Pid())}, rig.Attack("report", "/tmp/report")...)...)
		r := tool.RunCommand(tool.Command(append([]string{"/bin/sh", "-c", junk, "sh"}, call...)...))
		if r.Code != 0 {
			t.Fatalf("%+v", r)
		}
		return content(report)
	}
	got := enter(rig.Build(t))
	for _, trait := range traits {
		if have, want := rig.Field(got, trait), trait0(c.Pid(), trait); have != want || have == "" {
			t.Errorf("%s: %q, not %q as init's", trait, have, want)
		}
	}
	if env := rig.Field(got, "Environment"); env != "PATH=/bin HOME=/root" {
		t.Errorf("environment: %q", env)
	}
	if open := rig.Field(got, "Open"); open != "0 1 2" {
		t.Errorf("open: %q", open)
	}
	for trait, change := range map[string]rig.Change{
		"SigIgn":         rig.Off("internal/forkexec/warden.go", "\tb.resetSignals()\n"),
		"SigBlk":         rig.Off("internal/forkexec/joiner.go", "\tb.blockSignals(0)\n"), // all are blocked on the way in
		"Max open files": {File: "internal/forkexec/joiner.go", Old: "if l.Resource != unix.RLIMIT_CORE {", New: "if false {"},
		"Umask":          rig.Off("internal/forkexec/joiner.go", "\tb.call(StepUmask, unix.SYS_UMASK, num(b.spec.Umask))\n"),
		"Environment":    {File: "plan.go", Old: "range p.t.env {", New: "range append(unix.Environ(), p.t.env...) {"},
	} {
		if mutant := enter(rig.Build(t, change)); rig.Field(mutant, trait) == rig.Field(got, trait) {
			t.Errorf("%s: the mutant's is clean as well", trait)
		}
	}
}

// trait0 is a trait of a container's init.
func trait0(pid int, trait string) string {
	if trait == "Max open files" {
		return limitLine(content(fmt.Sprintf("/proc/%d/limits", pid)), trait)
	}
	if trait == "SigIgn" || trait == "SigBlk" {
		return strings.Repeat("0", 16) // init's handlers are its own
	}
	return rig.Status(pid, trait)
}

// limitLine is a line of a limits file.
func limitLine(limits, name string) string {
	_, rest, _ := strings.Cut(limits, name)
	line, _, _ := strings.Cut(rest, "\n")
	return strings.Join(strings.Fields(line), " ")
}

// attackReport writes what its process has inherited to a file.
func attackReport(args []string) error {
	var open []string
	for fd := range 1024 {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			open = append(open, fmt.Sprint(fd))
		}
	}
	text := content("/proc/thread-self/status") +
		"Max open files: " + limitLine(content("/proc/self/limits"), "Max open files") + "\n" +
		"Environment: " + strings.Join(os.Environ(), " ") + "\n" +
		"Open: " + strings.Join(open, " ") + "\n"
	return os.WriteFile(args[0], []byte(text), 0o600)
}
