// SPDX-License-Identifier: Apache-2.0

package power

import (
	"errors"
	"fmt"
	"strings"

	"github.com/outband/outband/engine"
	"github.com/outband/outband/internal/safetext"
)

// ErrDefeated is an action that would not last: whoever supervises the container
// undoes it, or does not do its part.
var ErrDefeated = errors.New("it would not last")

// DefeatedError is an action that a container's engine defeats. It is
// ErrDefeated.
type DefeatedError struct {
	Action Action
	Engine string
	Why    string   // "docker starts it again whenever it ends (restart policy always)"
	Way    []string // the engine's own command that does last; nil where it has none
}

func (e *DefeatedError) Error() string { return string(e.Action) + " would not last: " + e.Why }

// Is makes it ErrDefeated.
func (e *DefeatedError) Is(target error) bool { return target == ErrDefeated }

// Hint names both ways out.
func (e *DefeatedError) Hint() string {
	if e.Way == nil {
		return "to go on all the same, say so: --anyway"
	}
	words := make([]string, len(e.Way))
	for i, word := range e.Way {
		words[i] = safetext.Word(word)
	}
	return fmt.Sprintf("--through-engine has the engine do it (%s); --anyway goes on all the same", strings.Join(words, " "))
}

// fate is what becomes of a container when its init has ended, in words for
// people: why being off, or a reboot, would not last; "" where it does.
type fate struct {
	off, reboot string
	clean       bool // one that ended with 0 stays off
}

// fates are the policies that engines have words for. A policy is all that the
// engine goes by: it does not know that the end was asked for.
func fates() map[string]fate {
	always := fate{off: "starts it again whenever it ends"}
	failure := fate{
		off:    "starts it again when it ends otherwise than with 0, and one that is pressed or killed does",
		reboot: "leaves it off when its init ends with 0, and one that is asked may",
		clean:  true,
	}
	never := fate{reboot: "does not start it again"}
	return map[string]fate{
		"always": always, "unless-stopped": always, "on-failure": failure, // docker, podman
		"": never, "no": never,
		"Always": always, "OnFailure": failure, "Never": never, // restartPolicy of a pod
	}
}

// Lasts tells whether an action on a container has the end that its name says,
// going by what its engine is known to do: a *DefeatedError where it has not.
// Pausing and thawing are nothing to an engine's policy.
func Lasts(c *engine.Container, a Action) error {
	f := fateOf(c)
	why := ""
	switch a {
	case Off, Halt, Kill:
		why = f.off
	case Reboot:
		why = f.reboot
	}
	if why == "" {
		return nil
	}
	e := &DefeatedError{Action: a, Engine: c.Engine, Why: why}
	if c.Engine != engine.Bare {
		e.Why = supervisor(c) + " " + why
	}
	if c.Restart != "" {
		e.Why += " (restart policy " + safetext.Escape(c.Restart) + ")"
	}
	shown := *c
	shown.ID = c.Name // for people
	if cmd, err := Through(&shown, a, 0); err == nil {
		e.Way = cmd.Args
	}
	return e
}

// returns tells whether whoever supervises a container may start it again after an
// action by which its init ended so; nil: none is known.
func returns(c *engine.Container, a Action, exit string) bool {
	if c == nil {
		return a == Reboot
	}
	f := fateOf(c)
	switch {
	case f.clean:
		return exit != "exit 0"
	case a == Reboot && c.Engine != engine.Bare:
		return f.reboot == "" || f.off != ""
	}
	return f.off != ""
}

// fateOf goes by the policy. One that nobody has heard of, or that a pod has and
// its files do not tell, may do anything.
func fateOf(c *engine.Container) fate {
	policy, _, _ := strings.Cut(c.Restart, ":") // on-failure:3
	f, known := fates()[policy]
	switch {
	case c.Engine == engine.Bare:
		return fate{reboot: "nobody is known who would start it again"}
	case !known, c.Pod && c.Restart == "":
		const unsure = "may start it again or not"
		return fate{off: unsure, reboot: unsure}
	case c.Reboots:
		f.reboot = ""
	}
	return f
}

// supervisor is who starts a container again, or does not.
func supervisor(c *engine.Container) string {
	if c.Pod {
		return "who runs the pod"
	}
	return c.Engine
}
