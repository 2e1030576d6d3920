// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"os/exec"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Stops makes the program's helpers stop by themselves (SIGSTOP) before the
// system calls that Stop names, and gives them the time for that. It takes no
// defence away.
//
// A helper that stops is found where it is, however fast the machine: an attack
// has all the time it wants, and needs neither luck nor a debugger, which
// would change what may be done to a process.
func Stops() []Change {
	const call = "func (p *program) call(s Step, nr uintptr, args ...word) *pendingOp {\n"
	return []Change{
		{"internal/forkexec/program.go", call, call + "\tp.stop(s)\n"},
		{"internal/forkexec/stop.go", "", stopSource},
		{"command.go", "const startTimeout = 3 * time.Second", "const startTimeout = time.Hour"},
	}
}

const stopVariable = "OUTBAND_STOP"

// stopSource puts two system calls in front of others. Each place stops once,
// also in a loop.
const stopSource = `package forkexec

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

var calls = map[*program]int{}

func (p *program) stop(s Step) {
	n := calls[p]
	calls[p]++
	switch os.Getenv("` + stopVariable + `") {
	case "all", strconv.Itoa(n), s.String():
	default:
		return
	}
	// In front of a label that was placed for the call itself, so that who
	// jumps there stops as well.
	done := p.label()
	once, self := p.variable(0), p.variable(0)
	p.ifSame(once.value(), num(1), done)
	p.set(once, num(1))
	p.emit(StepNone, unix.SYS_GETPID, nil).into(self)
	p.emit(StepNone, unix.SYS_KILL, []word{self.value(), num(int(unix.SIGSTOP))})
	p.place(done)
}
`

// StopAll is every place; a step's text is all of its own.
const StopAll = "all"

// StopAt is the n-th place of a program, from 0.
func StopAt(n int) string { return strconv.Itoa(n) }

// Stop has a tool built with Stops stop at the places given.
func Stop(cmd *exec.Cmd, where string) *exec.Cmd {
	cmd.Env = append(cmd.Env, stopVariable+"="+where)
	return cmd
}

// Stopped waits until a helper of the session has stopped; nil when the call
// has ended, or goes on without.
func (s *Session) Stopped() *Process {
	s.t.Helper()
	var found *Process
	if !Within(Deadline, func() bool {
		for _, p := range s.Processes() {
			if State(p.PID) == 'T' {
				found = p
				return true
			}
		}
		return s.Ended()
	}) {
		s.t.Fatalf("neither stops nor ends: %q", s.err.String())
	}
	return found
}

// Continue lets a stopped process go on.
func (p *Process) Continue() { p.Signal(unix.SIGCONT) }

// EachStop calls visit for every process that stops, and lets it go on, until
// the call has ended.
func (s *Session) EachStop(visit func(p *Process)) Result {
	s.t.Helper()
	for p := s.Stopped(); p != nil; p = s.Stopped() {
		visit(p)
		p.Continue() // it runs when this returns (kernel/signal.c, prepare_signal)
	}
	return s.Wait()
}

// Pause makes a build stop as a whole, once the text after has been executed,
// where PauseAt names the point. dir and pkg are the package that file is in.
func Pause(dir, pkg, file, after, point string) []Change {
	return []Change{
		{filepath.Join(dir, file), after, after + "\n\tpause(\"" + point + "\")\n"},
		{filepath.Join(dir, "pause.go"), "", "package " + pkg + pauseSource},
	}
}

const pauseVariable = "OUTBAND_PAUSE"

const pauseSource = `

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// A signal to the thread itself is there before the next instruction; one to
// the process would first reach another thread.
func pause(point string) {
	if os.Getenv("` + pauseVariable + `") == point {
		runtime.LockOSThread()
		_ = unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGSTOP)
		runtime.UnlockOSThread()
	}
}
`

// PauseAt has a tool built with Pause stop at a point.
func PauseAt(cmd *exec.Cmd, point string) *exec.Cmd {
	cmd.Env = append(cmd.Env, pauseVariable+"="+point)
	return cmd
}

// AwaitPause waits until the call itself has stopped.
func (s *Session) AwaitPause() {
	s.t.Helper()
	Eventually(s.t, "the call does not pause", func() bool { return s.Ended() || State(s.Process.Pid) == 'T' })
	if s.Ended() {
		s.t.Fatalf("the call has ended before it paused: %+v", s.Wait())
	}
}
