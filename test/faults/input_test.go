// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/outband/outband"
	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/test/cve/rig"
)

// long is longer than any name, and shorter than what execve(2) takes (128 KiB).
const long = 100_000

// inputs are command lines of enter, with PID for the container's number.
var inputs = map[string][]string{
	"name empty":         {"", "true"},
	"name dot":           {".", "true"},
	"name dots":          {"..", "true"},
	"name up":            {"../web", "true"},
	"name dash":          {"--", "-oProxyCommand=x", "true"},
	"name slash":         {"a/b", "true"},
	"name line feed":     {"a\nb", "true"},
	"name escape":        {"a\x1b[2Jb", "true"},
	"name no UTF-8":      {"a\xffb", "true"},
	"name right to left": {"web\u202etxt", "true"},
	"name 4 KiB":         {strings.Repeat("a", 4096), "true"},
	"name 100000":        {strings.Repeat("a", long), "true"},
	"path 100000":        {"/" + strings.Repeat("a/", long/2), "true"},
	"number 100000":      {strings.Repeat("9", long), "true"},
	"cgroup 100000":      {"cgroup:/" + strings.Repeat("a", long), "true"},
	"engine escape":      {"\x1b[2J:web", "true"},
	"user -1":            {"PID", "-u", "-1", "true"},
	"user 2^32-1":        {"PID", "-u", "4294967295", "true"},
	"user 1e3":           {"PID", "-u", "1e3", "true"},
	"user +1":            {"PID", "-u", "+1", "true"},
	"user 01":            {"PID", "-u", "01", "true"},
	"user blank":         {"PID", "-u", " 1", "true"},
	"user three":         {"PID", "-u", "1:2:3", "true"},
	"user half":          {"PID", "-u", "1:", "true"},
	"user unmapped":      {"PID", "-u", "3000000000", "true"},
	"user escape":        {"PID", "-u", "\x1b[2J", "true"},
	"user 100000":        {"PID", "-u", strings.Repeat("1", long), "true"},
	"environment name":   {"PID", "-e", "=x", "true"},
	"environment lines":  {"PID", "-e", "A\nB=x", "true"},
	"environment 100000": {"PID", "--env-file", strings.Repeat("a", long), "true"},
	"directory 100000":   {"PID", "-w", strings.Repeat("/a", long/2), "true"},
	"directory missing":  {"PID", "-w", "/\x1b[2J\n", "true"},
	"directory relative": {"PID", "-w", "no/such", "true"},
	"directory a file":   {"PID", "-w", "/bin/sleep", "true"},
	"flag escape":        {"PID", "--\x1b[2J", "true"},
	"kinds 100000":       {"PID", "--only", strings.Repeat("p", long), "true"},
}

// TestInput gives the tool what is no name, user, variable or directory. None
// of it begins a session.
func TestInput(t *testing.T) {
	begin(t)
	tool := rig.Build(t)
	c := testutil.Throwaway(t, throwaway.Spec{User: true}) // most numbers of users are not mapped
	for name, args := range inputs {
		t.Run(name, func(t *testing.T) {
			line := []string{"enter"}
			for _, arg := range args {
				if arg == "PID" {
					arg = fmt.Sprint(c.Pid())
				}
				line = append(line, arg)
			}
			refused(t, tool.Run(line...))
			nothingLeft(t, tool, c)
		})
	}
}

// TestHugeEnvironment asks for 2 MiB of variables, more than a command can be
// given.
func TestHugeEnvironment(t *testing.T) {
	begin(t)
	tool, c := rig.Build(t), box(t)
	path := filepath.Join(t.TempDir(), "variables")
	var text strings.Builder
	for i := range 2048 {
		fmt.Fprintf(&text, "V%d=%s\n", i, strings.Repeat("x", 1024))
	}
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	// 126, as shells have it where execve(2) says E2BIG.
	r := tool.Run("enter", fmt.Sprint(c.Pid()), "--env-file", path, "true")
	if r.Code != 126 || !strings.HasSuffix(r.Err, "argument list too long\n") || strings.Count(r.Err, "\n") != 1 {
		t.Errorf("code %d: %.300q", r.Code, r.Err)
	}
	nothingLeft(t, tool, c)
}

// TestNUL gives the library what a command line cannot hold. Handed on, a NUL
// would cut a string short.
func TestNUL(t *testing.T) {
	begin(t)
	c := box(t)
	target, err := outband.Open(t.Context(), fmt.Sprint(c.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	for name, change := range map[string]func(*outband.Cmd){
		"command":     func(cmd *outband.Cmd) { cmd.Args[0] = "true\x00x" },
		"argument":    func(cmd *outband.Cmd) { cmd.Args = append(cmd.Args, "\x00") },
		"environment": func(cmd *outband.Cmd) { cmd.Env = []string{"A=\x00"} },
		"directory":   func(cmd *outband.Cmd) { cmd.Dir = "/\x00/etc" },
	} {
		cmd := target.Command("true")
		change(cmd)
		if err := cmd.Start(); !errors.Is(err, outband.ErrInvalid) || !strings.Contains(err.Error(), "NUL") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := outband.Open(t.Context(), "web\x00"); !errors.Is(err, outband.ErrInvalid) {
		t.Errorf("name: %v", err)
	}
	if n := inside(c); len(n) != 0 {
		t.Errorf("processes %v are inside", n)
	}
}
