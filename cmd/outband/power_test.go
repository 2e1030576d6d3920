// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband"
	"github.com/outband/outband/engine"
	"github.com/outband/outband/internal/safetext"
	"github.com/outband/outband/power"
)

// TestOwnNamespace: nothing leads to the switch of the machine, or of what the
// caller itself is in. Nothing is thrown here: allowed is all that is asked.
// Without its second case the first loop fails.
func TestOwnNamespace(t *testing.T) {
	child := exec.Command("sleep", "1000")
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWUTS} // all else is the caller's
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = child.Process.Kill(); _ = child.Wait() }()
	self, err := outband.OpenPID(t.Context(), child.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	for _, a := range powerActions() {
		if a == power.On {
			continue // it runs
		}
		for _, f := range []powerFlags{{}, {anyway: true}, {force: true, anyway: true}, {thaw: true, anyway: true}} {
			s := switching{powerFlags: &f, name: "x", action: a, target: self, container: known(nil, self)}
			if err := s.allowed(); !errors.Is(err, outband.ErrOwnNamespace) || codeOf(err) != codeRefused {
				t.Errorf("%s %+v: %v", a, f, err)
			}
		}
	}
}

// TestAllowed: what the engine would undo is refused before anything is done,
// unless the caller says so or has the engine do it.
func TestAllowed(t *testing.T) {
	box := box(t)
	target, err := outband.OpenPID(t.Context(), box.Pid())
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	docker := &engine.Container{Engine: "docker", Name: "web", Restart: "always"}
	for _, row := range []struct {
		f    powerFlags
		a    power.Action
		want error
	}{
		{powerFlags{}, power.Off, power.ErrDefeated}, {powerFlags{force: true}, power.Kill, power.ErrDefeated},
		{powerFlags{}, power.Reboot, nil}, {powerFlags{}, power.Pause, nil}, {powerFlags{anyway: true}, power.Off, nil},
		{powerFlags{throughEngine: true}, power.Off, nil},
	} {
		s := switching{powerFlags: &row.f, action: row.a, target: target, container: docker}
		if err := s.allowed(); !errors.Is(err, row.want) || err != nil && codeOf(err) != codeRefused {
			t.Errorf("%s %+v: %v", row.a, row.f, err)
		}
	}
	unsure := switching{powerFlags: &powerFlags{}, action: power.Off, target: target, container: known(nil, target), unsure: true}
	if err := unsure.allowed(); codeOf(err) != codeRefused {
		t.Errorf("with an engine that does not answer: %v", err)
	}
	off := switching{powerFlags: &powerFlags{}, action: power.Off, container: docker}
	if err := off.allowed(); !errors.Is(err, outband.ErrNotRunning) || codeOf(err) != codeNotFound {
		t.Errorf("one that does not run: %v", err)
	}
}

// TestEnded: an end that is not the one that was asked for is a failure, unless
// the caller has said that it may be so.
func TestEnded(t *testing.T) {
	back := &power.Back{PIDs: []int{7, 1}}
	for _, row := range []struct {
		a      power.Action
		anyway bool
		r      power.Result
		code   int // 0: as asked for
	}{
		{power.Off, false, power.Result{Done: true}, 0},
		{power.Off, false, power.Result{Done: true, Back: back}, codeFailed},
		{power.Kill, false, power.Result{Done: true, Back: back}, codeFailed},
		{power.Off, true, power.Result{Done: true, Back: back}, 0},
		{power.Reboot, false, power.Result{Done: true, Back: back}, 0},
		{power.Reboot, false, power.Result{Done: true}, codeFailed},
		{power.Reboot, true, power.Result{Done: true}, 0},
		{power.Pause, false, power.Result{Done: true}, 0},
		{power.Off, true, power.Result{}, codeTimeout},
		{power.Off, false, power.Result{Left: []power.Process{{Comm: "dd"}}}, codeTimeout},
	} {
		s := switching{powerFlags: &powerFlags{anyway: row.anyway}, action: row.a}
		err := s.ended(&row.r)
		if (err == nil) != (row.code == 0) || err != nil && codeOf(err) != row.code {
			t.Errorf("%s anyway=%v %+v: %v", row.a, row.anyway, row.r, err)
		}
	}
}

// TestAs: what an engine's command says it has done is compared with what is
// there afterwards.
func TestAs(t *testing.T) {
	init := func(pid int) *engine.Container { return &engine.Container{Init: engine.Init{PID: pid, Start: 9}} }
	stopped, paused := init(0), init(5)
	paused.State = engine.Paused
	for _, row := range []struct {
		a      power.Action
		now    *engine.Container
		before *engine.Container
		want   bool
	}{
		{power.Off, stopped, init(5), true}, {power.Off, nil, init(5), true}, {power.Off, init(5), init(5), false},
		{power.Halt, init(6), init(5), false}, {power.Kill, stopped, init(5), true},
		{power.On, init(5), stopped, true}, {power.On, stopped, stopped, false}, {power.On, nil, stopped, false},
		{power.Reboot, init(6), init(5), true}, {power.Reboot, init(5), init(5), false}, {power.Reboot, stopped, init(5), false},
		{power.Pause, paused, init(5), true}, {power.Pause, init(5), init(5), false}, {power.Pause, init(6), init(5), false},
		{power.Resume, init(5), paused, true}, {power.Resume, paused, paused, false}, {power.Resume, stopped, paused, false},
	} {
		if got := as(row.now, row.before, row.a); got != row.want {
			t.Errorf("%s: %+v after %+v: %v", row.a, row.now, row.before, got)
		}
	}
}

// TestPowerAudit: each throw leaves a line in the audit log, by whom, what of
// which container and how it ended; what was refused was never begun.
func TestPowerAudit(t *testing.T) {
	run := t.TempDir()
	p := &program{runDir: run, stdout: safetext.NewWriter(t.Output()), stderr: safetext.NewWriter(t.Output())}
	name := strconv.Itoa(box(t).Pid())
	if err := p.power(&powerFlags{throughEngine: true}, name, "off"); !errors.Is(err, power.ErrNoWay) {
		t.Fatal(err)
	}
	if err := p.power(&powerFlags{}, name, "reboot"); !errors.Is(err, power.ErrDefeated) {
		t.Fatal(err)
	}
	log, err := os.ReadFile(filepath.Join(run, "audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(log)), "\n")
	for _, want := range []string{`"target":"pid:` + name + `"`, `"verb":"power","command":["off","--through-engine"]`, `"how":"not done"`, `"error":"its engine has no command for that`, `"by":{"uid":`} {
		if len(lines) != 1 || !strings.Contains(lines[0], want) {
			t.Errorf("%d lines, without %s: %s", len(lines), want, log)
		}
	}
}

// TestUntilSignal: being told to end is told from other ends.
func TestUntilSignal(t *testing.T) {
	ctx, stop := untilSignal()
	defer stop()
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := self.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	var by *signalError
	if !errors.As(context.Cause(ctx), &by) || by.sig != unix.SIGTERM {
		t.Errorf("%v", context.Cause(ctx))
	}
}
