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
	"github.com/outband/outband/internal/sys"
	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/ns"
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
	unsure := switching{program: p, powerFlags: &powerFlags{}, action: power.Off, container: &engine.Container{Engine: engine.Bare, Name: "pid:7"}, unsure: true}
	if _, err := unsure.byEngine(t.Context()); !errors.Is(err, outband.ErrDeadline) {
		t.Errorf("with an engine that has not answered: %v", err)
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

// system is a container whose init is a shell's script.
func system(t *testing.T, script string) *throwaway.Container {
	t.Helper()
	c, err := throwaway.Start(t.Context(), shellSystem("box", script))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := attendInit(c); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestPowerTerminal: at a terminal there is a line that says what is waited for,
// and since when. ^C leaves the container as it is, takes the line away, and says
// where it stood. Without the erasing of end the last line would stand behind it.
func TestPowerTerminal(t *testing.T) {
	c := system(t, `trap : TERM; while :; do sleep 0.05; done`)
	run := t.TempDir()
	name := strconv.Itoa(c.Pid())
	d := sit(t, run, nil, "outband", "--run-dir", run, "power", name, "off")
	d.see(name + ": ask (SIGTERM), 1s of 30s; ^C leaves it as it is")
	d.press("\x03")
	if got := d.code(); got != 130 {
		t.Errorf("exit code %d", got)
	}
	given := "given up: its init still runs, and stays as it is\r\n"
	d.until("it is not said", func() bool { d.mu.Lock(); defer d.mu.Unlock(); return strings.Contains(d.shown.String(), given) })
	d.mu.Lock()
	var screen sheet
	_, _ = screen.Write([]byte("the line with ^C leaves" + d.shown.String()))
	d.mu.Unlock()
	if text := screen.text(); strings.Contains(text, "^C leaves") {
		t.Errorf("the line of progress is left: %q", text)
	}
	d.see(given)
	d.see("interrupted by SIGINT: its init still runs and is left as it is; the last rung was ask (SIGTERM)\r\n")
	if err := c.Signal(0); err != nil {
		t.Errorf("the container: %v", err)
	}
	log, err := os.ReadFile(filepath.Join(run, "audit.jsonl"))
	if err != nil || !strings.Contains(string(log), `"how":"not done","error":"off: given up while its init still ran`) {
		t.Errorf("%v: %s", err, log)
	}
}

// TestPowerPiped: what is no terminal gets no line of progress, nor what comes of
// one.
func TestPowerPiped(t *testing.T) {
	c := system(t, `trap : TERM; while :; do sleep 0.05; done`)
	cmd := exec.Command(os.Args[0], "--run-dir", t.TempDir(), "power", strconv.Itoa(c.Pid()), "off", "--grace", "600ms")
	cmd.Args[0] = "outband"
	out, err := cmd.CombinedOutput()
	if err != nil || strings.ContainsAny(string(out), "\r\x1b") || !strings.Contains(string(out), "its init ended with SIGINT") {
		t.Errorf("%v: %q", err, out)
	}
}

// TestSharedSpace: a container in another's pid namespace is itself, not the other:
// what it is is told, and that the switch is the other's. Held by its number alone
// it would be the other.
func TestSharedSpace(t *testing.T) {
	web, err := outband.OpenPID(t.Context(), box(t).Pid())
	if err != nil {
		t.Fatal(err)
	}
	defer web.Close()
	guest := web.Command("sleep", "1000")
	if err := guest.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = guest.Process.Signal(unix.SIGKILL); _ = guest.Wait() }()
	shr, err := holdNumber(guest.Process.PIDs()[0])
	if err != nil {
		t.Fatal(err)
	}
	defer shr.Close()
	list := []engine.Container{{Engine: "docker", Name: "web", Init: initOf(web)}, {Engine: "docker", Name: "shr", ID: "5a", State: engine.Running, Init: initOf(shr)}}
	var out strings.Builder
	s := &switching{program: &program{stdout: &out, stderr: t.Output()}, powerFlags: &powerFlags{output: "json"}, name: "shr", action: power.Off}
	if err := s.findIn(t.Context(), list, nil); err != nil {
		t.Fatal(err)
	}
	defer s.target.Close()
	err = s.allowed()
	if codeOf(err) != codeRefused || !strings.HasSuffix(err.Error(), "it shares the pid namespace of docker:web") {
		t.Errorf("off: %v", err)
	}
	for _, way := range []string{"--through-engine", "outband power docker:web off"} {
		if !strings.Contains(outband.Hint(err), way) {
			t.Errorf("without %s: %q", way, outband.Hint(err))
		}
	}
	if err := s.status(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`{"state":"running","init":{"pid":` + strconv.Itoa(shr.PID()), `"can":[],"through_engine":["off","reboot","halt","kill","pause"]`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("without %s: %s", want, out.String())
		}
	}
	list[1].Init.Start++
	if err := s.findIn(t.Context(), list, nil); !errors.Is(err, outband.ErrGone) {
		t.Errorf("a number that was given away: %v", err)
	}
}

func holdNumber(pid int) (*outband.Target, error) {
	pidfd, err := sys.OpenPid(pid)
	if err != nil {
		return nil, err
	}
	defer pidfd.Close()
	return outband.OpenPidfd(context.Background(), int(pidfd.Fd()))
}

func initOf(t *outband.Target) engine.Init {
	return engine.Init{PID: t.PID(), PIDs: t.PIDs(), Start: t.Started(), PIDNS: t.Namespaces()[ns.PID]}
}
