// SPDX-License-Identifier: Apache-2.0

package cve

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/test/cve/rig"
)

// TestA43 enters a container with some of its namespaces only, while its root
// looks through every process that it can see for a file of the host. The
// public way to switch the defence off is the mutant.
func TestA43(t *testing.T) {
	begin(t)
	canary := filepath.Join(t.TempDir(), "canary")
	if err := os.WriteFile(canary, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	tool := rig.Build(t)
	for _, only := range []string{"pid", "pid,net,uts", "pid,ipc,cgroup"} {
		b := newBox(t, throwaway.Spec{}, rig.Attack("looker", canary))
		if r := tool.Run("enter", "-n", b.pid(), "--only", only, "true"); r.Code != 125 || !strings.Contains(r.Err, "--expose-host") {
			t.Errorf("%s: %+v", only, r)
		}
		if found := b.look(tool, "--only", only+",mnt"); found != "" {
			t.Errorf("%s,mnt: the container reads %q", only, found)
		}
		if found := b.look(tool, "--only", only, "--expose-host"); found != secret {
			t.Errorf("%s: exposed, and the container reads %q: the attack is none", only, found)
		}
	}
	// Where all see all numbers it is the same; a command without one that the
	// container sees cannot be robbed.
	shared := testutil.Throwaway(t, throwaway.Spec{Namespaces: throwaway.Default &^ unix.CLONE_NEWPID})
	call := []string{"enter", "-n", fmt.Sprint(shared.Pid()), "--only", "net", "/bin/true"}
	if r := tool.Run(call...); r.Code != 125 || !strings.Contains(r.Err, "--expose-host") {
		t.Errorf("shared pid namespace: %+v", r)
	}
	mutant := rig.Build(t, rig.Change{File: "plan.go", Old: "if !p.c.ExposeHost {", New: "if false {"})
	if r := mutant.Run(call...); r.Code != 0 {
		t.Errorf("shared pid namespace: the mutant refuses it as well: %+v", r)
	}
	b := newBox(t, throwaway.Spec{}, rig.Attack("looker", canary))
	if found := b.look(tool, "--only", "net"); found != "" {
		t.Errorf("net: the container reads %q", found)
	}
}

// look enters with flags and asks a looker what it finds meanwhile.
func (b *box) look(tool *rig.Tool, flags ...string) (found string) {
	b.t.Helper()
	s := tool.Start(append(append([]string{"enter", "-n", b.pid()}, flags...), "sleep", "infinity")...)
	visitor := s.Visitor("sleep")
	b.ask(&found, "look")
	visitor.Signal(unix.SIGKILL)
	s.Wait()
	return found
}

// attackLooker is an init that reads a file through the root of every other
// process.
func attackLooker(args []string) error {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		found := ""
		for _, pid := range others() {
			for _, way := range []string{"root", "cwd"} {
				if found != "" {
					break
				}
				found = content(filepath.Join(fmt.Sprintf("/proc/%d/%s", pid, way), args[0]))
			}
		}
		fmt.Printf("%q\n", found)
	}
	return lines.Err()
}
