// SPDX-License-Identifier: Apache-2.0

package cve

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/test/cve/rig"
)

// looks are the verbs that only look, at a container.
func looks(pid string) [][]string {
	return [][]string{
		{"ls", "-a"}, {"ls", "-o", "json"}, {"tree"}, {"tree", pid}, {"tree", "-o", "json"}, {"pid", pid, "1"}, {"pid", pid, "--from", "host", pid},
		{"sessions"}, {"enter", pid, "--explain", "true"}, {"__complete", "enter", ""},
	}
}

// TestA7 traces the verbs that only look: none of them joins a namespace and
// none executes anything, while a real entry, looked at in the same way, does.
func TestA7(t *testing.T) {
	begin(t)
	strace := testutil.RequireCommand(t, "strace", "strace")
	c := testutil.Throwaway(t, throwaway.Spec{Depth: 2})
	tool := rig.Build(t)
	for _, args := range looks(fmt.Sprint(c.Pid())) {
		if calls := acts(t, strace, tool, args); len(calls) > 0 {
			t.Errorf("%q: %q", args, calls)
		}
	}
	if calls := acts(t, strace, tool, []string{"enter", "-n", fmt.Sprint(c.Pid()), "true"}); !slices.Contains(calls, "setns") || !slices.Contains(calls, "execve") {
		t.Errorf("an entry looks like none: %q", calls)
	}
}

// acts are the calls by which a run of the tool joins or executes something, its
// own execution excepted.
func acts(t *testing.T, strace string, tool *rig.Tool, args []string) (calls []string) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "log")
	trace := []string{strace, "-f", "-qq", "-o", log, "-e", "trace=setns,unshare,execve,execveat,chroot,pivot_root"}
	if r := tool.RunCommand(tool.Command(append(trace, tool.Args(args...)...)...)); r.Code != 0 {
		t.Fatalf("%q: %+v", args, r)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if m := callPattern.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			calls = append(calls, m[2])
		}
	}
	if i := slices.Index(calls, "execve"); i >= 0 {
		calls = slices.Delete(calls, i, i+1) // the tool itself
	}
	return calls
}
