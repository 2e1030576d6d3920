// SPDX-License-Identifier: Apache-2.0

package forkexec

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/sys"
)

// Error is a step that failed on the way in: nothing was executed, and nothing
// of the session is left.
type Error struct {
	Step Step
	Err  error // a unix.Errno
}

func (e *Error) Error() string { return e.Step.String() + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Errors of Start and Wait that are not a failed step.
var (
	// ErrDeadline says that the way in took longer than the context allows:
	// something of the target does not answer.
	ErrDeadline = errors.New("no answer in time")
	// ErrKilled says that a process of the session was killed on the way in.
	ErrKilled = errors.New("the joining process was killed")
	// ErrWardenLost says that the warden was killed: the command is dead, how
	// it ended is not known, and the session's cgroup is the caller's to end.
	ErrWardenLost = errors.New("the session's warden was killed")

	errNoStream = errors.New("forkexec: Stdin, Stdout or Stderr is missing")
)

// Session is a command inside a target.
type Session struct {
	warden *process
	link   *os.File
	pidfd  *os.File
	modern bool

	terminal   *os.File // the caller's end of the command's
	own        bool     // it is of an instance of devpts of our own
	unattended bool     // see Unattended
}

// Terminal is the other end of the command's terminal, the caller's to close,
// and whether the target has none of its own: then it is one without a name
// inside. nil where none was asked for.
func (s *Session) Terminal() (master *os.File, own bool) { return s.terminal, s.own }

// Start carries out spec. It returns when the command has been executed, or
// with what kept it from that. The context bounds the way in, not the session.
//
// It may be called from any goroutine; the namespaces and limits that the
// session starts from are those of the calling thread.
func Start(ctx context.Context, spec *Spec) (*Session, error) {
	return start(ctx, *spec, sys.ReapsByPidfd())
}

// start is Start for a kernel that is modern (see Spec) or not.
func start(ctx context.Context, spec Spec, modern bool) (*Session, error) {
	desk, err := openDesk(&spec)
	if err != nil {
		return nil, err
	}
	defer desk.close()
	if spec.Null == nil && (spec.Stdin == nil || spec.Stdout == nil || spec.Stderr == nil) {
		return nil, errNoStream
	}
	spec.Modern = modern
	self, err := sys.Self()
	if err != nil {
		return nil, err
	}
	defer self.Close()
	execR, execW, err := sys.Pipe()
	if err != nil {
		return nil, &Error{StepStartWarden, err}
	}
	defer execR.Close()
	defer execW.Close()
	link, far, err := sys.Socketpair()
	if err != nil {
		return nil, &Error{StepStartWarden, err}
	}
	defer far.Close()
	warden, err := launch(&spec, execW, far, self)
	if err != nil {
		link.Close()
		return nil, err
	}
	// What only the warden and its children may hold is closed here, so that
	// its end can be seen.
	execW.Close()
	far.Close()
	s := &Session{warden: warden, link: link, modern: spec.Modern}
	err = s.arrive(ctx, spec.Deadline, execR)
	if err == nil {
		s.terminal, s.own, err = desk.take()
	}
	if err != nil {
		s.abandon()
		return nil, warden.failure(err)
	}
	warden.first = nil // it has executed
	return s, nil
}

// arrive waits until the command is executed: end of file on exec, with nothing
// read, and the warden's word that there is a command.
//
// It blocks in the kernel rather than in Go's poller: every wake-up of another
// thread on the way costs as much as a fork.
func (s *Session) arrive(ctx context.Context, deadline time.Time, exec *os.File) error {
	if ctx.Done() != nil { // the warden takes down what there is, and exec ends
		defer context.AfterFunc(ctx, s.hangUp)()
	}
	if d, ok := ctx.Deadline(); ok && (deadline.IsZero() || d.Before(deadline)) {
		deadline = d
	}
	if !sys.Await(deadline, exec, s.link) {
		return ErrDeadline
	}
	var record [headerSize]byte
	n, err := io.ReadFull(exec, record[:])
	switch {
	case n == len(record):
		return stepError(record[:])
	case !errors.Is(err, io.EOF):
		return fmt.Errorf("read from the joiner: %w", err)
	case !sys.Await(deadline, s.link, nil):
		return ErrDeadline
	}
	kind, body, fd, err := s.receive()
	s.pidfd = fd
	switch {
	case ctx.Err() != nil:
		return ErrDeadline
	case err == nil && kind == messageStarted && fd != nil && len(body) == 8:
		s.unattended = binary.LittleEndian.Uint64(body)&learnedUnattended != 0
		return nil
	case err == nil && kind == messageLost:
		return stepError(body)
	}
	return ErrKilled
}

// hangUp tells the warden that the caller is gone.
func (s *Session) hangUp() {
	_ = sys.Control(s.link, func(fd int) { _ = unix.Shutdown(fd, unix.SHUT_WR) })
}

// stepError is the Error that a process left in its header.
func stepError(header []byte) error {
	le := binary.LittleEndian
	return &Error{Step(le.Uint64(header[8:])), unix.Errno(le.Uint64(header))}
}

// receive reads one message of the warden; io.EOF when there is none any more.
func (s *Session) receive() (kind uint64, body []byte, fd *os.File, err error) {
	buf := make([]byte, 16+statusSize)
	n, fd, err := sys.Receive(s.link, buf)
	if err != nil {
		return 0, nil, nil, err
	}
	if n < 8 {
		return 0, nil, nil, io.EOF
	}
	return binary.LittleEndian.Uint64(buf), buf[8:max(n, 8)], fd, nil
}

// abandon gives a session up that never began, as far as the caller knows: the
// warden sees its link shut down and takes down what there is. If it had begun
// meanwhile, the command is killed, since a detached session goes on.
func (s *Session) abandon() {
	s.hangUp()
	if s.terminal != nil {
		s.terminal.Close()
	}
	pidfd := s.pidfd
	for err := error(nil); err == nil; {
		if pidfd != nil {
			_ = sys.Signal(pidfd, unix.SIGKILL, false)
			pidfd.Close()
		}
		_, _, pidfd, err = s.receive()
	}
	s.link.Close()
	s.warden.wait()
}

// Pidfd refers to the command; it stays open until Wait returns.
func (s *Session) Pidfd() *os.File { return s.pidfd }

// Unattended tells whether a filter of the command's hands system calls to a
// listener or a tracer, neither of which it has: those calls fail with ENOSYS.
func (s *Session) Unattended() bool { return s.unattended }

// Warden is the number of the process that owns the session, in the caller's
// pid namespace, for display.
func (s *Session) Warden() int { return s.warden.pid }

// Signal sends sig to the command, or to its process group (6.9) where group
// is set; on older kernels the command alone gets it.
func (s *Session) Signal(sig unix.Signal, group bool) error {
	return sys.Signal(s.pidfd, sig, group)
}

// End makes the warden end the session, as if the caller were gone; Wait
// returns then.
func (s *Session) End() error {
	return s.Signal(unix.SIGKILL, false)
}

// Wait waits until the session has ended: the command is reaped and what it
// left behind is gone. It releases the session. An Error says that the warden
// failed on the way and ended the session for that.
func (s *Session) Wait() (Status, error) {
	defer s.pidfd.Close()
	defer s.link.Close()
	// The warden's last message is there when it is gone: one wake-up less.
	s.warden.wait()
	kind, body, _, err := s.receive()
	switch {
	case err == nil && kind == messageLost:
		return Status{}, stepError(body)
	case err != nil || kind != messageEnded || len(body) != 8+statusSize:
		return Status{}, ErrWardenLost
	}
	left := binary.LittleEndian.Uint64(body)&endedLeft != 0
	return decodeStatus(body[8:], s.modern, left)
}
