// SPDX-License-Identifier: Apache-2.0

// Package cgroup places a session in the cgroups of its target and keeps it
// together in one of its own (cgroups(7)).
//
// A session is tracked in the unified hierarchy (version 2), which ends a whole
// group at once; groups of version 1 are joined for accounting only.
package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/sys"
)

// Tree is the unified hierarchy, from the root of one's own cgroup namespace.
type Tree struct{ root *os.File }

// places where the unified hierarchy is found on nearly every machine.
var places = [...]string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}

// OpenTree finds the unified hierarchy where it is usually mounted, else
// makes a mount of it that is attached nowhere (fsopen(2), 5.2, needs
// CAP_SYS_ADMIN).
func OpenTree() (*Tree, error) {
	for _, place := range places {
		root, err := sys.Open(place, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			continue
		}
		if kind(root) == unix.CGROUP2_SUPER_MAGIC {
			return &Tree{root}, nil
		}
		root.Close()
	}
	return detached()
}

// kind returns the type of the file system that f is on.
func kind(f *os.File) int64 {
	var fs unix.Statfs_t
	_ = sys.Control(f, func(fd int) { _ = unix.Fstatfs(fd, &fs) })
	return int64(fs.Type)
}

func detached() (*Tree, error) {
	fs, err := unix.Fsopen("cgroup2", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("fsopen cgroup2", err)
	}
	defer unix.Close(fs)
	// A new mount sets the options of the one hierarchy, the machine's: without
	// those that it has, nsdelegate say, they would be taken from it.
	for _, option := range treeOptions("/proc/self/mountinfo", "/proc/1/mountinfo") {
		if err := unix.FsconfigSetFlag(fs, option); err != nil {
			return nil, os.NewSyscallError("fsconfig cgroup2 "+option, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, os.NewSyscallError("fsconfig cgroup2", err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fsmount cgroup2", err)
	}
	mount := os.NewFile(uintptr(fd), "cgroup2")
	defer mount.Close()
	root, err := openat(mount, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	return &Tree{root}, nil
}

// treeOptions are those of the unified hierarchy, as the first of some files of
// mounts that has a mount of it shows them.
func treeOptions(files ...string) []string {
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // another's, say
		}
		for _, m := range procfs.ParseMounts(b) {
			if m.Type == "cgroup2" {
				return slices.DeleteFunc(m.SuperOptions, func(o string) bool { return o == "rw" || o == "ro" })
			}
		}
	}
	return nil
}

// CanKill tells whether the kernel can end a group at once (cgroup.kill, 5.14,
// which the root group does not have).
func (t *Tree) CanKill() bool {
	major, minor := sys.Release()
	return major > 5 || major == 5 && minor >= 14
}

// Close releases the tree.
func (t *Tree) Close() error { return t.root.Close() }

// Unified returns the path in the unified hierarchy; "" if there is none or it
// lies outside of the reader's cgroup namespace.
func Unified(groups []procfs.Group) string {
	for _, g := range groups {
		if g.Hierarchy == 0 && !strings.HasPrefix(g.Path+"/", "/../") {
			return g.Path
		}
	}
	return ""
}

// open opens the directory of a group.
//
// A38 (docs/threat-model.md): the path comes from a container, so it is looked
// up beneath the root, without links and without leaving the file system.
func (t *Tree) open(path string) (*os.File, error) {
	return openat(t.root, "."+path, unix.O_RDONLY|unix.O_DIRECTORY)
}

func openat(dir *os.File, path string, flags int) (*os.File, error) {
	const resolve = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS
	var fd int
	var errno error
	err := sys.Control(dir, func(at int) {
		fd, errno = unix.Openat2(at, path, &unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: resolve})
	})
	if err = errors.Join(err, errno); err != nil {
		return nil, &os.PathError{Op: "open", Path: filepath.Join(dir.Name(), path), Err: err}
	}
	return os.NewFile(uintptr(fd), filepath.Join(dir.Name(), path)), nil
}

// Together tells whether two processes are in the same group of the unified
// hierarchy; that is so where there is no such hierarchy.
func Together(a, b []procfs.Group) bool {
	path := func(groups []procfs.Group) string {
		for _, g := range groups {
			if g.Hierarchy == 0 {
				return g.Path
			}
		}
		return ""
	}
	return path(a) == path(b)
}

// OpenProcs opens the cgroup.procs file of a group. Writing "0" there moves the
// writing process.
func (t *Tree) OpenProcs(path string) (*os.File, error) {
	if path == "" {
		return nil, errors.New("the group is outside of one's own cgroup namespace")
	}
	return openat(t.root, "."+path+"/cgroup.procs", unix.O_WRONLY)
}

// Elsewhere returns the version 1 groups of target in which self is not.
func Elsewhere(target, self []procfs.Group) []procfs.Group {
	own := map[string]string{}
	for _, g := range self {
		own[g.Controllers] = g.Path
	}
	return slices.DeleteFunc(slices.Clone(target), func(g procfs.Group) bool {
		return g.Hierarchy == 0 || own[g.Controllers] == g.Path
	})
}

// OpenTasks opens the tasks files of version 1 groups. Writing "0" there moves
// the writing thread, without the lock that moving a process by its number
// waits for. A group whose hierarchy is not mounted here is an error.
func OpenTasks(groups []procfs.Group, mounts []procfs.Mount) ([]*os.File, error) {
	var files []*os.File
	for _, g := range groups {
		f, err := openTasks(g, mounts)
		if err != nil {
			for _, f := range files {
				f.Close()
			}
			return nil, fmt.Errorf("cgroup %s:%s: %w", g.Controllers, g.Path, err)
		}
		files = append(files, f)
	}
	return files, nil
}

// openTasks opens the tasks file of one group of version 1.
func openTasks(g procfs.Group, mounts []procfs.Mount) (*os.File, error) {
	for _, m := range mounts {
		if m.Type != "cgroup" || m.Root != "/" || !carries(m, g.Controllers) {
			continue
		}
		root, err := sys.Open(m.Point, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return nil, err
		}
		defer root.Close()
		return openat(root, "."+g.Path+"/tasks", unix.O_WRONLY)
	}
	return nil, errors.New("the hierarchy is not mounted")
}

// carries tells whether m is the mount of the hierarchy with these controllers.
func carries(m procfs.Mount, controllers string) bool {
	for c := range strings.SplitSeq(controllers, ",") {
		if !slices.Contains(m.SuperOptions, c) {
			return false
		}
	}
	return true
}
