// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/outband/outband/engine"
	"github.com/outband/outband/engine/all"
	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/ns"
)

// Container returns what engines know of the target, by whatever name it was
// opened; where none knows it, it is one of engine.Bare. Every engine is asked for
// it, and all processes are read.
//
// Errors: *engine.Error of engines that could not be asked, one of which may know
// the target by another name; ctx's. The container counts all the same.
func (t *Target) Container(ctx context.Context) (engine.Container, error) {
	tasks, err := t.fs.Outline(ctx) // first: engines are not given the time that it may take
	if err != nil {
		return t.bare(), err
	}
	return t.ContainerAmong(ctx, tasks)
}

// ContainerAmong is Container where all processes have been read already: for the
// packages of this module that stand on this one.
func (t *Target) ContainerAmong(ctx context.Context, tasks []procfs.Task) (engine.Container, error) {
	engines := t.engines
	if len(engines) == 0 {
		engines = all.Engines()
	}
	known, err := engine.NewHost(t.fs, tasks).List(ctx, append([]engine.Engine{engine.Demo(t.runDir)}, engines...))
	for i := range known {
		// A19: the number alone could be another's by now.
		if known[i].Init.PID == t.init.PID && known[i].Init.Start == t.started {
			return known[i], err
		}
	}
	return t.bare(), err
}

// bare is the target as the kernel knows it.
func (t *Target) bare() engine.Container {
	return engine.Container{
		Engine: engine.Bare, Name: fmt.Sprintf("pid:%d", t.init.PID), ID: fmt.Sprint(t.namespaces[ns.PID]), State: engine.Running,
		Init: engine.Init{
			PID: t.init.PID, PIDs: t.status.NSpid, Start: t.started, PIDNS: t.namespaces[ns.PID], Comm: t.status.Name,
		},
	}
}

// engineError gives an error of a lookup this package's sentinel.
func engineError(err error) error {
	for _, pair := range [...][2]error{
		{engine.ErrNotFound, ErrNotFound}, {engine.ErrAmbiguous, ErrAmbiguous}, {engine.ErrInvalid, ErrInvalid},
		{engine.ErrNotDescendant, ErrNotDescendant}, {engine.ErrNotRunning, ErrNotRunning}, {engine.ErrDeadline, ErrDeadline},
		{fs.ErrNotExist, ErrNotFound},
	} {
		if errors.Is(err, pair[0]) {
			return &lookupError{err, pair[1]}
		}
	}
	return err
}

// lookupError is an error of package engine that is also one of this package.
type lookupError struct{ err, kind error }

func (e *lookupError) Error() string   { return e.err.Error() }
func (e *lookupError) Unwrap() []error { return []error{e.err, e.kind} }
