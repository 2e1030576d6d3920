// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/outband/outband/engine"
	"github.com/outband/outband/internal/safetext"
	"github.com/outband/outband/power"
)

// powerFacts are the state of a switch as JSON has it: a contract with scripts.
type powerFacts struct {
	State string         `json:"state"`
	Init  *powerInit     `json:"init"` // null where it does not run
	Can   []power.Action `json:"can"`  // what has the end that its name says
	// ThroughEngine is what its engine has a command for.
	ThroughEngine []power.Action `json:"through_engine"`
	Restarts      string         `json:"restarts"`
	Supervisor    *supervisor    `json:"supervisor"` // who waits for its init; null where that is nobody but the machine's
	FrozenBy      *frozenFacts   `json:"frozen_by"`  // null where it is not frozen, or by others than outband
}

type powerInit struct {
	PID      int    `json:"pid"`
	PIDs     []int  `json:"pids"`
	Kind     string `json:"kind"`
	Evidence string `json:"evidence"`
}

// status shows the switch.
func (s *switching) status(ctx context.Context) error {
	facts, err := s.powerFacts(ctx)
	if err != nil {
		return err
	}
	if s.output == "json" {
		return printJSON(s.stdout, facts)
	}
	tw := newTable(s.stdout)
	fmt.Fprintf(tw, "state\t%s\n", facts.State)
	if f := facts.FrozenBy; f != nil {
		fmt.Fprintf(tw, "frozen by\t%s\n", f)
	}
	if i := facts.Init; i != nil {
		fmt.Fprintf(tw, "init\t%s  %s: %s\n", arrows(i.PIDs), i.Kind, safetext.Escape(i.Evidence))
	}
	fmt.Fprintf(tw, "restarts\t%s\n", safetext.Escape(facts.Restarts))
	if b := facts.Supervisor; b != nil {
		fmt.Fprintf(tw, "supervisor\t%s %d\n", safetext.Escape(b.Name), b.PID)
	}
	fmt.Fprintf(tw, "can\t%s\n", orElse(actionWords(facts.Can), "-"))
	fmt.Fprintf(tw, "through engine\t%s\n", orElse(actionWords(facts.ThroughEngine), "-"))
	return tw.Flush()
}

func actionWords(actions []power.Action) string {
	list := make([]string, len(actions))
	for i, a := range actions {
		list[i] = string(a)
	}
	return strings.Join(list, " ")
}

func (s *switching) powerFacts(ctx context.Context) (*powerFacts, error) {
	facts := &powerFacts{State: string(engine.Stopped), Restarts: restarts(s.container), Can: []power.Action{}, ThroughEngine: []power.Action{}}
	open := []power.Action{power.On}
	if b := s.container.Supervisor; b != nil {
		facts.Supervisor = &supervisor{b.Name, b.PID}
	}
	if s.target != nil {
		st, err := power.New(s.target, s.options()).Status(ctx)
		if err != nil {
			return nil, err
		}
		if st.Stopped {
			s.say("note: the container's init is stopped by a signal (SIGSTOP): what it would do waits")
		}
		facts.State, open = string(st.State), st.Can
		if st.State != engine.Zombie && s.target.Powered() != nil { // its engine alone
			open = []power.Action{power.Off, power.Reboot, power.Halt, power.Kill, power.Pause}
			if st.State == engine.Paused {
				open[len(open)-1] = power.Resume
			}
		}
		if st.State == engine.Paused {
			facts.FrozenBy = s.frozenBy()
		}
		facts.Init = &powerInit{st.Init.PID, st.Init.PIDs, st.Init.Kind, st.Init.Evidence}
	}
	for _, a := range open {
		_, err := power.Through(s.container, a, 0)
		if err == nil {
			facts.ThroughEngine = append(facts.ThroughEngine, a)
		}
		if s.action = a; a == power.On && err == nil || a != power.On && s.allowed() == nil {
			facts.Can = append(facts.Can, a)
		}
	}
	return facts, nil
}

// restarts is who starts it again, in the words of its engine.
func restarts(c *engine.Container) string {
	switch {
	case c.Restart != "":
		return c.Restart
	case c.Reboots:
		return "when it reboots"
	}
	return "unknown"
}
