// SPDX-License-Identifier: Apache-2.0

package cve

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/test/cve/rig"
)

// rootPattern is a file of a container's as it can be reached from outside.
var rootPattern = regexp.MustCompile(`"(/proc/)?(\d+/)?(root|cwd)(/|")`)

// TestA3 lists the system calls of what only looks: nothing is joined, nobody is
// made who could be robbed, and no file of the container's is opened. The verb
// that enters does all of it.
func TestA3(t *testing.T) {
	begin(t)
	strace := testutil.RequireCommand(t, "strace", "strace")
	c := testutil.Throwaway(t, throwaway.Spec{User: true})
	tool := rig.Build(t)
	for _, args := range [][]string{{"inspect"}, {"inspect", "1"}, {"inspect", "1", "-o", "json"}} {
		if made := doings(t, strace, tool, append([]string{args[0], fmt.Sprint(c.Pid())}, args[1:]...)); len(made) > 0 {
			t.Errorf("%q: %q", args, made)
		}
	}
	if made := doings(t, strace, tool, []string{"enter", "-n", fmt.Sprint(c.Pid()), "true"}); len(made) < 3 {
		t.Errorf("of enter no more is seen than %q", made)
	}
}

// doings are the calls of a run by which it would do more than look.
func doings(t *testing.T, strace string, tool *rig.Tool, args []string) (made []string) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "log")
	trace := []string{strace, "-f", "-qq", "-o", log, "-e", "trace=setns,unshare,chroot,ptrace,execve,clone,clone3,vfork,fork,open,openat,openat2,pidfd_send_signal,kill,mount"}
	r := tool.RunCommand(tool.Command(append(trace, tool.Args(args...)...)...))
	if r.Code != 0 {
		t.Fatalf("%q: %+v", args, r)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range slices.Collect(strings.Lines(string(text))) {
		m := callPattern.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		switch call, rest := m[2], m[3]; {
		case call == "execve" && i == 0: // the program itself
		case strings.HasPrefix(call, "clone") && strings.Contains(rest, "CLONE_THREAD"):
		case strings.HasPrefix(call, "open") && !rootPattern.MatchString(rest):
		default:
			made = append(made, strings.TrimSpace(line))
		}
	}
	return made
}
