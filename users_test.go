// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/forkexec"
	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
)

// What a target's tables may say.
const (
	someUsers = `root:x:0:0::/root:/bin/ash
web:x:1000:1001::/srv/web:/bin/sh
nogroups:x:1002:1003:::
1000:x:0:0:a number for a name:/:/bin/sh
minus:x:-1:0::/:/bin/sh
big:x:70000:70000::/:/bin/sh
`
	someGroups = `root:x:0:
adm:x:4:web
big:x:70000:web
disk:x:6:other,web
1000:x:13:
minus:x:-1:web
`
)

// A14: digits are a number and no name, nothing else is a number, none is cut;
// and what the tables say counts for the rest.
func TestFindUser(t *testing.T) {
	web := []uint32{4, 70000, 6}
	for text, want := range map[string]User{
		"0":          {Name: "root", Home: "/root", Shell: "/bin/ash"},
		"root":       {Name: "root", Home: "/root", Shell: "/bin/ash"},
		"1":          {UID: 1},
		"4294967294": {UID: 4294967294},
		"1000":       {1000, 1001, web, "web", "/srv/web", "/bin/sh"}, // not the one that is called so
		"web":        {1000, 1001, web, "web", "/srv/web", "/bin/sh"},
		"web:4":      {1000, 4, nil, "web", "/srv/web", "/bin/sh"},
		"web:adm":    {1000, 4, nil, "web", "/srv/web", "/bin/sh"},
		"1000:adm":   {1000, 4, nil, "web", "/srv/web", "/bin/sh"},
		"1:disk":     {UID: 1, GID: 6},
		"1:1000":     {UID: 1, GID: 1000}, // not the group that is called so
		"nogroups":   {UID: 1002, GID: 1003, Name: "nogroups"},
		"70000":      {UID: 70000, GID: 70000, Name: "big", Home: "/", Shell: "/bin/sh"},
	} {
		if got, err := findUser(text, someUsers, someGroups); err != nil || !reflect.DeepEqual(*got, want) {
			t.Errorf("%q: %+v, %v, want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"-1", "-0", "4294967295", "4294967296", "18446744073709551616", "1:4294967295", "4294967295:1", "01", "+1", " 1", "1 ", "1\n", "1:2:3",
		"1::2", "1:", ":1", ":", "", "1:02", "1: 2", "1:-1", "1\x00", "-u", "１", "web:", "web:adm:x", "we b", "w\x1b[2J", "web/..", "#web", "+web",
		"minus", "nobody", "web:minus", "web:nobody", "1.0", "0x1", "1e3", "1_0",
	} {
		got, err := findUser(text, someUsers, someGroups)
		if !errors.Is(err, ErrInvalid) || got != nil || Hint(err) == "" {
			t.Errorf("%q: %+v, %v, hint %q", text, got, err, Hint(err))
		}
	}
}

// findUser is LookupUser in tables that are given.
func findUser(text, users, groups string) (*User, error) {
	spec, err := parseUser(text)
	if err != nil {
		return nil, err
	}
	return spec.find([]forkexec.Content{{Data: []byte(users)}, {Data: []byte(groups)}})
}

// A table that is missing knows nobody; one that cannot be read is an error,
// unless numbers say all.
func TestFindUserWithoutTables(t *testing.T) {
	for _, test := range []struct {
		text          string
		users, groups error
		refused       string
	}{
		{"7", unix.ENOENT, unix.ENOENT, ""}, {"7", unix.ENOTDIR, unix.ENOENT, ""}, {"7:8", unix.ENXIO, nil, ""}, {"7:8", unix.EACCES, nil, ""},
		{"web", unix.ENOENT, unix.ENOENT, "not in its /etc/passwd"}, {"7:adm", unix.ENOENT, unix.ENOENT, "not in its /etc/group"},
		{"7", unix.ENXIO, unix.ENOENT, "/etc/passwd is not a regular file"}, {"web", unix.EFBIG, unix.ENOENT, "/etc/passwd is not smaller"},
		{"7", unix.ENOENT, unix.ENXIO, "/etc/group is not a regular file"}, {"7", unix.EIO, nil, "input/output error"},
	} {
		spec, err := parseUser(test.text)
		if err != nil {
			t.Fatal(err)
		}
		got, err := spec.find([]forkexec.Content{{Err: test.users}, {Err: test.groups}})
		if test.refused == "" && (err != nil || got.UID != 7) || test.refused != "" && (err == nil || !strings.Contains(err.Error(), test.refused)) {
			t.Errorf("%s with %v, %v: %+v, %v", test.text, test.users, test.groups, got, err)
		}
	}
}

// FuzzParseUser: what is read is what was written, in the one way to write it.
func FuzzParseUser(f *testing.F) {
	for _, seed := range []string{"0", "1:2", "4294967295", "01", "1:", "", "root", "web:adm"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, err := parseUser(text)
		if err != nil {
			if !errors.Is(err, ErrInvalid) || !reflect.DeepEqual(u, userSpec{}) {
				t.Errorf("%q: %v, %v", text, u, err)
			}
			return
		}
		part := func(name string, id uint32, byID bool) string {
			if byID {
				return strconv.FormatUint(uint64(id), 10)
			}
			return name
		}
		want := part(u.user, u.uid, u.byID)
		if strings.Contains(text, ":") {
			want += ":" + part(u.group, u.gid, u.byGID)
		}
		if text != want || u.uid == noID || u.gid == noID {
			t.Errorf("%q was read as %+v", text, u)
		}
	})
}

// write puts files into a container.
func write(t *testing.T, pid int, files map[string]string) {
	t.Helper()
	for name, content := range files {
		if err := os.WriteFile(inRoot(pid, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func inRoot(pid int, name string) string {
	return filepath.Join(fmt.Sprintf("/proc/%d/root", pid), name)
}

// Users by name are those of the target, and the kernel is asked who the command
// is.
func TestLookupUser(t *testing.T) {
	testutil.NoLeaks(t)
	testutil.RequireRoot(t)
	for name, spec := range map[string]throwaway.Spec{"plain": {}, "user namespace": {User: true}, "groups denied": {User: true, DenySetgroups: true}} {
		t.Run(name, func(t *testing.T) {
			target := enter(t, spec)
			write(t, target.PID(), map[string]string{passwdFile: someUsers, groupFile: someGroups})
			c := target.Command("status")
			var err error
			if c.User, err = target.LookupUser(t.Context(), "web"); err != nil {
				t.Fatal(err)
			}
			want := [3]string{"1000 1000 1000 1000", "1001 1001 1001 1001", "4 6 70000"}
			switch {
			case spec.DenySetgroups:
				want[2] = ""
			case spec.User: // 70000 is not mapped
				want[2] = "4 6"
			}
			if got := idLines(t, c); got != want {
				t.Errorf("%q, want %q", got, want)
			}
			env := target.Command("env")
			env.User, env.Env = c.User, []string{"SHELL=/bin/mine"}
			lines := strings.Split(run(t, env), "\n")
			for _, want := range []string{"HOME=/srv/web", "USER=web", "LOGNAME=web", "SHELL=/bin/mine"} {
				if !slices.Contains(lines, want) {
					t.Errorf("no %s in %q", want, lines)
				}
			}
		})
	}
}

// The shell is that of the entered user, or of init's.
func TestShell(t *testing.T) {
	testutil.NoLeaks(t)
	both(t, func(t *testing.T) {
		container := testutil.Throwaway(t, throwaway.Spec{})
		target := hold(t, container)
		for content, want := range map[string]string{
			"root:x:0:0::/:/bin/mine\n": "/bin/mine", "root:x:0:0::/:\n": defaultShell, "root:x:0:0::/:sh\n": defaultShell, "": defaultShell,
		} {
			write(t, container.Pid(), map[string]string{passwdFile: content})
			if got, err := target.Shell(t.Context(), nil); err != nil || got != want {
				t.Errorf("%q: %q, %v", content, got, err)
			}
		}
		if err := os.Remove(inRoot(container.Pid(), passwdFile)); err != nil {
			t.Fatal(err)
		}
		if got, err := target.Shell(t.Context(), nil); err != nil || got != defaultShell {
			t.Errorf("without a passwd: %q, %v", got, err)
		}
		if got, err := target.Shell(t.Context(), &User{Shell: "/x"}); err != nil || got != "/x" {
			t.Errorf("of a user: %q, %v", got, err)
		}
	})
}

// Where a file system never answers, reading is given up, with a context at
// once, and after a few times not tried any more.
func TestLookupUserGivesUp(t *testing.T) {
	testutil.NoLeaks(t)
	target := enter(t, throwaway.Spec{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := target.LookupUser(ctx, "root"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	target.abandoned.Store(maxAbandoned)
	if _, err := target.LookupUser(t.Context(), "root"); !errors.Is(err, ErrDeadline) {
		t.Errorf("given up: %v", err)
	}
}
