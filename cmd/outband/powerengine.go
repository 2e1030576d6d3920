// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/outband/outband"
	"github.com/outband/outband/engine"
	"github.com/outband/outband/power"
)

// settleTime is how long a container has to be what its engine's command has
// said that it is.
const settleTime = 5 * time.Second

// again is what the engine of a container knows of it by now, and whether the
// kernel has it frozen; nil for nothing.
func again(ctx context.Context, c *engine.Container) *engine.Container {
	list, _ := engine.List(ctx, engines())
	for i := range list {
		l := &list[i]
		if l.Engine != c.Engine || l.User != c.User || l.ID != c.ID {
			continue
		}
		if l.Init.PID == 0 {
			return l
		}
		if t, err := openInit(ctx, l); err == nil {
			if facts, err := t.Inspect(); err == nil && l.State == engine.Running {
				l.State = engine.State(facts.State)
			}
			t.Close()
		}
		return l
	}
	return nil
}

// byEngine has a container's own engine carry out the action, and looks whether
// it has.
func (s *switching) byEngine(ctx context.Context) (*power.Result, error) {
	c := s.container
	grace := time.Duration(0) // the engine's own, which may be the container's
	if s.graceSet {
		grace = s.grace
	}
	cmd, err := power.Through(c, s.action, grace)
	if err != nil && s.unsure {
		return nil, fmt.Errorf("%w: not every engine has answered, and one of those may have it", outband.ErrDeadline)
	}
	if err != nil {
		return nil, err
	}
	s.show.start = time.Now()
	how := strings.ReplaceAll(strings.Join(cmd.Args, " "), c.ID, c.Name) // for people
	s.show.event(power.Event{At: s.show.start, Rung: power.Ask, How: how, Result: "the engine's own command"})
	says, err := through(ctx, cmd, max(grace, s.grace))
	r := &power.Result{Took: time.Since(s.show.start)}
	if err != nil {
		return r, err
	}
	wait := settleTime
	if cmd.Async {
		wait = max(wait, s.grace)
	}
	now, err := s.settled(ctx, c, wait)
	r.Took = time.Since(s.show.start)
	if err != nil {
		return r, err
	}
	r.Done = true
	state := "it is gone"
	if now != nil {
		state = "it is " + string(now.State)
		if now.Init.PID != 0 && !sameInit(now, c) {
			r.Back = &power.Back{PIDs: now.Init.PIDs, By: c.Engine}
		}
	}
	s.show.event(power.Event{At: time.Now(), Rung: power.Verify, How: c.Engine, Result: state + said(says, c)})
	return r, nil
}

// said is what a command has said, if that is more than the container's name or
// its id, which is all that most say.
func said(says string, c *engine.Container) string {
	says = strings.TrimSpace(strings.TrimSuffix(says, c.ID))
	if says == "" || says == c.Name {
		return ""
	}
	return ": " + says
}

// errNotSo is an action that an engine's command says it has done, and that the
// kernel does not show.
var errNotSo = errors.New("the engine's command ended well, but")

// settled waits until the container is as the action leaves it, and returns what
// its engine knows of it.
func (s *switching) settled(ctx context.Context, c *engine.Container, wait time.Duration) (*engine.Container, error) {
	for until := time.Now().Add(wait); ; {
		now := again(ctx, c)
		if as(now, c, s.action) {
			return now, nil
		}
		if time.Now().After(until) {
			state := "it is gone"
			if now != nil {
				state = "it is " + string(now.State)
			}
			return now, fmt.Errorf("%w %s", errNotSo, state)
		}
		select {
		case <-ctx.Done():
			return now, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// as tells whether now is what an action has made of the container before.
func as(now, before *engine.Container, a power.Action) bool {
	runs := now != nil && now.Init.PID != 0
	switch a {
	case power.Off, power.Halt, power.Kill:
		return !runs
	case power.On:
		return runs
	case power.Reboot:
		return runs && !sameInit(now, before)
	}
	return runs && sameInit(now, before) && (now.State == engine.Paused) == (a == power.Pause)
}

// sameInit tells whether two have the same first process.
func sameInit(a, b *engine.Container) bool {
	return a.Init.PID == b.Init.PID && a.Init.Start == b.Init.Start
}
