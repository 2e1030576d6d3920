// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"errors"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/ns"
)

// What a process may more than init is told, what it may less is a difference
// like others, and one that is confined as init is has none.
func TestInspect(t *testing.T) {
	testutil.NoLeaks(t)
	testutil.RequireRoot(t)
	target := enter(t, throwaway.Spec{DropCaps: 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_NET_ADMIN, NoNewPrivs: true, Umask: 0o27})
	for name, test := range map[string]struct {
		change func(*Cmd)
		differ []string // besides the cgroup, which is the session's
		more   []string
	}{
		"as init": {nil, nil, nil},
		"a user": {func(c *Cmd) { c.User = &User{UID: 1, GID: 2, Groups: []uint32{3}} },
			[]string{"uid", "gid", "groups", "effective", "permitted"}, nil},
		"privileged": {func(c *Cmd) { c.Privileged = true },
			[]string{"effective", "permitted", "bounding", "no_new_privs"}, []string{"effective", "permitted", "bounding", "no_new_privs"}},
		"of the host's network": {func(c *Cmd) { c.Only, c.ExposeHost = []ns.Kind{ns.PID, ns.Mount, ns.IPC, ns.UTS, ns.Cgroup}, true },
			[]string{"namespace net"}, []string{"namespace net"}},
	} {
		c, _ := sleeper(t, target, test.change)
		pids := c.Process.PIDs()
		facts, err := target.InspectProcess(t.Context(), pids[len(pids)-1])
		if err != nil {
			t.Fatal(name, ": ", err)
		}
		var differ, more []string
		for _, d := range *facts.Differs {
			if d.Field != "cgroup" {
				differ = append(differ, d.Field)
			}
			if d.More {
				more = append(more, d.Field)
			}
		}
		if facts.Process.PID != pids[0] || !slices.Equal(differ, test.differ) || !slices.Equal(more, test.more) {
			t.Errorf("%s: differs in %q, more in %q: %+v", name, differ, more, *facts.Differs)
		}
		if facts.Confinement.Umask != 0o27 || !facts.Confinement.NoNewPrivs {
			t.Errorf("%s: init is %+v", name, facts.Confinement)
		}
	}
}

// A number means the process that has it in the target's pid namespace: not the
// one that has it outside, beside or further in.
func TestInspectTranslates(t *testing.T) {
	testutil.NoLeaks(t)
	testutil.RequireRoot(t)
	worker := [][]string{{"sleep", "infinity"}}
	beside := testutil.Throwaway(t, throwaway.Spec{Workers: append(worker, worker...)})
	container := testutil.Throwaway(t, throwaway.Spec{Inner: []throwaway.Spec{{Workers: worker}}})
	target := hold(t, container)
	for _, pid := range members(t, target.Namespaces()[ns.PID]) {
		numbers := numbersOf(t, pid)
		facts, err := target.InspectProcess(t.Context(), numbers[1])
		if err != nil || facts.Process.PID != pid || !slices.Equal(facts.Process.PIDs, numbers) {
			t.Errorf("%v: %+v, %v", numbers, facts, err)
		}
	}
	// One further in is found by its number here, and told to be elsewhere.
	inner := container.Leaf().Pid()
	facts, err := target.InspectProcess(t.Context(), numbersOf(t, inner)[1])
	if err != nil || facts.Process.PID != inner || len(*facts.Differs) == 0 {
		t.Errorf("further in: %+v, %v", facts, err)
	}
	for _, pid := range []int{container.Pid(), beside.Pid(), 4194303, 0, -1} {
		if _, err := target.InspectProcess(t.Context(), pid); !errors.Is(err, ErrNoProcess) {
			t.Errorf("%d: %v", pid, err)
		}
	}
}

// numbersOf are a process's numbers on every level.
func numbersOf(t *testing.T, pid int) []int {
	t.Helper()
	s, err := procDir(t, pid).Status()
	if err != nil {
		t.Fatal(err)
	}
	return s.NSpid
}
