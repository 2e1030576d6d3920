// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/sys"
)

// A Freezer is a group that is told to keep all below it frozen.
type Freezer struct {
	Path string // in its hierarchy
	V1   bool   // of the freezer of version 1, else of the unified hierarchy (5.2)
}

// Frozen returns the groups that keep a process in target frozen: its own and
// those above it that are told to, innermost first (A28, docs/threat-model.md).
// self are the groups of the caller, which are not frozen. mounts is asked where
// the freezer of version 1 is not where it usually is.
//
// What is told to freeze counts, not what is frozen already: who comes next
// freezes either way.
func Frozen(target, self []procfs.Group, mounts func() []procfs.Mount) []Freezer {
	var found []Freezer
	if p := Unified(target); p != "" && !Together(target, self) {
		if tree, err := OpenTree(); err == nil {
			found = append(found, told(tree.root, p, false)...)
			tree.Close()
		}
	}
	for _, g := range Elsewhere(target, self) {
		if !slices.Contains(strings.Split(g.Controllers, ","), "freezer") {
			continue
		}
		if root, err := openFreezer(mounts); err == nil {
			if state, _ := readGroup(root, g.Path, "freezer.state"); state != "THAWED" {
				found = append(found, told(root, g.Path, true)...)
			}
			root.Close()
		}
	}
	return found
}

// told returns the groups at and above p that are told to freeze.
func told(root *os.File, p string, v1 bool) (found []Freezer) {
	file := "cgroup.freeze"
	if v1 {
		file = "freezer.self_freezing"
	}
	for ; p != "/" && p != "." && !strings.HasPrefix(p, "/.."); p = path.Dir(p) {
		if said, _ := readGroup(root, p, file); said == "1" {
			found = append(found, Freezer{p, v1})
		}
	}
	return found
}

// readGroup reads a short file of a group, without the line feed.
func readGroup(root *os.File, p, file string) (string, error) {
	f, err := openat(root, "."+p+"/"+file, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer f.Close()
	const most = 4096
	b, err := io.ReadAll(io.LimitReader(f, most))
	return strings.TrimSuffix(string(b), "\n"), err
}

// usualFreezer is where the freezer of version 1 is mounted nearly everywhere.
const usualFreezer = "/sys/fs/cgroup/freezer"

// openFreezer opens the root of the freezer of version 1.
func openFreezer(mounts func() []procfs.Mount) (*os.File, error) {
	root, err := os.OpenFile(usualFreezer, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil {
		var missing error // the root of the hierarchy has no such file, all others have
		cerr := sys.Control(root, func(at int) { missing = unix.Faccessat(at, "freezer.state", unix.F_OK, 0) })
		if kind(root) == unix.CGROUP_SUPER_MAGIC && cerr == nil && errors.Is(missing, unix.ENOENT) {
			return root, nil
		}
		root.Close()
	}
	for _, m := range mounts() {
		if m.Type == "cgroup" && m.Root == "/" && carries(m, "freezer") {
			return os.OpenFile(m.Point, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		}
	}
	return nil, os.ErrNotExist
}

// thawBudget is how long Thaw waits for those it has told to go on.
const thawBudget = time.Second

// Thaw tells groups to let go of what they keep frozen, and waits until they do.
func Thaw(frozen []Freezer, mounts func() []procfs.Mount) error {
	for _, f := range slices.Backward(frozen) { // the outermost first
		if err := f.thaw(mounts); err != nil {
			return err
		}
	}
	return nil
}

func (f Freezer) thaw(mounts func() []procfs.Mount) error {
	root, done, err := f.tell(mounts, "0", "THAWED")
	if err != nil {
		return err
	}
	defer root.Close()
	if f.V1 { // it stays frozen by a group above it, which is not this one's to say
		done = func() (bool, error) {
			said, err := readGroup(root, f.Path, "freezer.self_freezing")
			return said == "0", err
		}
	}
	for until := time.Now().Add(thawBudget); time.Now().Before(until); time.Sleep(time.Millisecond) {
		if ok, err := done(); err != nil || ok {
			return err
		}
	}
	return &os.PathError{Op: "thaw", Path: f.Path, Err: unix.EBUSY}
}
