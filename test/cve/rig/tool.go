// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/sys"
)

// Tool is a build of the program.
type Tool struct {
	// Path is the program's file.
	Path string
	// RunDir is where it records its sessions.
	RunDir string

	t testing.TB
}

// In is the tool for a subtest, with a run directory of its own.
func (x *Tool) In(t testing.TB) *Tool {
	y := *x
	y.t, y.RunDir = t, filepath.Join(t.TempDir(), "run")
	return &y
}

// Args are those of a call of the tool, the program first.
func (x *Tool) Args(args ...string) []string {
	return append([]string{x.Path, "--run-dir", x.RunDir}, args...)
}

// Command is a call of the tool, or of what executes it in the end. It dies
// with the test and has no terminal. Its environment is small, so that what a
// test adds to it can be told apart.
func (x *Tool) Command(args ...string) *exec.Cmd {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true}
	cmd.WaitDelay = Deadline
	return cmd
}

// Result is how a call ended.
type Result struct {
	Code     int // -1 where a signal ended it
	Out, Err string
	Hung     bool // it was killed at the deadline
}

// Run calls the tool.
func (x *Tool) Run(args ...string) Result {
	x.t.Helper()
	return x.RunCommand(x.Command(x.Args(args...)...))
}

// RunCommand runs a Command to its end.
func (x *Tool) RunCommand(cmd *exec.Cmd) Result {
	x.t.Helper()
	return x.StartCommand(cmd).Wait()
}

// Start calls the tool and returns while it runs.
func (x *Tool) Start(args ...string) *Session {
	x.t.Helper()
	return x.StartCommand(x.Command(x.Args(args...)...))
}

// Session is a call of the tool that may still run. What it makes inside and
// outside ends with the test at the latest.
type Session struct {
	*exec.Cmd
	t        testing.TB
	out, err guarded
	ended    chan struct{}
	hung     *time.Timer
	killed   bool // at the deadline; read once ended is closed

	mu   sync.Mutex
	seen map[int]*Process // of the session, by number
}

// guarded is a buffer that is read while it is written.
type guarded struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (g *guarded) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.buf.Write(p)
}

func (g *guarded) String() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.buf.String()
}

// StartCommand starts a Command. Streams that it has none of are collected, or
// empty.
func (x *Tool) StartCommand(cmd *exec.Cmd) *Session {
	x.t.Helper()
	s := &Session{Cmd: cmd, t: x.t, ended: make(chan struct{}), seen: map[int]*Process{}}
	if cmd.Stdout == nil {
		cmd.Stdout = &s.out
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &s.err
	}
	if err := cmd.Start(); err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(s.end)
	s.hung = time.AfterFunc(Deadline, func() { s.killed = true; _ = cmd.Process.Kill() })
	go func() {
		_ = cmd.Wait() // the state tells
		close(s.ended)
	}()
	return s
}

// Wait waits for the end of the call.
func (s *Session) Wait() Result {
	<-s.ended
	s.hung.Stop()
	return Result{s.ProcessState.ExitCode(), s.out.String(), s.err.String(), s.killed}
}

// Ended tells whether the call has ended.
func (s *Session) Ended() bool {
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

// Output is what the call has written to its standard output so far.
func (s *Session) Output() string { return s.out.String() }

// end kills the call and its session, and collects what of that the test has
// inherited.
func (s *Session) end() {
	s.Processes()
	_ = s.Process.Kill()
	<-s.ended
	s.hung.Stop()
	for _, p := range s.seen { // a stopped one dies of SIGKILL too
		p.Signal(unix.SIGKILL)
		Eventually(s.t, "a process of the session cannot be killed", func() bool { return !p.Alive() })
	}
	for _, p := range s.seen { // those whose parents have ended are the test's now
		_ = unix.Waitid(unix.P_PIDFD, int(p.Pidfd.Fd()), nil, unix.WEXITED|unix.WNOHANG, nil)
		p.Pidfd.Close()
	}
}

// Reap collects wardens that the test process has inherited, of detached
// sessions and of killed calls, and waits for those that are about to end.
func Reap(t testing.TB) {
	t.Helper()
	Eventually(t, "a warden is left", func() bool {
		left := false
		for _, pid := range Children(os.Getpid()) {
			if name := Comm(pid); name != WardenName && name != ReaderName {
				continue // the test has started it itself
			}
			got, err := unix.Wait4(pid, nil, unix.WNOHANG, nil)
			left = left || got == 0 && err == nil
		}
		return !left
	})
}

// WardenName is what helpers are called, outside and inside, before they
// execute the command; ShepherdName is one that stays inside.
const (
	WardenName   = "outband-warden"
	ShepherdName = "outband"
	ReaderName   = "outband-reader" // what reads files of a target, and who watches it
)

// Eventually waits until ok; at the deadline the test has failed.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	if !Within(Deadline, ok) {
		t.Fatal(what)
	}
}

// Within tells whether ok comes true in time. A short time is for mutants
// alone, of which is to be shown that it does not.
func Within(d time.Duration, ok func() bool) bool {
	for until := time.Now().Add(d); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(until) {
			return ok()
		}
	}
	return true
}

// Process is a process that is held.
type Process struct {
	PID   int
	Pidfd *os.File
}

// Hold takes hold of a process; nil if it is gone.
func Hold(pid int) *Process {
	pidfd, err := sys.OpenPid(pid)
	if err != nil {
		return nil
	}
	return &Process{pid, pidfd}
}

// Signal sends a signal, unless the process is gone.
func (p *Process) Signal(sig unix.Signal) { _ = sys.Signal(p.Pidfd, sig, false) }

// Alive tells whether the process has not ended.
func (p *Process) Alive() bool {
	polls := []unix.PollFd{{Fd: int32(p.Pidfd.Fd()), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(polls, 0)
		if !errors.Is(err, unix.EINTR) {
			return n == 0 && err == nil
		}
	}
}
