// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/safetext"
)

// ErrNotRunning is a container that is known and does not run.
var ErrNotRunning = errors.New("not running")

// NotRunningError is ErrNotRunning with the container that is known.
type NotRunningError struct{ Container Container }

func (e *NotRunningError) Error() string {
	return ErrNotRunning.Error() + ": container " + safetext.Escape(e.Container.FullName())
}

// Is makes it ErrNotRunning.
func (e *NotRunningError) Is(target error) bool { return target == ErrNotRunning }

// ByPrefix returns the engines among whose containers are those with a prefix:
// "docker", "docker@user"; the one of LXC for "incus".
func ByPrefix(engines []Engine, prefix string) []Engine {
	name, _, _ := strings.Cut(prefix, "@")
	var found []Engine
	for _, e := range engines {
		more, ok := e.(Prefixer)
		if e.Name() == name || ok && slices.Contains(more.Prefixes(), name) {
			found = append(found, e)
		}
	}
	return found
}

// byName finds a container by what engines call it. That some engine did not
// answer is told only where no other knows the name.
func byName(ctx context.Context, proc *procfs.FS, engines []Engine, prefix, rest string) (*procfs.Process, error) {
	name := rest
	if prefix != "" {
		name = prefix + ":" + rest
	}
	if rest == "" || len(engines) == 0 {
		return nil, notFound("container", name)
	}
	_, user, _ := strings.Cut(prefix, "@")
	h := NewHost(proc, nil).Seek(rest, user)
	h.sought.only = len(engines) == 1
	init, err := h.initNamed(ctx, engines, prefix, rest, name)
	if err != nil {
		return nil, err
	}
	return hold(proc, init, name)
}

// initNamed returns the first process of the container that a name means; rest is
// the name without its prefix. Where not all processes were read, none that runs
// is taken for one that does not.
func (h *Host) initNamed(ctx context.Context, engines []Engine, prefix, rest, name string) (Init, error) {
	lists, failed := h.ask(ctx, engines)
	found := match(merge(lists), prefix, rest)
	switch {
	case len(found) == 0 && isLate(failed):
		return Init{}, fmt.Errorf("%w: whether there is a container %s could not be found out: %w", ErrDeadline, safetext.Escape(name), oneLine{failed})
	case len(found) == 0 && failed != nil:
		return Init{}, fmt.Errorf("%w: %w", notFound("container", name), oneLine{failed})
	case len(found) == 0:
		return Init{}, notFound("container", name)
	case len(found) > 1:
		return Init{}, ambiguous(name, found)
	case found[0].Init.PID == 0 && errors.Is(failed, procfs.ErrIncomplete):
		return Init{}, fmt.Errorf("container %s: whether it runs is not known: %w", safetext.Escape(found[0].FullName()), oneLine{failed})
	case found[0].Init.PID == 0:
		return Init{}, &NotRunningError{found[0]}
	}
	return found[0].Init, nil
}

// isLate tells whether something was not known in time, as whoever waited for it put
// that.
func isLate(err error) bool {
	late := []error{ErrDeadline, context.DeadlineExceeded, os.ErrDeadlineExceeded, procfs.ErrIncomplete}
	return slices.ContainsFunc(late, func(is error) bool { return errors.Is(err, is) })
}

// ambiguous lists the choices.
func ambiguous(name string, found []Container) error {
	choices := make([]string, 0, len(found))
	for i := range found {
		choice := found[i].FullName()
		if same := func(c Container) bool { return c.FullName() == choice }; len(slices.DeleteFunc(slices.Clone(found), same)) < len(found)-1 {
			choice = fmt.Sprintf("pid:%d", found[i].Init.PID)
		}
		choices = append(choices, safetext.Escape(choice))
	}
	slices.Sort(choices)
	return fmt.Errorf("%w: %s: %s", ErrAmbiguous, safetext.Escape(name), strings.Join(choices, ", "))
}

// hold takes hold of the process that a list has, and of no other that has its
// number by now (A19, docs/threat-model.md).
func hold(proc *procfs.FS, init Init, name string) (*procfs.Process, error) {
	p, err := proc.Hold(init.PID)
	if err != nil {
		return nil, gone(err, "container", name)
	}
	start, err := startOf(p.Dir)
	if err == nil && (start != init.Start || p.Alive() != nil) {
		err = fs.ErrNotExist
	}
	if err != nil {
		p.Close()
		return nil, fmt.Errorf("%w: it has ended", notFound("container", name))
	}
	return p, nil
}
