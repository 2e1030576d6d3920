// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/procfs"
)

// ErrShared is a group that holds others as well.
var ErrShared = errors.New("the group holds others as well")

// Whole returns the innermost group that holds all of a container's processes, if
// it holds nobody else: of the unified hierarchy, or else of the freezer of
// version 1. members are its processes by number, with their groups; is tells of
// one that is not among them, since it was born meanwhile. mounts is asked where
// the freezer is not where it usually is.
//
// ErrShared says that there is none: one would freeze others, the host's at
// worst.
func Whole(members map[int][]procfs.Group, is func(pid int) bool, mounts func() []procfs.Mount) (Freezer, error) {
	in := func(pid int) bool { return members[pid] != nil || is(pid) }
	var errs []error
	if p := common(members, func(g procfs.Group) bool { return g.Hierarchy == 0 }); p != "" {
		tree, err := OpenTree()
		if err == nil {
			defer tree.Close()
			err = alone(tree.root, p, in)
		}
		if err == nil {
			return Freezer{Path: p}, nil
		}
		errs = append(errs, err)
	}
	freezer := func(g procfs.Group) bool { return slices.Contains(strings.Split(g.Controllers, ","), "freezer") }
	if p := common(members, freezer); p != "" {
		root, err := openFreezer(mounts)
		if err == nil {
			defer root.Close()
			err = alone(root, p, in)
		}
		if err == nil {
			return Freezer{Path: p, V1: true}, nil
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		errs = append(errs, fmt.Errorf("%w: its processes are in the root group", ErrShared))
	}
	return Freezer{}, errors.Join(errs...)
}

// common is the deepest group that all are in or below; "" where that is the
// root, or not known.
func common(members map[int][]procfs.Group, of func(procfs.Group) bool) string {
	at := ""
	for _, groups := range members {
		i := slices.IndexFunc(groups, of)
		if i < 0 || strings.HasPrefix(groups[i].Path+"/", "/../") {
			return ""
		}
		if at == "" {
			at = groups[i].Path
		}
		for !strings.HasPrefix(groups[i].Path+"/", strings.TrimSuffix(at, "/")+"/") {
			at = path.Dir(at)
		}
	}
	if at == "/" {
		return ""
	}
	return at
}

// alone returns nil where nobody is in a group, or below, but members.
func alone(root *os.File, p string, in func(pid int) bool) error {
	dir, err := openat(root, "."+p, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer dir.Close()
	left := maxGroups
	n, err := others(dir, in, &left)
	if err == nil && n > 0 {
		err = fmt.Errorf("%w: cgroup %s: %d processes that are not the container's", ErrShared, p, n)
	}
	return err
}

// maxGroups is how many groups of a container are looked at.
const maxGroups = 10000

// others counts the processes in and below a group that are no members. One that
// has no number here (0) is none.
func others(dir *os.File, in func(pid int) bool, left *int) (n int, err error) {
	if *left--; *left < 0 {
		return 0, fmt.Errorf("%w: more than %d groups", ErrShared, maxGroups)
	}
	procs, err := openat(dir, "cgroup.procs", unix.O_RDONLY)
	if err != nil {
		return 0, err
	}
	b, err := io.ReadAll(io.LimitReader(procs, procfs.MaxFile))
	procs.Close()
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		pid, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil || pid == 0 || !in(pid) {
			n++
		}
	}
	entries, err := dir.ReadDir(-1)
	for _, e := range entries {
		if err != nil || !e.IsDir() {
			continue
		}
		var sub *os.File
		if sub, err = openat(dir, e.Name(), unix.O_RDONLY|unix.O_DIRECTORY); errors.Is(err, unix.ENOENT) {
			err = nil
			continue
		} else if err == nil {
			var m int
			m, err = others(sub, in, left)
			n += m
			sub.Close()
		}
	}
	return n, err
}

// freezeBudget is how long Freeze waits until all have stopped.
const freezeBudget = 2 * time.Second

// Freeze freezes all in a group and below. Where they do not all stop in time,
// because some wait in the kernel, the group is thawed again, and it is EBUSY.
func (f Freezer) Freeze(mounts func() []procfs.Mount) error {
	root, done, err := f.tell(mounts, "1", "FROZEN")
	if err != nil {
		return err
	}
	defer root.Close()
	for until := time.Now().Add(freezeBudget); time.Now().Before(until); time.Sleep(time.Millisecond) {
		if ok, err := done(); err != nil || ok {
			return err
		}
	}
	return errors.Join(&os.PathError{Op: "freeze", Path: f.Path, Err: unix.EBUSY}, f.thaw(mounts))
}

// tell writes a word to a group, that of its version, and returns what asks
// whether it has come about. The root is the caller's to close.
func (f Freezer) tell(mounts func() []procfs.Mount, v2, v1 string) (root *os.File, done func() (bool, error), err error) {
	file, word, state, want := "cgroup.freeze", v2, "cgroup.events", "frozen "+v2
	if f.V1 {
		root, err = openFreezer(mounts)
		file, word, state, want = "freezer.state", v1, "freezer.state", v1
	} else {
		var tree *Tree
		if tree, err = OpenTree(); err == nil {
			root = tree.root
		}
	}
	if err != nil {
		return nil, nil, err
	}
	w, err := openat(root, "."+f.Path+"/"+file, unix.O_WRONLY)
	if err == nil {
		_, err = w.WriteString(word)
		err = errors.Join(err, w.Close())
	}
	if err != nil {
		root.Close()
		return nil, nil, err
	}
	return root, func() (bool, error) {
		said, err := readGroup(root, f.Path, state)
		return slices.Contains(strings.Split(said, "\n"), want), err
	}, nil
}
