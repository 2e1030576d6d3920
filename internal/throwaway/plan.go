// SPDX-License-Identifier: Apache-2.0

package throwaway

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// plan is a checked Spec in which every level is spelled out. It goes to the
// stages as JSON; the fields of Spec that are decided here hold their decision.
type plan struct {
	Spec
	// ID numbers the containers of one Start, depth first, from 0.
	ID int
	// Std tells which of descriptors 0 to 2 are the container's to keep.
	Std [3]bool
	// Inner takes the place of Spec.Inner.
	Inner []*plan
}

// maxDepth bounds Depth. More than the kernel allows, so that its refusal can
// be seen.
const maxDepth = 40

// compile makes the plan of spec. It performs no system call.
func compile(spec Spec) (*plan, error) {
	next := 0
	return compileFrom(spec, &next)
}

func compileFrom(spec Spec, next *int) (*plan, error) {
	if err := complete(&spec); err != nil {
		return nil, fmt.Errorf("container %q: %w", spec.Name, err)
	}
	if spec.Depth > 1 {
		outer, inner := split(spec)
		spec = outer
		spec.Inner = []Spec{inner}
	}
	p := &plan{Spec: spec, ID: *next}
	p.Std = [3]bool{spec.Stdin != nil, spec.Stdout != nil, spec.Stderr != nil}
	p.Spec.Inner = nil // it would be encoded beside p.Inner
	*next++
	for _, inner := range spec.Inner {
		q, err := compileFrom(inner, next)
		if err != nil {
			return nil, err
		}
		p.Inner = append(p.Inner, q)
	}
	return p, nil
}

// complete checks a spec and fills in what was left open. The spec is a copy,
// but for what its slices refer to.
func complete(spec *Spec) error {
	if spec.Namespaces == 0 {
		spec.Namespaces = Default
	}
	if spec.User {
		spec.Namespaces |= unix.CLONE_NEWUSER
	}
	spec.User = spec.Namespaces&unix.CLONE_NEWUSER != 0
	if err := check(spec); err != nil {
		return err
	}
	if len(spec.Args) == 0 {
		spec.Args = []string{"init"}
	}
	// Not nil but empty means an init without environment.
	if spec.Env == nil {
		spec.Env = []string{"PATH=/bin", "HOME=/root"}
	}
	if spec.Umask == 0 {
		spec.Umask = 0o022
	}
	spec.Inner = slices.Clone(spec.Inner)
	// A descriptor cannot be handed to them: their creator is a stage.
	for i := range spec.Inner {
		spec.Inner[i].Stdin, spec.Inner[i].Stdout, spec.Inner[i].Stderr = nil, nil, nil
	}
	return nil
}

// split takes the outermost level off a spec with several. What init is to be
// goes to the inner one, what the container is stays with the outer.
func split(spec Spec) (outer, inner Spec) {
	outer = Spec{
		Name: spec.Name, Args: []string{"init"}, Env: spec.Env, Umask: spec.Umask,
		Namespaces: spec.Namespaces, User: spec.User, Cgroups: spec.Cgroups,
		UIDMap: spec.UIDMap, GIDMap: spec.GIDMap, DenySetgroups: spec.DenySetgroups,
		Tree: spec.Tree, ReadOnly: spec.ReadOnly, NoDevpts: spec.NoDevpts, Chroot: spec.Chroot,
	}
	inner = spec
	inner.Depth--
	inner.UIDMap, inner.GIDMap = nil, nil // all that the outer one has
	inner.Cgroups = nil
	inner.ReadOnly, inner.NoDevpts, inner.Chroot = false, false, false
	// One host name, network and so on for all levels; but a /proc of its own,
	// which takes a mount namespace.
	inner.Namespaces &= unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUSER
	if inner.Tree == TreeOwn {
		inner.Tree = TreeShared
	}
	return outer, inner
}

// check refuses what contradicts itself.
func check(spec *Spec) error {
	has := func(flag uintptr) bool { return spec.Namespaces&flag != 0 }
	unmapped := len(spec.UIDMap) == 0 && len(spec.GIDMap) == 0
	switch {
	case strings.ContainsRune(spec.Name, 0) || len(spec.Name) > 64:
		return errors.New("a host name has at most 64 bytes and no NUL")
	case spec.Depth < 0 || spec.Depth > maxDepth:
		return fmt.Errorf("depth %d is not between 0 and %d", spec.Depth, maxDepth)
	case spec.Depth > 1 && !has(unix.CLONE_NEWPID):
		return errors.New("depth needs a pid namespace")
	case spec.Depth > 1 && spec.User && spec.Tree == TreeHost:
		// Id maps are written through /proc, by number.
		return errors.New("nested user namespaces need a /proc of their own")
	case spec.Tree != TreeHost && !has(unix.CLONE_NEWNS):
		return errors.New("a tree or /proc of its own needs a mount namespace")
	case spec.Tree != TreeOwn && (spec.ReadOnly || spec.NoDevpts || spec.Chroot):
		return errors.New("read-only, no devpts and chroot need a tree of its own")
	case spec.ReadOnly && spec.Chroot:
		return errors.New("a chroot is no mount that could be read-only")
	case !spec.User && (!unmapped || spec.DenySetgroups):
		return errors.New("id maps need a user namespace")
	case slices.ContainsFunc(spec.Workers, func(w []string) bool { return len(w) == 0 }):
		return errors.New("a worker has no command")
	}
	return nil
}

// firstID is the id that stands for 0 under a map: 0, or else the first one.
func firstID(ids []IDMap) int {
	if len(ids) == 0 || slices.ContainsFunc(ids, func(m IDMap) bool { return m.ContainerID == 0 }) {
		return 0
	}
	return ids[0].ContainerID
}

// identity maps every id that ids gives the container to itself, which is how
// a container hands all it has to one inside of it.
func identity(ids []IDMap) []IDMap {
	out := slices.Clone(ids)
	for i := range out {
		out[i].HostID = out[i].ContainerID
	}
	return out
}

// parseIDMap reads a uid_map or gid_map, as one's own user namespace shows it.
func parseIDMap(text string) ([]IDMap, error) {
	var ids []IDMap
	for line := range strings.Lines(text) {
		var m IDMap
		if _, err := fmt.Sscan(line, &m.ContainerID, &m.HostID, &m.Size); err != nil {
			return nil, fmt.Errorf("id map line %q: %w", line, err)
		}
		ids = append(ids, m)
	}
	return ids, nil
}
