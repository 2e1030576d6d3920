// SPDX-License-Identifier: Apache-2.0

package cve

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/test/cve/rig"
)

// mapCase is a container with a map of ids, and whom of it one may be.
type mapCase struct {
	spec throwaway.Spec
	// users that are let in, with what the host sees of them, and one that is not.
	users  map[string]string
	nobody string
}

// mapCases are the shapes that maps have, by name. The largest has 340 lines
// (user_namespaces(7)), which must fit into a page when they are written.
func mapCases() map[string]mapCase {
	lines := make([]throwaway.IDMap, 340)
	for i := range lines {
		lines[i] = throwaway.IDMap{ContainerID: i, HostID: 1001 + 2*i, Size: 1}
	}
	one := func(inside, outside, size int) []throwaway.IDMap {
		return []throwaway.IDMap{{ContainerID: inside, HostID: outside, Size: size}}
	}
	ids := throwaway.Spec{User: true, UID: 7, GID: 8, Groups: []int{9, 10}}
	nested, deny, large := ids, throwaway.Spec{User: true, DenySetgroups: true}, ids
	nested.Depth = 3
	large.UID, large.GID, large.Groups, large.UIDMap, large.GIDMap = 339, 338, []int{337, 1}, lines, lines
	deepDeny := deny
	deepDeny.Depth = 2
	return map[string]mapCase{
		"none": {throwaway.Spec{UID: 7, GID: 8, Groups: []int{9, 10}}, map[string]string{"5:6": "5 6 ;"}, ""},
		"usual": {ids, map[string]string{"5:6": "100005 100006 ;", "0": "100000 100000 ;", "65535": "165535 100000 ;"},
			"65536"},
		"no 0": {throwaway.Spec{User: true, UIDMap: one(1000, 200000, 10), GIDMap: one(1000, 300000, 10), Groups: []int{1009}},
			map[string]string{"1001:1002": "200001 300002 ;"}, "0"},
		"single id": {throwaway.Spec{User: true, UIDMap: one(0, 200000, 1), GIDMap: one(0, 300000, 1)},
			map[string]string{"0": "200000 300000 ;"}, "1:0"},
		"340 lines":       {large, map[string]string{"338:0": "1677 1001 ;"}, "340:0"},
		"deny":            {deny, map[string]string{"5:6": "100005 100006 ;"}, "0:65536"},
		"nested":          {nested, map[string]string{"5:6": "100005 100006 ;"}, "65536"},
		"nested and deny": {deepDeny, map[string]string{"0": "100000 100000 ;"}, "65536"},
	}
}

// TestA37 enters containers of all maps for a caller with groups that nobody
// inside may have. The numbers are the host's: what has none inside would read
// 65534 there, whoever it is.
func TestA37(t *testing.T) {
	begin(t)
	tool := rig.Build(t)
	all := rig.Build(t, rig.Change{File: "internal/forkexec/joiner.go", Old: "if id.SetGroups {", New: "if false {"})
	denied := rig.Build(t, rig.Change{File: "identity.go", Old: "(!p.t.denied || p.sameGroups())", New: "true"},
		rig.Change{File: "identity.go", Old: "if p.t.denied && len(p.t.ownStatus.Groups) > 0 {", New: "if false {"})
	for name, test := range mapCases() {
		t.Run(name, func(t *testing.T) {
			pid := testutil.Throwaway(t, test.spec).Leaf().Pid()
			want := numbers(pid)
			if got := entered(t, tool, pid, "sleep", "infinity"); got != want {
				t.Errorf("init is %q, the command %q", want, got)
			}
			mutants := []*rig.Tool{all}
			if test.spec.DenySetgroups {
				mutants = append(mutants, denied)
			}
			for user, want := range test.users {
				if got := entered(t, tool, pid, "-u", user, "sleep", "infinity"); brief(got) != want {
					t.Errorf("user %s is %q, not %q", user, got, want)
				}
			}
			for i, mutant := range mutants {
				for user := range test.users {
					if got := entered(t, mutant, pid, "-u", user, "sleep", "infinity"); !strings.Contains(got, "4242") {
						t.Errorf("mutant %d lets none of the caller's groups in either: %q", i, got)
					}
				}
				if got := entered(t, mutant, pid, "sleep", "infinity"); !strings.Contains(got, "4242") {
					t.Errorf("mutant %d lets none of the caller's groups in either, as init: %q", i, got)
				}
			}
			if r := tool.Run("enter", fmt.Sprint(pid), "-u", test.nobody, "true"); test.nobody != "" &&
				(r.Code != 125 || !strings.Contains(r.Err, "not mapped")) {
				t.Errorf("user %s: %+v", test.nobody, r)
			}
		})
	}
}

// TestA37Unmapped enters a user namespace without any map, where init is root
// of the host and has no number.
func TestA37Unmapped(t *testing.T) {
	begin(t)
	const sleep = "/bin/sleep"
	tool := rig.Build(t)
	cmd := tool.Command(sleep, "infinity")
	cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWUSER | unix.CLONE_NEWPID
	pid := tool.StartCommand(cmd).Process.Pid
	want := numbers(pid)
	if got := entered(t, tool, pid, sleep, "infinity"); got != want || !strings.HasPrefix(got, "0 0 0 0; ") {
		t.Errorf("init is %q, the command %q", want, got)
	}
	if r := tool.Run("enter", fmt.Sprint(pid), "-u", "0", sleep, "0"); r.Code != 125 || !strings.Contains(r.Err, "not mapped") {
		t.Errorf("%+v", r)
	}
	kept := rig.Build(t, rig.Change{File: "internal/forkexec/joiner.go", Old: "if id.SetGroups {", New: "if false {"})
	if got := entered(t, kept, pid, sleep, "infinity"); !strings.Contains(got, "4242") {
		t.Errorf("the mutant lets none of the caller's groups in either: %q", got)
	}
}

// entered is what the host sees of a command, called sleep, of a caller with
// strange groups.
func entered(t *testing.T, tool *rig.Tool, pid int, args ...string) string {
	t.Helper()
	cmd := tool.Command(tool.Args(append([]string{"enter", "-n", fmt.Sprint(pid)}, args...)...)...)
	cmd.SysProcAttr.Credential = strangers
	s := tool.StartCommand(cmd)
	visitor := s.Visitor("sleep")
	got := numbers(visitor.PID)
	visitor.Signal(unix.SIGKILL)
	s.Wait()
	return got
}

// numbers are a process's users, groups and supplementary groups.
func numbers(pid int) string {
	return fmt.Sprintf("%s; %s; %s", rig.Status(pid, "Uid"), rig.Status(pid, "Gid"), rig.Status(pid, "Groups"))
}

// brief is numbers for one that is the same in all respects: user, group,
// supplementary groups; else what it was.
func brief(numbers string) string {
	parts := strings.Split(numbers, "; ")
	uid, gid := strings.Fields(parts[0]), strings.Fields(parts[1])
	if len(uid) != 4 || len(gid) != 4 || parts[0] != strings.TrimSpace(strings.Repeat(uid[0]+" ", 4)) ||
		parts[1] != strings.TrimSpace(strings.Repeat(gid[0]+" ", 4)) {
		return numbers
	}
	return uid[0] + " " + gid[0] + " " + parts[2] + ";"
}
