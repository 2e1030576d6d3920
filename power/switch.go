// SPDX-License-Identifier: Apache-2.0

package power

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/outband/outband"
	"github.com/outband/outband/engine"
)

// How long things are waited for, where nobody says otherwise.
const (
	DefaultGrace = 30 * time.Second // for an init that was asked
	harderGrace  = 10 * time.Second // at most, for one that was asked harder
	pressGrace   = 5 * time.Second  // for one that was pressed: the kernel needs none
	slayGrace    = 5 * time.Second  // for one that was killed, and again for all that is with it
	lookOff      = time.Second      // for something that brings it back though nothing is known that would
	lookReboot   = 10 * time.Second // for something that brings it back, as it is to or as its engine will
)

// Options are how a Switch is to go about it. The zero value asks, and waits.
type Options struct {
	Grace time.Duration // how long the init has that was asked; 0: DefaultGrace
	Force bool          // nobody is asked: the first rung is Press
	Thaw  bool          // whatever keeps the container frozen lets go of it, not only its own group of cgroup v2
	// Look is how long it is looked for whether something brings the container
	// back; 0: a second, or as long as Grace and ten at least where its engine does so,
	// or ten where none is known and it is to reboot; below 0: not at all.
	Look time.Duration
	// Container is the target as its engine has it; nil: no engine is known. It
	// tells what the init is stopped with, and who brings it back.
	Container *engine.Container
	// Event is told what happens, as it happens: a rung when it is taken, with no
	// Result, and again when it is known what came of it.
	Event func(Event)
}

// Errors of a Switch, besides those of package outband.
var (
	// ErrStays is a container that something of would not die: see Result.Left.
	ErrStays = errors.New("something in it would not die")
	// ErrShared is a cgroup that others are in as well.
	ErrShared = errors.New("its cgroup is not its own")
)

// StoodError says where an action stood when it was given up. The container is
// left as it was then: what was said to it stays said.
type StoodError struct {
	Action Action
	Rung   Rung
	How    string
	Err    error // of the context
}

func (e *StoodError) Error() string {
	return fmt.Sprintf("%s: given up while its init still ran; last rung: %s (%s): %v", e.Action, e.Rung, e.How, e.Err)
}

// Unwrap returns Err.
func (e *StoodError) Unwrap() error { return e.Err }

// Switch is the power switch of one container. It never does anything to what
// comes after it, whatever that is called: it holds the init that it was made for.
type Switch struct {
	box    box
	target *outband.Target
	o      Options
}

// New returns the switch of a target, which stays the caller's.
func New(t *outband.Target, o Options) *Switch {
	return &Switch{box: &machine{t: t, o: o}, target: t, o: o}
}

// Do carries out an action. The result is as far as it came, also with an error.
//
// Errors: outband.ErrOwnNamespace and outband.ErrNotSupported for what has no
// power of its own (A32); outband.ErrFrozen; ErrStays; *StoodError where ctx was
// done first; ErrShared.
func (s *Switch) Do(ctx context.Context, a Action) (Result, error) {
	if err := s.box.powered(); err != nil {
		return Result{}, err
	}
	switch a {
	case Off, Reboot, Halt, Kill:
		return s.end(ctx, a)
	case Pause, Resume:
		return s.freeze(ctx, a)
	case On:
		return Result{}, fmt.Errorf("%w: it runs already", outband.ErrNotSupported)
	}
	return Result{}, fmt.Errorf("%w: there is no action %q", outband.ErrInvalid, string(a))
}

// Off shuts the container down.
func (s *Switch) Off(ctx context.Context) (Result, error) { return s.Do(ctx, Off) }

// Reboot shuts it down so that who supervises it starts it again.
func (s *Switch) Reboot(ctx context.Context) (Result, error) { return s.Do(ctx, Reboot) }

// Halt shuts it down.
func (s *Switch) Halt(ctx context.Context) (Result, error) { return s.Do(ctx, Halt) }

// Kill ends all that is in it at once.
func (s *Switch) Kill(ctx context.Context) (Result, error) { return s.Do(ctx, Kill) }

// Pause freezes it.
func (s *Switch) Pause(ctx context.Context) (Result, error) { return s.Do(ctx, Pause) }

// Resume thaws it.
func (s *Switch) Resume(ctx context.Context) (Result, error) { return s.Do(ctx, Resume) }

// tell hands an event on.
func (s *Switch) tell(r Rung, how, format string, args ...any) {
	if s.o.Event != nil {
		s.o.Event(Event{At: time.Now(), Rung: r, How: how, Result: fmt.Sprintf(format, args...)})
	}
}
