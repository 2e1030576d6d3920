// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"

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
}

type powerInit struct {
	PID  int    `json:"pid"`
	PIDs []int  `json:"pids"`
	Kind string `json:"kind"`
	Exe  string `json:"exe"`
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
	tw := tabwriter.NewWriter(s.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(tw, "state\t%s\n", facts.State)
	if i := facts.Init; i != nil {
		fmt.Fprintf(tw, "init\t%s\n", strings.TrimSpace(fmt.Sprintf("%s  %s  %s", arrows(i.PIDs), i.Kind, safetext.Escape(i.Exe))))
	}
	fmt.Fprintf(tw, "restarts\t%s\n", safetext.Escape(facts.Restarts))
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
	if s.target != nil {
		if err := s.seen(ctx, facts); err != nil {
			return nil, err
		}
	}
	for _, a := range powerActions() {
		if !fits(facts.State, a) {
			continue
		}
		s.action = a
		if s.target != nil && s.allowed() == nil {
			facts.Can = append(facts.Can, a)
		}
		if _, err := power.Through(s.container, a, 0); err == nil {
			facts.ThroughEngine = append(facts.ThroughEngine, a)
		}
	}
	if s.target == nil {
		facts.Can = facts.ThroughEngine
	}
	return facts, nil
}

// seen adds what the kernel shows of one that runs.
func (s *switching) seen(ctx context.Context, facts *powerFacts) error {
	seen, err := s.target.Inspect()
	if err != nil {
		return err
	}
	init, err := power.Identify(ctx, s.target)
	if err != nil {
		return err
	}
	facts.State = string(s.container.State)
	if s.container.State == engine.Running && seen.State == string(engine.Paused) {
		facts.State = seen.State
	}
	if seen.State == "stopped" {
		s.say("note: the container's init is stopped by a signal: what it would do waits")
	}
	facts.Init = &powerInit{seen.Init.PID, seen.Init.PIDs, init.Kind, init.Exe}
	return nil
}

// fits tells whether an action makes sense in a state.
func fits(state string, a power.Action) bool {
	switch a {
	case power.On:
		return state == string(engine.Stopped)
	case power.Resume:
		return state == string(engine.Paused)
	case power.Pause:
		return state == string(engine.Running)
	}
	return state != string(engine.Stopped)
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
