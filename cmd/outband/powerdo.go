// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/outband/outband"
	"github.com/outband/outband/internal/hint"
	"github.com/outband/outband/internal/registry"
	"github.com/outband/outband/internal/safetext"
	"github.com/outband/outband/power"
)

// throw does what the switch was told to, with a trace in the audit log.
func (s *switching) throw(ctx context.Context) error {
	if s.action == power.On && s.target != nil {
		s.say("note: %s runs already", s.name)
		return nil
	}
	if err := s.allowed(); err != nil {
		return err
	}
	rec, err := s.beginPower()
	if err != nil {
		return err
	}
	s.show = &ladder{w: s.stdout, name: s.name, action: s.action, json: s.output == "json", grace: s.grace}
	s.show.line = follow(s.show.waiting)
	defer s.show.line.end()
	r, err := s.act(ctx)
	if r == nil {
		r = &power.Result{}
	}
	if err == nil {
		err = s.ended(r)
	}
	if err == nil && s.action == power.Pause && !r.Already && s.target != nil {
		s.froze()
	}
	s.show.end(r, err)
	rec.thrown(r, err)
	return err
}

// allowed refuses what must not be done, before anything is.
func (s *switching) allowed() error {
	switch {
	case s.action == power.On || s.throughEngine:
		return nil // the engine knows its own
	case s.target == nil:
		return fmt.Errorf("%w: %s", outband.ErrNotRunning, s.container.FullName())
	}
	// A32 (docs/threat-model.md): never the caller's own pid namespace, before
	// anything else is thought of.
	if err := s.target.Powered(); err != nil {
		return s.shared(fmt.Errorf("%w: %w", errRefused, err))
	}
	switch {
	case s.anyway || s.action == power.Pause || s.action == power.Resume:
		return nil
	case s.unsure:
		return errUnsure
	}
	return power.Lasts(s.container, s.action)
}

// shared says whose pid namespace it is in, where that is why it has no power of its
// own.
func (s *switching) shared(err error) error {
	if s.owner == nil {
		return err
	}
	out := "outband power " + safetext.Word(s.owner.FullName()) + " " + string(s.action) + " is for all that is in there"
	if _, none := power.Through(s.container, s.action, 0); none == nil {
		out = "its engine can do it: --through-engine; " + out
	}
	return hint.With(fmt.Errorf("%w: it shares the pid namespace of %s", errRefused, safetext.Escape(s.owner.FullName())), out)
}

// errUnsure is that an engine is not heard of which may undo what is done.
var errUnsure = fmt.Errorf("%w: not every engine has answered, and one of those may bring it back (--anyway goes on)", errRefused)

// act throws the switch.
func (s *switching) act(ctx context.Context) (*power.Result, error) {
	if s.action == power.On || s.throughEngine {
		return s.byEngine(ctx)
	}
	return s.byHand(ctx)
}

// ended tells whether the end is the one that was asked for.
func (s *switching) ended(r *power.Result) error {
	switch {
	case !r.Done:
		return fmt.Errorf("%w: it has not ended", outband.ErrDeadline)
	case s.anyway:
		return nil
	case s.action == power.Reboot && r.Back == nil:
		return errNotBack
	case r.Back != nil && (s.action == power.Off || s.action == power.Halt || s.action == power.Kill):
		return fmt.Errorf("%w: %s", errCameBack, arrows(r.Back.PIDs))
	}
	return nil
}

// Ends that are not those that were asked for.
var (
	errNotBack  = errors.New("it has ended, and nothing has brought it back")
	errCameBack = errors.New("it has ended, and something has brought it back")
)

// beginPower leaves the trace of a throw. As with enter, root never acts without.
func (s *switching) beginPower() (*record, error) {
	rec := registry.Record{
		Target: s.container.FullName(), Verb: "power", Command: []string{string(s.action)}, By: registry.Caller(os.Getenv),
	}
	for _, f := range []struct {
		name string
		set  bool
	}{{"--force", s.force}, {"--thaw", s.thaw}, {"--through-engine", s.throughEngine}, {"--anyway", s.anyway}} {
		if f.set {
			rec.Command = append(rec.Command, f.name)
		}
	}
	if s.target != nil {
		rec.Init = s.initRecord()
	}
	return s.keep(rec)
}

// thrown records how a throw has ended.
func (r *record) thrown(result *power.Result, err error) {
	o := registry.Outcome{How: "done"}
	if result.InitExit != "" {
		o.How += ": init ended with " + result.InitExit
	}
	if err != nil {
		o.How, o.Error = "not done", err.Error()
	}
	r.end(o)
}
