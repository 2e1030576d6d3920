// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
)

// idLines are the lines Uid, Gid and Groups of the status that a command inside
// shows of itself.
func idLines(t *testing.T, c *Cmd) [3]string {
	t.Helper()
	out, err := c.Output()
	if err != nil {
		t.Fatal(err)
	}
	var lines [3]string
	for line := range strings.Lines(string(out)) {
		for i, key := range []string{"Uid:", "Gid:", "Groups:"} {
			if value, ok := strings.CutPrefix(line, key); ok {
				lines[i] = strings.Join(strings.Fields(value), " ")
			}
		}
	}
	return lines
}

// Whom a command runs as, the kernel is asked: inside, after the switch.
func TestUserIsTheKernels(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	full := []throwaway.IDMap{{ContainerID: 0, HostID: 100000, Size: 65536}}
	targets := map[string]throwaway.Spec{
		"machine's user namespace": {Groups: []int{4, 24}},
		"another user namespace":   {User: true, UIDMap: full, GIDMap: full, Groups: []int{4, 24}},
		"groups denied":            {User: true, UIDMap: full, GIDMap: full, DenySetgroups: true},
	}
	for name, spec := range targets {
		t.Run(name, func(t *testing.T) {
			target := enter(t, spec)
			for _, u := range [][2]uint32{{0, 0}, {1, 0}, {1000, 1001}, {65534, 5}} {
				c := target.Command("status")
				c.User = &User{UID: u[0], GID: u[1]}
				want := [3]string{strings.TrimSpace(strings.Repeat(fmt.Sprint(u[0], " "), 4)), strings.TrimSpace(strings.Repeat(fmt.Sprint(u[1], " "), 4)), ""}
				if got := idLines(t, c); got != want {
					t.Errorf("%v became %q, want %q", u, got, want)
				}
			}
			groups := make([]string, len(spec.Groups))
			for i, g := range spec.Groups {
				groups[i] = fmt.Sprint(g)
			}
			want := [3]string{"0 0 0 0", "0 0 0 0", strings.Join(groups, " ")}
			if got := idLines(t, target.Command("status")); got != want {
				t.Errorf("as init: %q, want %q", got, want)
			}
		})
	}
}

// The caller's own groups never go in, whatever they are.
func TestCallersGroupsStayOutside(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	containers := []*throwaway.Container{
		testutil.Throwaway(t, throwaway.Spec{Groups: []int{4}}), testutil.Throwaway(t, throwaway.Spec{User: true, Groups: []int{4}}),
		testutil.Throwaway(t, throwaway.Spec{User: true, DenySetgroups: true}),
	}
	own, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Setgroups(own); err != nil {
			t.Error(err)
		}
	})
	if err := syscall.Setgroups([]int{4711, 4712}); err != nil {
		t.Fatal(err)
	}
	for i, container := range containers {
		target := hold(t, container)
		init := stateOf(t, container.Pid()).Groups
		for _, u := range []*User{nil, {}, {UID: 1000, GID: 1000}} {
			_, pid := sleeper(t, target, func(c *Cmd) { c.User = u })
			want := init
			if u != nil {
				want = nil
			}
			if got := stateOf(t, pid).Groups; !slices.Equal(got, want) {
				t.Errorf("container %d, user %v: groups %v, want %v", i, u, got, want)
			}
		}
	}
}
