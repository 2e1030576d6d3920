// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/outband/outband/internal/hint"
	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/safetext"
)

// Named returns the container that a name means of those that List has found,
// one that does not run where no running one is called so. Names that lead to a
// process, as pid:1234 does, mean none here: ErrNotFound.
func Named(all []Container, name string) (*Container, error) {
	if err := check(name); err != nil {
		return nil, err
	}
	prefix, rest, ok := strings.Cut(name, ":")
	if !ok {
		prefix, rest = "", name
	}
	if _, process := finders()[prefix]; process && prefix != "demo" || strings.HasPrefix(name, "/") || allDigits(name) {
		return nil, notFound("stopped container", name)
	}
	switch found := match(all, prefix, rest); len(found) {
	case 0:
		return nil, notFound("container", name)
	case 1:
		return &found[0], nil
	default:
		return nil, ambiguousStopped(name, found)
	}
}

// called is err, which says that there is no process of this number, with the full
// names of the containers that are called so.
func called(ctx context.Context, proc *procfs.FS, engines []Engine, number string, err error) error {
	lists, _ := NewHost(proc, nil).Seek(number, "").ask(ctx, engines)
	var names []string
	for _, c := range match(merge(lists), "", number) {
		if c.Name == number {
			names = append(names, safetext.Word(c.FullName()))
		}
	}
	if names == nil {
		return err
	}
	slices.Sort(names)
	return hint.With(err, "a number is a process's; the container of that name is "+strings.Join(names, ", "))
}

// ambiguousStopped lists the choices where none of them may have a process: those
// with the same full name are told by their ids.
func ambiguousStopped(name string, found []Container) error {
	if found[0].Init.PID != 0 {
		return ambiguous(name, found)
	}
	choices := make([]string, 0, len(found))
	for i := range found {
		choice := found[i].FullName()
		if slices.ContainsFunc(found[:i], func(c Container) bool { return c.FullName() == choice }) {
			choice = found[i].ID
		}
		choices = append(choices, safetext.Escape(choice))
	}
	slices.Sort(choices)
	return fmt.Errorf("%w: %s: %s", ErrAmbiguous, safetext.Escape(name), strings.Join(choices, ", "))
}
