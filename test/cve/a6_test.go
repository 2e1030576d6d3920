// SPDX-License-Identifier: Apache-2.0

package cve

import (
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/test/cve/rig"
)

// baits are what other programs load or read of whatever root they are in.
var baits = []string{
	"/etc/ld.so.preload", "/etc/ld.so.cache", "/etc/nsswitch.conf", "/etc/localtime", "/etc/locale.alias",
	"/lib/x86_64-linux-gnu/libnss_files.so.2", "/lib/libnss_files.so.2", "/usr/lib/libnss_compat.so.2",
	"/usr/share/zoneinfo/UTC", "/usr/lib/locale/locale-archive", "/etc/passwd", "/etc/group",
}

// TestA6 traces an entry into a container that is full of baits.
func TestA6(t *testing.T) {
	begin(t)
	strace := testutil.RequireCommand(t, "strace", "strace")
	c := testutil.Throwaway(t, throwaway.Spec{})
	for _, bait := range baits {
		path := rootPath(c.Pid(), bait)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("evil"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	calls, opened := openedInside(t, strace, rig.Build(t), c.Pid())
	if len(opened) > 0 || calls == 0 {
		t.Errorf("of %d files opened inside, of the container's own: %q", calls, opened)
	}
	const umask = "\tb.call(StepUmask, unix.SYS_UMASK, num(b.spec.Umask))\n"
	mutant := rig.Build(t, rig.Change{File: "internal/forkexec/joiner.go", Old: umask, New: umask +
		"\tb.call(StepUmask, unix.SYS_OPENAT, num(unix.AT_FDCWD), b.text(\"/etc/nsswitch.conf\"), num(0), num(0))\n"})
	if _, opened := openedInside(t, strace, mutant, c.Pid()); len(opened) == 0 {
		t.Error("a mutant that reads nsswitch.conf is not caught: the look is none")
	}
}

// TestA6Static looks into the program for what would make the kernel or a
// loader load something else along with it.
func TestA6Static(t *testing.T) {
	begin(t)
	if got := loads(t, rig.Build(t).Path); len(got) > 0 {
		t.Errorf("the program is loaded with %q", got)
	}
	if got := loads(t, testutil.RequireCommand(t, "strace", "strace")); len(got) == 0 {
		t.Error("a program that is not static looks like it: the look is none")
	}
}

// loads lists interpreter and libraries of a program.
func loads(t *testing.T, path string) []string {
	t.Helper()
	exe, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer exe.Close()
	found, _ := exe.ImportedLibraries() // none is no error
	for _, p := range exe.Progs {
		if p.Type == elf.PT_INTERP {
			found = append(found, "PT_INTERP")
		}
	}
	return found
}

var (
	callPattern = regexp.MustCompile(`^(\d+) +(\w+)\((.*)`)
	pathPattern = regexp.MustCompile(`"([^"]*)"`)
)

// openedInside enters under strace and returns how many files helpers open
// from the moment they have joined until they execute the command, and which of
// them are baits.
func openedInside(t *testing.T, strace string, tool *rig.Tool, pid int) (calls int, opened []string) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "log")
	trace := []string{strace, "-f", "-qq", "-o", log, "-e", "trace=open,openat,openat2,setns,clone3,execve"}
	r := tool.RunCommand(tool.Command(append(trace, tool.Args("enter", "-n", fmt.Sprint(pid), "true")...)...))
	if r.Code != 0 {
		t.Fatalf("%+v", r)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	inside := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		m := callPattern.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		who, call, rest := m[1], m[2], m[3]
		switch {
		case call == "setns":
			inside[who] = true
		case call == "clone3" && inside[who]:
			_, child, _ := strings.Cut(rest, " = ")
			inside[strings.TrimSpace(child)] = true
		case call == "execve":
			delete(inside, who)
		case inside[who]:
			calls++
			if path := pathPattern.FindStringSubmatch(rest); path != nil && isBait(path[1]) {
				opened = append(opened, path[1])
			}
		}
	}
	return calls, opened
}

// isBait tells whether a path is one of the baits, or of their kind.
func isBait(path string) bool {
	for _, bait := range baits {
		if path == bait {
			return true
		}
	}
	return strings.Contains(path, ".so") || strings.Contains(path, "zoneinfo") || strings.Contains(path, "locale")
}
