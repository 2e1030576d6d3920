// SPDX-License-Identifier: Apache-2.0

package cve

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/test/cve/rig"
)

// TestA38 enters containers in cgroups whose names are hard to read, of both
// versions where there are both, and one whose init has moved on: the session's
// cgroup is below init's own.
func TestA38(t *testing.T) {
	begin(t)
	group := sessionGroup(t, true)
	fence := testutil.FencedCgroup(t, 100, 256<<20)
	tool := rig.Build(t)
	for what, name := range map[string]string{
		"escape": "a\x1b[31mb", "blanks": " a b\t", "colons": "a:b:c", "octal": `\040\134`, "dots": "...",
		"deleted": "a (deleted)", "not UTF-8": "\xff\xfe",
	} {
		t.Run(what, func(t *testing.T) {
			spec := throwaway.Spec{Workers: [][]string{{"sleep", "infinity"}}}
			for _, dir := range append(fence.Dirs, group) {
				dir = filepath.Join(dir, name)
				if err := os.Mkdir(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				spec.Cgroups = append(spec.Cgroups, dir)
			}
			c := testutil.Throwaway(t, spec)
			below(t, tool, c.Pid())
			if r := tool.Run("enter", fmt.Sprint(c.Pid()), "--explain"); r.Code != 0 || strings.ContainsAny(r.Out+r.Err, "\x1b\t\xff") {
				t.Errorf("%+v", r)
			}
			leaf := filepath.Join(group, name, "leaf \x1b")
			procs := filepath.Join(leaf, "cgroup.procs")
			if err := errors.Join(os.Mkdir(leaf, 0o755), os.WriteFile(procs, fmt.Append(nil, c.Pid()), 0)); err != nil {
				t.Fatal(err)
			}
			below(t, tool, c.Pid())
		})
	}
	c := testutil.Throwaway(t, throwaway.Spec{Cgroups: []string{group}})
	astray := rig.Build(t, rig.Off("placement.go", "\tpath := cgroup.Unified(c.target.groups)\n"),
		rig.Change{File: "placement.go", Old: "\tif !plan.inTarget {\n\t\tpath = ", New: "\tpath := \"/\"\n\tif !plan.inTarget {\n\t\tpath = "})
	if got, init := during(t, astray, c.Pid()); got == init {
		t.Error("the mutant, whose sessions are below the root, is where init is: the look is none")
	}
}

// below enters and compares cgroups, line by line: init's own, and a session's
// below it in the unified hierarchy.
func below(t *testing.T, tool *rig.Tool, pid int) {
	t.Helper()
	if got, init := during(t, tool, pid); got != init || init == "" {
		t.Errorf("the command is in %q, init in %q", got, init)
	}
}

// during returns the cgroups of a command and of init.
func during(t *testing.T, tool *rig.Tool, pid int) (command, init string) {
	t.Helper()
	s := tool.Start("enter", "-n", fmt.Sprint(pid), "sleep", "infinity")
	visitor := s.Visitor("sleep")
	command, init = cgroupsOf(visitor.PID), cgroupsOf(pid)
	visitor.Signal(unix.SIGKILL)
	if r := s.Wait(); r.Code != 137 || r.Err != "" {
		t.Errorf("%+v", r)
	}
	return command, init
}

// cgroupsOf are a process's cgroups, without the name of a session's.
func cgroupsOf(pid int) string {
	text := content(fmt.Sprintf("/proc/%d/cgroup", pid))
	if own := strings.LastIndex(text, "/outband-"); own >= 0 && strings.Count(text[own:], "\n") == 1 && strings.Contains(text, "\n0::") {
		return text[:own] + "\n"
	}
	return text
}

// anyPath takes the rules away by which paths of cgroups are looked up.
func anyPath() rig.Change {
	return rig.Change{File: "internal/cgroup/cgroup.go", New: "const resolve = 0",
		Old: "const resolve = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS"}
}

// TestA38Outside has a container whose path, joined to the hierarchy, is that
// of a decoy: one that starts with "..", since it is outside of the caller's
// cgroup namespace, and one that something is mounted on. Whoever joins it
// writes to the decoy.
func TestA38Outside(t *testing.T) {
	if rig.Nest(t) {
		return
	}
	// The mounts, and thereby decoys, are this test's own.
	const sys = "/sys/fs"
	if err := errors.Join(unix.Mount("tmpfs", sys, "tmpfs", 0, ""), os.Mkdir(sys+"/cgroup", 0o755),
		unix.Mount("cgroup2", sys+"/cgroup", "cgroup2", 0, "")); err != nil {
		t.Fatal(err)
	}
	begin(t)
	group := rig.Group(t)
	own, other := filepath.Join(group, "own"), filepath.Join(group, "other")
	for _, dir := range []string{own, other, sys + "/other"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c := testutil.Throwaway(t, throwaway.Spec{Tree: throwaway.TreeHost, Cgroups: []string{other}})
	inNamespace := rig.Change{File: "internal/cgroup/cgroup.go", Old: ` && !strings.HasPrefix(g.Path+"/", "/../")`, New: ""}
	t.Run("outside", func(t *testing.T) {
		decoyed(t, sys+"/other", rig.Build(t, anyPath(), inNamespace), c.Pid(), rig.HostAttack("namespaced", own))
	})
	if err := unix.Mount(sys+"/other", other, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Run("mount point", func(t *testing.T) {
		decoyed(t, sys+"/other", rig.Build(t, anyPath()), c.Pid(), nil)
	})
	if err := unix.Unmount(other, 0); err != nil {
		t.Fatal(err)
	}
}

// decoyed enters by way of a program, with and without the defences, where the
// container's cgroup would be looked for in a decoy.
func decoyed(t *testing.T, dir string, mutant *rig.Tool, pid int, way []string) {
	t.Helper()
	procs := filepath.Join(dir, "cgroup.procs")
	enter := func(tool *rig.Tool) rig.Result {
		t.Helper()
		if err := os.WriteFile(procs, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		return tool.RunCommand(tool.Command(append(way, tool.Args("enter", "-n", fmt.Sprint(pid), "/bin/true")...)...))
	}
	if r := enter(rig.Build(t)); r.Code != 125 || !strings.Contains(r.Err, "cgroup") || content(procs) != "" {
		t.Errorf("%+v, written to the decoy: %q", r, content(procs))
	}
	if len(rig.Subgroups(dir)) > 0 {
		t.Errorf("made in the decoy: %q", rig.Subgroups(dir))
	}
	if r := enter(mutant); content(procs) != "0" {
		t.Errorf("the mutant leaves the decoy alone as well: %+v", r)
	}
	for _, name := range rig.Subgroups(dir) {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

// probe makes a build open groups of version 1 in a tree of its own: its first
// argument is the tree, others are paths. It prints where each of them leads.
func probe() rig.Change {
	return rig.Change{File: "cmd/outband/probe.go", New: `package main

import (
	"fmt"
	"os"

	"github.com/outband/outband/internal/cgroup"
	"github.com/outband/outband/internal/procfs"
)

func init() {
	mounts := []procfs.Mount{{Root: "/", Point: os.Args[1], Type: "cgroup", SuperOptions: []string{"rw", "pids"}}}
	for _, path := range os.Args[2:] {
		files, err := cgroup.OpenTasks([]procfs.Group{{Hierarchy: 1, Controllers: "pids", Path: path}}, mounts)
		if err != nil {
			fmt.Println("refused")
			continue
		}
		link, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", files[0].Fd()))
		fmt.Println(link, err)
	}
	os.Exit(0)
}
`}
}

// TestA38Links looks up paths in a tree as no container can make one: with
// links, which are the rule that remains if a file system ever allows them.
func TestA38Links(t *testing.T) {
	begin(t)
	dir := t.TempDir()
	tree, outside := filepath.Join(dir, "tree"), filepath.Join(dir, "outside")
	err := errors.Join(os.MkdirAll(tree+"/in/side", 0o755), os.Mkdir(outside, 0o755),
		os.Symlink("../outside", tree+"/link"), os.Symlink(outside, tree+"/absolute"), os.Symlink("in", tree+"/within"),
		os.Symlink("/proc/self/cwd", tree+"/magic"))
	for _, d := range []string{dir, outside, tree, tree + "/in", tree + "/in/side"} {
		err = errors.Join(err, os.WriteFile(d+"/tasks", nil, 0o644))
	}
	if err != nil {
		t.Fatal(err)
	}
	paths := []string{"/..", "/../outside", "/in/../../outside", "/link", "/link/..", "/absolute", "/within", "/magic"}
	look := func(changes ...rig.Change) []string {
		tool := rig.Build(t, append(changes, probe())...)
		cmd := tool.Command(append([]string{tool.Path, tree, "/in/side"}, paths...)...)
		cmd.Dir = outside
		return strings.Split(strings.TrimSpace(tool.RunCommand(cmd).Out), "\n")
	}
	inside := tree + "/in/side/tasks <nil>"
	if got, want := look(), append([]string{inside}, slices.Repeat([]string{"refused"}, len(paths))...); !slices.Equal(got, want) {
		t.Errorf("%q lead to %q", paths, got)
	}
	if got := look(anyPath()); slices.Contains(got, "refused") || len(got) != 1+len(paths) {
		t.Errorf("the mutant refuses some of %q as well: %q", paths, got)
	}
}

// attackNamespaced goes into a cgroup, makes it the root of a cgroup namespace
// and executes what follows.
func attackNamespaced(args []string) error {
	runtime.LockOSThread() // namespaces are a thread's
	if err := os.WriteFile(filepath.Join(args[0], "cgroup.procs"), []byte("0"), 0); err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return err
	}
	return unix.Exec(args[1], args[1:], os.Environ())
}
