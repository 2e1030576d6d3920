// SPDX-License-Identifier: Apache-2.0

package cve

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/test/cve/rig"
)

// TestA21 sends SIGSEGV to every helper before every system call that it makes
// from when it has blocked signals, with limits that allow dumps and the
// machine's own core_pattern.
func TestA21(t *testing.T) {
	begin(t)
	if pattern := content("/proc/sys/kernel/core_pattern"); strings.ContainsAny(pattern, "|/@") {
		// A handler gets to see every dump; whether there was one it does not say.
		t.Skipf("skipped: core_pattern %q does not put dumps into the working directory", pattern)
	}
	for stage, want := range map[string]int{"warden": 0, "joiner": 0, "inside": 128 + int(unix.SIGSEGV)} {
		r, dumps := segfault(t, rig.Build(t, rig.Stops()...), stage)
		if r.Code != want || r.Hung || len(dumps) > 0 {
			t.Errorf("%s: dumps %q, %+v", stage, dumps, r)
		}
	}
	s := shapes()[0] // is dumpable, see A1
	if r, dumps := segfault(t, rig.Build(t, append(rig.Stops(), s.mutant...)...), "inside"); len(dumps) == 0 {
		t.Errorf("the mutant leaves no dump either: %+v", r)
	}
}

// segfault enters once, signals the helpers of one stage, and lists the dumps
// in the container and in the caller's directory.
func segfault(t *testing.T, tool *rig.Tool, stage string) (r rig.Result, dumps []string) {
	t.Helper()
	unlimited := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	c := testutil.Throwaway(t, throwaway.Spec{Rlimits: map[int]unix.Rlimit{unix.RLIMIT_CORE: unlimited}})
	cmd := rig.Stop(tool.Command(append([]string{"/bin/sh", "-c", `ulimit -c unlimited; exec "$@"`, "sh"},
		tool.Args("enter", "-n", fmt.Sprint(c.Pid()), "true")...)...), rig.StopAll)
	cmd.Dir = t.TempDir()
	warden, hits := 0, 0
	r = tool.StartCommand(cmd).EachStop(func(p *rig.Process) {
		if warden == 0 {
			warden = p.PID
		}
		is := map[bool]string{true: "inside", false: "joiner"}[rig.Numbered(p.PID)]
		if p.PID == warden {
			is = "warden"
		}
		if blocked, _ := strconv.ParseUint(rig.Status(p.PID, "SigBlk"), 16, 64); is == stage && blocked != 0 {
			hits++
			p.Signal(unix.SIGSEGV)
		}
	})
	if hits == 0 {
		t.Fatalf("no helper is met in stage %s: %+v", stage, r)
	}
	for _, dir := range []string{rootPath(c.Pid(), "/"), cmd.Dir} {
		found, _ := filepath.Glob(filepath.Join(dir, "core*")) // the pattern is valid
		dumps = append(dumps, found...)
	}
	return r, dumps
}
