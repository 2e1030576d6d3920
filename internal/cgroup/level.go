// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"iter"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/sys"
)

// Unlimited is the bound of what has none.
const Unlimited = 1<<64 - 1

// Level is a group whose files are read.
type Level struct {
	Path string // in its hierarchy
	V1   bool

	root *os.File
}

// Levels are the groups that bound a process in groups by a controller, "memory"
// say: its own first, then those above it, the root excepted. With "" they are
// those of the unified hierarchy. A controller that is in no hierarchy of
// version 1 is taken for one of the unified hierarchy, where a group has no files
// of one that is not enabled. Nothing is opened that lies outside of the reader's
// cgroup namespace.
func Levels(groups []procfs.Group, controller string, mounts func() []procfs.Mount) iter.Seq[Level] {
	return func(yield func(Level) bool) {
		root, p, v1 := openHierarchy(groups, controller, mounts)
		if root == nil {
			return
		}
		defer root.Close()
		for ; p != "/" && p != "."; p = path.Dir(p) {
			if !yield(Level{p, v1, root}) {
				return
			}
		}
	}
}

// openHierarchy opens the root of the hierarchy in which a controller is, and
// tells the path of the group there; nil where it cannot be reached.
func openHierarchy(groups []procfs.Group, controller string, mounts func() []procfs.Mount) (root *os.File, p string, v1 bool) {
	i := slices.IndexFunc(groups, func(g procfs.Group) bool {
		return g.Hierarchy != 0 && slices.Contains(strings.Split(g.Controllers, ","), controller)
	})
	if controller == "" || i < 0 {
		p = Unified(groups)
		if tree, err := OpenTree(); err == nil && p != "" {
			return tree.root, p, false
		} else if err == nil {
			tree.Close()
		}
		return nil, "", false
	}
	p = groups[i].Path
	if strings.HasPrefix(p+"/", "/../") {
		return nil, "", true
	}
	for _, m := range mounts() {
		if m.Type == "cgroup" && m.Root == "/" && carries(m, controller) {
			root, _ := sys.Open(m.Point, unix.O_PATH|unix.O_DIRECTORY)
			return root, p, true
		}
	}
	return nil, "", true
}

// Read returns the content of a file of the group, its first page.
func (l Level) Read(file string) (string, error) { return readGroup(l.root, l.Path, file) }

// Number reads a file with a number in it; Unlimited stands for "max", and for
// what the memory controller of version 1 has in its place.
func (l Level) Number(file string) (uint64, error) {
	s, err := l.Read(file)
	if err != nil {
		return 0, err
	}
	return parseBound(s)
}

func parseBound(s string) (uint64, error) {
	if s == "max" {
		return Unlimited, nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	const most = 1<<63 - 1<<20 // version 1 rounds LONG_MAX down to a page
	if n >= most {
		n = Unlimited
	}
	return n, err
}

// Values reads a file of names with numbers; lines that are anything else are
// left out.
func (l Level) Values(file string) (map[string]uint64, error) {
	s, err := l.Read(file)
	if err != nil {
		return nil, err
	}
	return parseValues(s), nil
}

func parseValues(s string) map[string]uint64 {
	values := map[string]uint64{}
	for line := range strings.Lines(s) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if n, err := strconv.ParseUint(value, 10, 64); err == nil {
			values[name] = n
		}
	}
	return values
}
