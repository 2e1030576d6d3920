// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband"
)

// visit is a command in a container from its start to its end, and what is done
// for it meanwhile outside.
type visit struct {
	*program
	*enterFlags
	target *outband.Target
	cmd    *outband.Cmd
	cancel context.CancelFunc // ends the command

	record   *record
	keyboard *keyboard // nil: nobody types
	signals  chan os.Signal
	gaveUp   chan unix.Signal // the one that made outband hang up
	timedOut atomic.Bool
}

// run starts the command, attends to it, waits, and returns its exit code as an
// error.
func (v *visit) run() error {
	if v.cmd.Terminal {
		v.keyboard = useTerminal(v.cmd)
		defer v.keyboard.close()
	}
	plan, err := v.cmd.Plan()
	if err != nil {
		return err
	}
	v.tell(plan)
	if v.record, err = v.begin(v.target, v.cmd, plan); err != nil {
		return err
	}
	if err := v.start(); err != nil {
		v.record.failed(err)
		return err
	}
	v.record.started(v.cmd.Process)
	if v.detach {
		return v.record.detach(v.stdout)
	}
	if v.timeout > 0 {
		timer := time.AfterFunc(v.timeout, func() { v.timedOut.Store(true); v.cancel() })
		defer timer.Stop()
	}
	v.attend()
	err = v.cmd.Wait()
	v.keyboard.close()
	v.record.ended(v.cmd.ProcessState, err)
	return v.outcome(err)
}

// tell says what is to be known before anything is done: what was asked for
// beyond the target's own confinement, and what the target is like.
func (v *visit) tell(plan *outband.Plan) {
	if v.debug {
		defer func() {
			for _, note := range plan.Notes {
				v.say("note: %s", note)
			}
		}()
	}
	if v.quiet {
		return
	}
	if plan.InitStopped {
		v.say("note: the container's init is stopped by a signal: what it would do waits")
	}
	if len(plan.Thaw) > 0 {
		v.say("warning: --thaw: the container goes on, also when the command has ended")
	}
	if v.privileged {
		v.say("warning: --privileged: the command may more than the container's own init")
	}
	if v.passStreams {
		v.say("warning: --pass-streams: the container can reach the files behind descriptors 0, 1, 2")
	}
}

// start starts the command, with signals caught from then on.
func (v *visit) start() error {
	v.signals, v.gaveUp = make(chan os.Signal, 16), make(chan unix.Signal, 1)
	caught := make(chan struct{})
	if v.keyboard != nil { // whoever is ended from here on has something to restore
		catch(v.signals, v.cmd.Terminal)
		v.keyboard.raw()
		close(caught)
	} else {
		go func() { // beside the way in: it makes the runtime start threads
			defer close(caught)
			catch(v.signals, v.cmd.Terminal)
		}()
	}
	err := v.cmd.Start()
	<-caught
	if err == nil && v.cmd.Process.NamelessTerminal() && !v.quiet {
		v.keyboard.cooked(func() {
			v.say("note: %s has no usable devpts: its terminal is one of outband's own, without a name inside", v.target.Name())
		})
	}
	if err == nil && v.cmd.Process.Unattended() && !v.quiet {
		v.keyboard.cooked(func() {
			v.say("note: a filter of %s hands system calls to a listener, which the command has not: they fail with ENOSYS", v.target.Name())
		})
	}
	return err
}

// attend passes on what reaches outband while the command runs.
func (v *visit) attend() {
	if v.cmd.Terminal {
		go attend(v.cmd.Process, v.keyboard, v.signals, v.cancel, v.gaveUp)
	} else {
		go forward(v.cmd.Process, v.signals)
	}
}

// outcome is what outband exits with, as an error; err is that of waiting.
func (v *visit) outcome(err error) error {
	state := v.cmd.ProcessState
	if state == nil {
		return err
	}
	if state.Left() {
		v.say("enter %s: something of the session would not end; it waits in the kernel", v.target.Name())
	}
	if v.timedOut.Load() {
		return exitStatus(codeTimeout)
	}
	select {
	case s := <-v.gaveUp:
		return exitStatus(128 + int(s))
	default:
	}
	return exitCode(state)
}

// exitCode is the shell's way to tell how a command ended; nil for 0.
func exitCode(s *outband.ProcessState) error {
	switch {
	case s.Signal() != 0:
		return exitStatus(128 + int(s.Signal()))
	case s.ExitCode() != 0:
		return exitStatus(s.ExitCode())
	}
	return nil
}
