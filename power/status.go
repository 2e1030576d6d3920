// SPDX-License-Identifier: Apache-2.0

package power

import (
	"context"
	"errors"

	"github.com/outband/outband"
	"github.com/outband/outband/engine"
)

// Status is what a container is doing and what can be done to it.
type Status struct {
	State    engine.State `json:"state"`
	Stopped  bool         `json:"stopped,omitempty"` // its init is, by a signal (SIGSTOP): it hears nothing
	Init     InitStatus   `json:"init"`
	Can      []Action     `json:"can"`
	Restarts string       `json:"restarts"` // its engine's policy; "unknown" where there is none that is known
}

// InitStatus is an init, for people.
type InitStatus struct {
	PID      int    `json:"pid"`
	PIDs     []int  `json:"pids"` // outermost level first
	Kind     string `json:"kind"`
	Evidence string `json:"evidence"` // what tells its kind, raw
}

// Status tells how the container stands. It changes nothing.
func (s *Switch) Status(ctx context.Context) (Status, error) {
	m := &machine{t: s.target, o: s.o}
	init, err := m.identify(ctx)
	if err != nil {
		return Status{}, err
	}
	frozen, err := m.frozen()
	if err != nil {
		return Status{}, err
	}
	st := Status{State: engine.Running, Stopped: m.stopped(), Restarts: "unknown",
		Init: InitStatus{s.target.PID(), s.target.PIDs(), init.Kind, init.Evidence}}
	if c := s.o.Container; c != nil {
		if st.State = c.State; c.Restart != "" {
			st.Restarts = c.Restart
		}
	}
	if len(frozen) > 0 {
		st.State = engine.Paused
	}
	st.Can = m.can(ctx, len(frozen) > 0)
	if err := s.target.Alive(); errors.Is(err, outband.ErrGone) {
		st.State, st.Can = engine.Zombie, nil
	}
	return st, nil
}

// can are the actions that are open.
func (m *machine) can(ctx context.Context, frozen bool) []Action {
	if m.powered() != nil {
		return []Action{}
	}
	actions := []Action{Off, Reboot, Halt, Kill}
	if frozen {
		return append(actions, Resume)
	}
	if _, err := m.whole(ctx); err == nil {
		actions = append(actions, Pause)
	}
	return actions
}
