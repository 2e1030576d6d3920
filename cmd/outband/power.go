// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/outband/outband"
	"github.com/outband/outband/engine"
	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/safetext"
	"github.com/outband/outband/internal/sys"
	"github.com/outband/outband/ns"
	"github.com/outband/outband/power"
)

// powerFlags are the flags of power.
type powerFlags struct {
	output                string
	grace                 time.Duration
	graceSet              bool
	force, thaw           bool
	throughEngine, anyway bool
}

// powerActions are what power can be told to do, besides status.
func powerActions() []power.Action {
	return []power.Action{power.On, power.Off, power.Reboot, power.Halt, power.Kill, power.Pause, power.Resume}
}

func (p *program) powerCommand() *cobra.Command {
	var f powerFlags
	words := []string{"status"}
	for _, a := range powerActions() {
		words = append(words, string(a))
	}
	c := &cobra.Command{
		Use:   "power TARGET [" + strings.Join(words, "|") + "]",
		Short: "Show and throw the power switch of a container",
		Long: `Throw the power switch of a container. off, reboot and halt go up rungs, each
shown as it is taken: the init is asked in its own words, asked harder, pressed
(reboot(2) from within its pid namespace), and killed with all that is in there.
It is done when nothing is left in the pid namespace; whether something brought
the container back is looked at and told. Without a word: status.

How the init ended is told as its parent sees it, where that is known: SIGINT
when it was pressed, SIGHUP for a reboot. Of an init that called reboot(2) by
itself the kernel tells others SIGKILL, or exit 0, which may be either.

A container in another's pid namespace has no power of its own: status tells what
its engine can do, the rest is refused, with the name of the other.

Refused before anything is done where the container's engine would undo it, as a
restart policy does with off; --through-engine has the engine's own command do
it, --anyway goes on. on is always the engine's.

Exit code: 0 done; 1 failed; 2 usage; 3 no such container, or ambiguous; 4
refused; 124 not done in time; 130 by ^C, which leaves the container as it is.`,
		Example: `  outband power web
  outband power web reboot
  outband power web off --grace 2m
  outband power docker:web off --through-engine
  outband power 1234 off --force`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			f.graceSet = c.Flags().Changed("grace")
			word := "status"
			if len(args) > 1 {
				word = args[1]
			}
			return failure("power "+args[0]+" "+word, p.power(&f, args[0], word))
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
			switch len(args) {
			case 0: // stopped ones too: on is for them
				return p.targetNames(word, func(*engine.Container) bool { return true })
			case 1:
				return words, cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
	}
	outputFlag(c, &f.output, "json")
	fl := c.Flags()
	fl.DurationVar(&f.grace, "grace", 30*time.Second, "how long the init is waited for each time that it is asked, and then its engine where that starts it again: `duration`")
	fl.BoolVar(&f.force, "force", false, "ask nobody, press at once")
	fl.BoolVar(&f.thaw, "thaw", false, "thaw a frozen target in cgroups of version 1 as well")
	fl.BoolVar(&f.throughEngine, "through-engine", false, "have the container's engine do it, by its own command")
	fl.BoolVar(&f.anyway, "anyway", false, "go on where the engine would undo it")
	return c
}

// power shows or throws the switch.
func (p *program) power(f *powerFlags, name, word string) error {
	action := power.Action(word)
	switch {
	case word != "status" && !slices.Contains(powerActions(), action):
		return fmt.Errorf("%w: %q is nothing that a power switch does", errUsage, word)
	case f.throughEngine && f.anyway:
		return fmt.Errorf("%w: --through-engine together with --anyway", errUsage)
	case f.throughEngine && (f.force || f.thaw):
		return fmt.Errorf("%w: --through-engine together with --force or --thaw", errUsage)
	case f.grace < 0:
		return fmt.Errorf("%w: --grace %v is less than nothing", errUsage, f.grace)
	}
	ctx, stop := untilSignal()
	defer stop()
	s := &switching{program: p, powerFlags: f, name: name, action: action}
	err := s.find(ctx)
	if s.target != nil {
		defer s.target.Close()
	}
	if err == nil && word == "status" {
		err = s.status(ctx)
	} else if err == nil {
		err = s.throw(ctx)
	}
	return s.interrupted(ctx, word, err)
}

// interrupted tells where an action stood when outband was told to end.
func (s *switching) interrupted(ctx context.Context, word string, err error) error {
	var by *signalError
	if err == nil || !errors.As(context.Cause(ctx), &by) {
		return err
	}
	stood := err.Error()
	var at *power.StoodError
	if errors.As(err, &at) {
		stood = fmt.Sprintf("its init still runs and is left as it is; the last rung was %s (%s)", at.Rung, at.How)
	}
	s.say("power %s %s: %v: %s", s.name, word, by, stood)
	return exitStatus(128 + int(by.sig))
}

// signalError is the signal that ended the waiting.
type signalError struct{ sig unix.Signal }

func (e *signalError) Error() string { return "interrupted by " + unix.SignalName(e.sig) }

// untilSignal is a context that ends when outband is told to end.
func untilSignal() (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	for _, s := range []os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP} {
		if !signal.Ignored(s) {
			signal.Notify(signals, s)
		}
	}
	go func() {
		select {
		case s := <-signals:
			sig, _ := s.(unix.Signal)
			cancel(&signalError{sig})
		case <-ctx.Done():
		}
	}()
	return ctx, func() { signal.Stop(signals); cancel(nil) }
}

// switching is one throw of the switch.
type switching struct {
	*program
	*powerFlags
	name   string
	action power.Action

	target    *outband.Target   // nil where it does not run
	container *engine.Container // what engines know of it
	owner     *engine.Container // whose pid namespace it shares; nil: nobody's that is known
	unsure    bool              // some engine has not answered, whose it may be
	show      *ladder
}

// find takes hold of the target if it runs, and looks up what engines know of it.
// All processes are read for that first, those that can be: a container that is
// to be powered off may have some that cannot.
func (s *switching) find(ctx context.Context) error {
	list, unsure := engine.List(ctx, s.engines())
	s.doubt(unsure)
	return s.findIn(ctx, list, unsure)
}

// findIn is find where it is known what engines have to say.
func (s *switching) findIn(ctx context.Context, list []engine.Container, unsure error) error {
	c, err := engine.Named(list, s.name)
	switch {
	case errors.Is(err, engine.ErrNotFound): // by another name than an engine's
		s.target, err = outband.OpenIn(ctx, s.name, s.runDir, engines()...)
	case err != nil:
		return err
	case c.Init.PID == 0 && errors.Is(unsure, procfs.ErrIncomplete):
		return fmt.Errorf("whether it runs is not known: %w", unsure)
	case c.Init.PID == 0:
		s.container = c
		return nil
	default:
		s.target, err = openInit(ctx, c)
	}
	if err != nil {
		return err
	}
	s.container = known(list, s.target)
	s.unsure = unsure != nil && s.container.Engine == engine.Bare
	s.owner = ownerOf(list, s.target)
	return nil
}

// openInit takes hold of a container's own first process, which is not number 1
// where it is in another's pid namespace.
func openInit(ctx context.Context, c *engine.Container) (*outband.Target, error) {
	gone := fmt.Errorf("%w: %s", outband.ErrGone, safetext.Escape(c.FullName()))
	pidfd, err := sys.OpenPid(c.Init.PID)
	if errors.Is(err, unix.ESRCH) {
		return nil, gone
	}
	if err != nil {
		return nil, err
	}
	defer pidfd.Close()
	t, err := outband.OpenPidfd(ctx, int(pidfd.Fd()))
	if err == nil && t.Started() != c.Init.Start { // the number is another's by now
		t.Close()
		return nil, gone
	}
	return t, err
}

// ownerOf is whose pid namespace a target is in, as engines know them; nil where it
// is its own, or the caller's.
func ownerOf(list []engine.Container, t *outband.Target) *engine.Container {
	pids := t.PIDs()
	if len(pids) < 2 || pids[len(pids)-1] == 1 {
		return nil
	}
	for i := range list {
		c := &list[i].Init
		if c.PIDNS == t.Namespaces()[ns.PID] && len(c.PIDs) > 0 && c.PIDs[len(c.PIDs)-1] == 1 {
			return &list[i]
		}
	}
	return nil
}

// known is what engines know of a target; for one that none knows, that it is a
// pid namespace.
func known(list []engine.Container, t *outband.Target) *engine.Container {
	for i := range list {
		if list[i].Init.PID == t.PID() && list[i].Init.Start == t.Started() {
			return &list[i]
		}
	}
	init := engine.Init{PID: t.PID(), PIDs: t.PIDs(), Start: t.Started()}
	return &engine.Container{Engine: engine.Bare, Name: fmt.Sprintf("pid:%d", t.PID()), State: engine.Running, Init: init}
}
