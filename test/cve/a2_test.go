// SPDX-License-Identifier: Apache-2.0

package cve

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/test/cve/rig"
)

// TestA2 looks from the host at what a helper has open, at every system call
// after it has joined, of a caller that has the host's root open many times.
func TestA2(t *testing.T) {
	begin(t)
	spec := throwaway.Spec{}
	if group := rig.Group(t); group != "" { // the session's own is below it
		spec.Cgroups = []string{group}
	}
	c := testutil.Throwaway(t, spec)
	if found := hostFiles(t, rig.Build(t, rig.Stops()...), c.Pid()); len(found) > 0 {
		t.Errorf("open in a helper: %q", found)
	}
	mutant := rig.Build(t, append(rig.Stops(), keepGroupFiles()...)...)
	if found := hostFiles(t, mutant, c.Pid()); len(found) == 0 {
		t.Error("the mutant has nothing open either: the look is none")
	}
}

// hostFiles enters once and lists what helpers in the container have open that
// is of the host.
func hostFiles(t *testing.T, tool *rig.Tool, pid int) (found []string) {
	t.Helper()
	cmd := rig.Stop(tool.Command(tool.Args("enter", "-n", fmt.Sprint(pid), "true")...), rig.StopAll)
	cmd.ExtraFiles = leaked(t)
	inside, looks := link(pid, "ns/mnt"), 0
	r := tool.StartCommand(cmd).EachStop(func(p *rig.Process) {
		if link(p.PID, "ns/mnt") != inside {
			return
		}
		looks++
		for fd, what := range rig.Descriptors(p.PID) {
			if !strings.HasPrefix(what, "pipe:") && !strings.HasPrefix(what, "socket:") &&
				what != "anon_inode:[pidfd]" && !sameFileSystem(pid, fmt.Sprintf("/proc/%d/fd/%d", p.PID, fd)) {
				found = append(found, fmt.Sprintf("%d: %s", fd, what))
			}
		}
	})
	const least = 20
	if r.Code != 0 || r.Hung || looks < least {
		t.Fatalf("looked %d times, %+v", looks, r)
	}
	return found
}

// leaked are descriptors 3 to 40 of a child, all of the host's root, that stay
// open through exec.
func leaked(t testing.TB) []*os.File {
	t.Helper()
	root, err := os.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	files := make([]*os.File, 38)
	for i := range files {
		files[i] = root
	}
	return files
}

// link is what a link in a process's directory says.
func link(pid int, name string) string {
	text, _ := os.Readlink(fmt.Sprintf("/proc/%d/%s", pid, name)) // gone is ""
	return text
}

// sameFileSystem tells whether a path leads to the file system of a
// container's root.
func sameFileSystem(pid int, path string) bool {
	var root, st unix.Stat_t
	return unix.Stat(fmt.Sprintf("/proc/%d/root", pid), &root) == nil && unix.Stat(path, &st) == nil && st.Dev == root.Dev
}
