// SPDX-License-Identifier: Apache-2.0

package cve

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/test/cve/rig"
)

// strangers are groups of the caller that nobody inside may have.
var strangers = &syscall.Credential{Groups: []uint32{4242, 4343}}

// as enters as a user and returns the lines of status that say who one is.
func as(t *testing.T, tool *rig.Tool, pid int, user string) (rig.Result, string) {
	t.Helper()
	cmd := tool.Command(tool.Args("enter", "-n", fmt.Sprint(pid), "--user="+user, "status")...)
	cmd.SysProcAttr.Credential = strangers
	r := tool.RunCommand(cmd)
	return r, fmt.Sprintf("%s; %s; %s", rig.Field(r.Out, "Uid"), rig.Field(r.Out, "Gid"), rig.Field(r.Out, "Groups"))
}

// TestA14 has strings that are no user's number, and those that are.
func TestA14(t *testing.T) {
	begin(t)
	c := testutil.Throwaway(t, throwaway.Spec{User: true})
	tables(t, c.Pid())
	tool := rig.Build(t)
	for user, want := range map[string]string{
		"0": "0 0 0 0; 0 0 0 0; ", "7": "7 7 7 7; 0 0 0 0; ", "1:2": "1 1 1 1; 2 2 2 2; ",
		"1000": "1000 1000 1000 1000; 0 0 0 0; ", "web": "9 9 9 9; 8 8 8 8; 4 6", "9": "9 9 9 9; 8 8 8 8; 4 6",
		"web:adm": "9 9 9 9; 4 4 4 4; ", "9:4": "9 9 9 9; 4 4 4 4; ", "1000:13": "1000 1000 1000 1000; 13 13 13 13; ", "twice": "5 5 5 5; 5 5 5 5; ",
	} {
		if r, got := as(t, tool, c.Pid(), user); r.Code != 0 || got != want {
			t.Errorf("%q is %q, not %q: %+v", user, got, want, r)
		}
	}
	for _, user := range wrongUsers() {
		if r, _ := as(t, tool, c.Pid(), user); r.Code != 125 || r.Out != "" || !strings.Contains(r.Err, "user") && !strings.Contains(r.Err, "group") {
			t.Errorf("%q: %+v", user, r)
		}
	}
}

// tables gives a container users and groups, some of which are none.
func tables(t *testing.T, pid int) {
	t.Helper()
	const users = "root:x:0:0::/:/bin/sh\n1000:x:0:0:a number for a name:/:/bin/sh\nweb:x:9:8::/:/bin/sh\n" +
		"minus:x:-1:0::/:/bin/sh\nnobodyis:x:4294967295:0::/:/bin/sh\noctal:x:010:0::/:/bin/sh\ntwice:x:5:5::/:/bin/sh\ntwice:x:0:0::/:/bin/sh\n" +
		"esc\x1b[2J:x:0:0::/:/bin/sh\nbad\xff:x:0:0::/:/bin/sh\nnul\x00:x:0:0::/:/bin/sh\nfar:x:70000:0::/:/bin/sh\n"
	const groups = "adm:x:4:web\nfar:x:70000:web\ndisk:x:6:web\n13:x:0:web2\nminus:x:-1:web\n"
	for name, text := range map[string]string{"passwd": users + strings.Repeat("x", 900<<10) + "\n", "group": groups} {
		if err := os.WriteFile(rootPath(pid, "/etc/"+name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// wrongUsers are what a library function somewhere reads as a number.
func wrongUsers() []string {
	return []string{
		"-1", "-0", "4294967295", "4294967296", "18446744073709551615", "1:4294967295", "01", "+1", " 1", "1 ", "1\n",
		"1:2:3", "1:", ":1", ":", "0x1", "1e3", "1_0", "１", "65536", "1:65536",
		"minus", "nobodyis", "octal", "esc\x1b[2J", "bad\xff", "nul", "far", "nobody", "Web", "web ", "web:", "web:minus", "web:far", "web:13:", "-web",
	}
}

// TestA14Mutants: without the check of its form a number is what the kernel
// takes for "as it is"; and without setting them the caller's groups stay.
func TestA14Mutants(t *testing.T) {
	begin(t)
	c := testutil.Throwaway(t, throwaway.Spec{})
	lax := rig.Build(t, rig.Change{File: "internal/passwd/passwd.go", Old: "err == nil && n != noID && strconv.FormatUint(n, 10) == s", New: "err == nil"},
		rig.Change{File: "identity.go", Old: "if u.UID == noID || u.GID == noID {", New: "if false {"})
	names := rig.Build(t, rig.Change{File: "internal/passwd/passwd.go", Old: "return !digits", New: "return true"},
		rig.Change{File: "users.go", Old: "entry, known := passwd.ByID(users, u.uid)\n\tif !u.byID {",
			New: "entry, known := passwd.ByName(users, u.user)\n\tif known {\n\t\tu.uid = entry.UID\n\t} else if !u.byID {"})
	tables(t, c.Pid())
	if r, got := as(t, names, c.Pid(), "1000"); !strings.HasPrefix(got, "0 0 0 0") {
		t.Errorf("the mutant takes no number for a name: %q, %+v", got, r)
	}
	for user, id := range map[string]string{"4294967295": "0 0 0 0", "007": "7 7 7 7"} {
		if r, got := as(t, lax, c.Pid(), user); r.Code != 0 || !strings.HasPrefix(got, id) {
			t.Errorf("the mutant refuses %q as well: %q, %+v", user, got, r)
		}
	}
	stay := rig.Build(t, rig.Change{File: "internal/forkexec/joiner.go", Old: "if id.SetGroups {", New: "if false {"})
	if _, got := as(t, stay, c.Pid(), "7"); !strings.Contains(got, "4242") {
		t.Errorf("the mutant has no groups of the caller's either: %q", got)
	}
}
