// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
)

// A14: a number is a number, nothing else is, and none is cut. A UID alone has
// group 0, as in docker where the image's passwd does not know the number; that
// the target's passwd is asked comes with names.
func TestParseUser(t *testing.T) {
	tests := []struct {
		text string
		want *User // nil: refused
	}{
		{"0", &User{0, 0}}, {"1", &User{1, 0}}, {"1000", &User{1000, 0}}, {"4294967294", &User{4294967294, 0}},
		{"1:2", &User{1, 2}}, {"0:0", &User{0, 0}}, {"1:4294967294", &User{1, 4294967294}},
		{"-1", nil}, {"4294967295", nil}, {"4294967296", nil}, {"18446744073709551616", nil}, {"1:4294967295", nil}, {"4294967295:1", nil},
		{"01", nil}, {"+1", nil}, {" 1", nil}, {"1 ", nil}, {"1\n", nil}, {"1e3", nil}, {"0x1", nil}, {"1_0", nil}, {"1.0", nil}, {"１", nil},
		{"", nil}, {":", nil}, {"1:", nil}, {":1", nil}, {"1:2:3", nil}, {"1::2", nil}, {"1:02", nil}, {"1: 2", nil}, {"1:-1", nil},
		{"root", nil}, {"root:root", nil}, {"1:root", nil}, {"1\x00", nil}, {"-u", nil},
	}
	for _, test := range tests {
		got, err := ParseUser(test.text)
		switch {
		case test.want != nil && (err != nil || got != *test.want):
			t.Errorf("%q: %v, %v, want %v", test.text, got, err, *test.want)
		case test.want == nil && (!errors.Is(err, ErrInvalid) || got != User{} || Hint(err) == ""):
			t.Errorf("%q: %v, %v, hint %q, want ErrInvalid with a hint", test.text, got, err, Hint(err))
		case test.want == nil && !strings.Contains(err.Error(), strconv.Quote(test.text)):
			t.Errorf("%q: %v does not name it", test.text, err)
		}
	}
}

// FuzzParseUser: what is read is what was written, in the one way to write it.
func FuzzParseUser(f *testing.F) {
	for _, seed := range []string{"0", "1:2", "4294967295", "01", "1:", "", "root"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, err := ParseUser(text)
		if err != nil {
			if !errors.Is(err, ErrInvalid) || u != (User{}) {
				t.Errorf("%q: %v, %v", text, u, err)
			}
			return
		}
		if u.UID == noID || u.GID == noID {
			t.Errorf("%q is %v", text, u)
		}
		if text != fmt.Sprint(u.UID) && text != fmt.Sprintf("%d:%d", u.UID, u.GID) {
			t.Errorf("%q was read as %v", text, u)
		}
	})
}

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
			for _, u := range []User{{0, 0}, {1, 0}, {1000, 1001}, {65534, 5}} {
				c := target.Command("status")
				c.User = &u
				want := [3]string{strings.TrimSpace(strings.Repeat(fmt.Sprint(u.UID, " "), 4)), strings.TrimSpace(strings.Repeat(fmt.Sprint(u.GID, " "), 4)), ""}
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
		for _, u := range []*User{nil, {0, 0}, {1000, 1000}} {
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
