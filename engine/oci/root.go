// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"context"
	"path/filepath"
	"slices"
	"strings"

	"github.com/outband/outband/engine"
)

// Root is a directory in which a runtime keeps the state of its containers: what
// its option --root names.
type Root struct {
	Runtime string // "runc", "crun", "youki"
	Dir     string
}

// roots are the directories of a place: where runtimes keep their state by
// default, what the caller knows, and what processes tell.
func (e Engine) roots(ctx context.Context, h *engine.Host, place engine.Place) ([]Root, error) {
	var roots []Root
	for _, r := range runtimes() {
		roots = append(roots, Root{r.name, filepath.Join(place.Runtime, r.name)})
	}
	if place.User != "" { // another's command line is not to be trusted
		return roots, nil
	}
	told, err := told(ctx, h, place.UID)
	for _, r := range append(slices.Clone(e.Roots), told...) {
		r.Dir = clean(r.Dir)
		if filepath.IsAbs(r.Dir) && !slices.Contains(roots, r) {
			roots = append(roots, r)
		}
	}
	return roots, err
}

// clean makes one path of those that lead to the same directory everywhere.
func clean(dir string) string {
	dir = filepath.Clean(dir)
	if rest, ok := strings.CutPrefix(dir, "/var/run/"); ok {
		return "/run/" + rest
	}
	return dir
}

// above are the roots that docker and containerd give to runc, for each of their
// namespaces one. They are for one container that is sought and that runc itself
// would not find: those engines list all of theirs themselves.
func above(h *engine.Host, place engine.Place) (roots []Root) {
	for _, dir := range []string{"docker/runtime-runc", "containerd/runc"} {
		dir = filepath.Join(place.Runtime, dir)
		spaces, _ := h.ReadDir(dir, place.UID) // those engines tell what is wrong there
		for _, space := range spaces {
			roots = append(roots, Root{"runc", filepath.Join(dir, space)})
		}
	}
	return roots
}

// told are the roots on the command lines of a user's runtimes that wait for their
// container, and of conmon, which calls them.
//
// A20 (docs/threat-model.md): processes on the host alone. What is in the root has
// to be this user's, or root's, as any state.
func told(ctx context.Context, h *engine.Host, uid uint32) (roots []Root, err error) {
	names := []string{"conmon"}
	for _, r := range runtimes() {
		names = append(names, r.name)
	}
	keep := func(args []string) bool { return rootOf(args).Dir != "" }
	daemons, err := h.AnyDaemons(ctx, uid, keep, names...)
	for _, d := range daemons {
		roots = append(roots, rootOf(d.Args))
	}
	return roots, err
}

// rootOf returns the root on a command line, the zero Root where it names none.
func rootOf(args []string) Root {
	if program := filepath.Base(args[0]); program != "conmon" {
		return Root{program, engine.Flag(args, "--root", "-root")}
	}
	return ParseConmon(args)
}

// ParseConmon returns from the command line of conmon which runtime it calls and
// the root that it tells this; the zero Root where it tells none.
func ParseConmon(args []string) Root {
	var passed []string
	for i, arg := range args {
		if value, ok := strings.CutPrefix(arg, "--runtime-arg="); ok {
			passed = append(passed, value)
		} else if arg == "--runtime-arg" && i+1 < len(args) {
			passed = append(passed, args[i+1])
		}
	}
	dir := engine.Flag(passed, "--root")
	if dir == "" {
		return Root{}
	}
	return Root{filepath.Base(engine.Flag(args, "--runtime", "-r")), dir}
}
