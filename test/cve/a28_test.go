// SPDX-License-Identifier: Apache-2.0

package cve

import (
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

// A freezable container can be frozen by its own group, or by the one above.
type freezable struct {
	*throwaway.Container
	freeze, thaw func()
}

// freezables are containers in groups of their own, by how they are frozen.
func freezables(t *testing.T) map[string]func(t *testing.T) freezable {
	made := map[string]func(t *testing.T) freezable{}
	for _, above := range []bool{false, true} {
		name := map[bool]string{false: "", true: ", above"}[above]
		made["cgroup v2"+name] = func(t *testing.T) freezable {
			dir := rig.Group(t)
			if dir == "" {
				t.Skip("skipped: cgroup v2 is not mounted")
			}
			return inGroup(t, dir, above, "cgroup.freeze", "1", "0")
		}
		made["cgroup v1"+name] = func(t *testing.T) freezable {
			dir := fmt.Sprintf("/sys/fs/cgroup/freezer/test-outband-%d-a28", os.Getpid())
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Skipf("skipped: needs the freezer of cgroup v1: %v", err)
			}
			t.Cleanup(func() {
				rig.Eventually(t, "the group cannot be removed", func() bool {
					_ = os.Remove(filepath.Join(dir, "inner"))
					return os.Remove(dir) == nil
				})
			})
			return inGroup(t, dir, above, "freezer.state", "FROZEN", "THAWED")
		}
	}
	return made
}

// inGroup starts a container in a group below dir, which is thawed before the
// container is ended.
func inGroup(t *testing.T, dir string, above bool, file, on, off string) freezable {
	t.Helper()
	inner := filepath.Join(dir, "inner")
	if err := os.Mkdir(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	told := filepath.Join(inner, file)
	if above {
		told = filepath.Join(dir, file)
	}
	write := func(word string) {
		if err := os.WriteFile(told, []byte(word), 0); err != nil {
			t.Error(err)
		}
	}
	c := testutil.Throwaway(t, throwaway.Spec{Cgroups: []string{inner}})
	t.Cleanup(func() { write(off) })
	return freezable{c, func() { write(on) }, func() { write(off) }}
}

// TestA28 enters containers that are frozen, by any group of theirs: it is said
// at once. The mutant does not look, and is frozen on its way in.
func TestA28(t *testing.T) {
	begin(t)
	tool := rig.Build(t)
	mutant := rig.Build(t, rig.Change{File: "placement.go", Old: "return p.freeze()", New: "return nil"},
		rig.Change{File: "explain.go", Old: `group != ""`, New: "false && group != \"\""})
	for name, start := range freezables(t) {
		t.Run(name, func(t *testing.T) {
			c := start(t)
			pid := fmt.Sprint(c.Pid())
			enter := func(x *rig.Tool, args ...string) rig.Result {
				return x.In(t).Run(append([]string{"enter", "-n", pid}, args...)...)
			}
			if r := enter(tool, "--thaw", "true"); r.Code != 0 || r.Err != "" {
				t.Errorf("not frozen: %+v", r)
			}
			c.freeze()
			if r := enter(tool, "true"); r.Code != 125 || !strings.Contains(r.Err, "frozen: cgroup /") || !strings.Contains(r.Err, "hint: --thaw") {
				t.Errorf("%+v", r)
			}
			if r := tool.In(t).Run("inspect", pid); r.Code != 0 || !strings.Contains(r.Out, " paused\n") {
				t.Errorf("shown: %+v", r)
			}
			if r := enter(tool, "--cgroup", "none", "echo", "x"); r.Code != 0 || r.Out != "x\n" {
				t.Errorf("outside of its cgroup: %+v", r)
			}
			if r := enter(mutant, "true"); r.Code != 125 || !strings.Contains(r.Err, "no answer in time") {
				t.Errorf("the mutant knows as well: %+v", r)
			}
			if r := enter(tool, "--thaw", "echo", "x"); r.Code != 0 || r.Out != "x\n" || !strings.Contains(r.Err, "--thaw: the container goes on") {
				t.Errorf("thawed: %+v", r)
			}
			if r := enter(tool, "true"); r.Code != 0 { // it stays so
				t.Errorf("after it was thawed: %+v", r)
			}
		})
	}
}

// TestA28Late freezes a container between the look and the act: what is on its
// way in is given up, and the reason is told.
func TestA28Late(t *testing.T) {
	begin(t)
	dir := rig.Group(t)
	if dir == "" {
		t.Skip("skipped: cgroup v2 is not mounted")
	}
	c := inGroup(t, dir, false, "cgroup.freeze", "1", "0")
	tool := rig.Build(t, rig.Pause(".", "outband", "command.go", "	if err := c.thaw(seen, plan); err != nil {\n\t\treturn err\n\t}", "planned")...)
	s := tool.StartCommand(rig.PauseAt(tool.Command(tool.Args("enter", "-n", fmt.Sprint(c.Pid()), "true")...), "planned"))
	s.AwaitPause()
	c.freeze()
	held := rig.Hold(s.Process.Pid)
	held.Continue()
	if r := s.Wait(); r.Code != 125 || r.Hung || !strings.Contains(r.Err, "frozen") {
		t.Errorf("%+v", r)
	}
	held.Pidfd.Close()
}

// TestA28Stopped enters a container whose init is stopped: that works, and it is
// told.
func TestA28Stopped(t *testing.T) {
	begin(t)
	c := testutil.Throwaway(t, throwaway.Spec{})
	p := rig.Hold(c.Pid())
	defer p.Pidfd.Close()
	p.Signal(unix.SIGSTOP)
	defer p.Continue()
	rig.Eventually(t, "init does not stop", func() bool { return rig.State(c.Pid()) == 'T' })
	r := rig.Build(t).Run("enter", "-n", fmt.Sprint(c.Pid()), "echo", "x")
	if r.Code != 0 || r.Out != "x\n" || !strings.Contains(r.Err, "init is stopped") {
		t.Errorf("%+v", r)
	}
	if r := rig.Build(t).Run("inspect", fmt.Sprint(c.Pid())); r.Code != 0 || !strings.Contains(r.Out, " stopped\n") {
		t.Errorf("shown: %+v", r)
	}
}
