// SPDX-License-Identifier: Apache-2.0

// Package ptrace reads of a process what no file tells: the system call filters
// it runs under. The process is stopped for that, for some microseconds, and
// goes on as if nothing had been, but for calls that return EINTR after any
// stop (epoll_wait(2), sigtimedwait(2) and their like; signal(7)).
package ptrace

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/sys"
)

// Filter is one system call filter of a process, see seccomp(2).
type Filter struct {
	Program []byte // its instructions, 8 bytes each (struct sock_filter)
	Flags   uint32 // those that the kernel tells: SECCOMP_FILTER_FLAG_LOG
}

// Tracee is the process to be read.
type Tracee struct {
	PID   int
	Pidfd *os.File
	Dir   *os.File // its /proc directory
}

// Errors of Filters.
var (
	// ErrTraced says that another tracer has the process, and kept it until the
	// deadline: a debugger, or somebody who does the same.
	ErrTraced = errors.New("it is traced by another process")
	// ErrChanged says that the process has added filters meanwhile.
	ErrChanged = errors.New("its filters have changed meanwhile")
	// ErrDeadline says that the process could not be stopped in time: it waits
	// in the kernel, or its cgroup (version 1) is frozen.
	ErrDeadline = errors.New("it cannot be stopped in time")
)

// Filters returns the filters of a process, the oldest first. There must be
// count of them (Seccomp_filters in status, 5.9).
//
// It needs CAP_SYS_ADMIN in the initial user namespace and a caller without
// filters, else EACCES; the right to trace the process, else EPERM; and
// CONFIG_CHECKPOINT_RESTORE, else EIO. A process that is gone is ESRCH. Linux
// 4.4; for the flags 4.16.
func Filters(p Tracee, count int, deadline time.Time) (filters []Filter, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // tracing belongs to a thread
		var free bool
		if filters, free, err = p.filters(count, deadline); free {
			runtime.UnlockOSThread() // else the thread ends here, and its tracing with it
		}
	}()
	<-done
	return filters, err
}

// filters is Filters on one thread; free says that it traces nothing any more.
func (p Tracee) filters(count int, deadline time.Time) (filters []Filter, free bool, err error) {
	if err := p.seize(deadline); err != nil {
		return nil, true, err
	}
	err = p.held() // A19: while the pidfd lives, the number was its own
	if err == nil {
		err = os.NewSyscallError("ptrace interrupt", unix.PtraceInterrupt(p.PID))
	}
	if err == nil {
		filters, err = p.read(count, deadline)
	}
	return filters, p.release(deadline), err
}

// release lets go of the tracee. One that does not stop until the deadline is
// let go of only by the end of the thread: false.
func (p Tracee) release(deadline time.Time) bool {
	for ; ; time.Sleep(pause) {
		if unix.PtraceDetach(p.PID) == nil {
			return true
		}
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, p.PID, &info, unix.WEXITED|unix.WNOWAIT|unix.WNOHANG|unix.WALL, nil)
		switch {
		case err != nil: // not traced any more
			return true
		case info.Signo != 0: // it has ended: a tracer hands it on to its parent by waiting
			if !p.shows("PPid", os.Getpid()) {
				_, _ = unix.Wait4(p.PID, nil, unix.WNOHANG|unix.WALL, nil)
			}
			return true
		case time.Now().After(deadline):
			return false
		}
		_ = unix.PtraceInterrupt(p.PID) // gone: the next round tells
	}
}

// held returns ESRCH when the process is gone.
func (p Tracee) held() error { return sys.Signal(p.Pidfd, 0, false) }

// A tracee stops at once, mostly: so long is asked without a pause, and then
// with one, which takes longer than it says.
const (
	busy  = 200 * time.Microsecond
	pause = 50 * time.Microsecond
)

// seize makes the calling thread the tracer. One who is it already is waited
// for: that there is but one is the lock among all who read at the same time.
func (p Tracee) seize(deadline time.Time) error {
	const attempts = 3 // of which another tracer may have let go before it is seen
	for refused := 0; ; time.Sleep(pause) {
		err := unix.PtraceSeize(p.PID)
		switch {
		case err == nil:
			return nil
		case p.held() != nil:
			return p.held()
		case p.shows("TracerPid", 0):
			if refused++; refused == attempts {
				return os.NewSyscallError("ptrace seize", err)
			}
		case time.Now().After(deadline):
			return fmt.Errorf("%w: %w", ErrTraced, err)
		}
	}
}

// shows tells whether a line of the process's status has the number n.
func (p Tracee) shows(key string, n int) bool {
	buf := make([]byte, 4096)
	size := 0
	_ = sys.Control(p.Dir, func(dir int) {
		fd, err := unix.Openat(dir, "status", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			size, _ = unix.Read(fd, buf)
			unix.Close(fd)
		}
	})
	return bytes.Contains(buf[:max(size, 0)], fmt.Appendf(nil, "\n%s:\t%d\n", key, n))
}

// read reads the filters of a tracee that is about to stop. Nothing waits for
// the stop but the first request that succeeds: wait(2) would take what another
// thread of the program waits for, and the other way round.
func (p Tracee) read(count int, deadline time.Time) ([]Filter, error) {
	var filters []Filter
	until := time.Now().Add(busy)
	for i := 0; ; i++ {
		f, err := p.filter(i)
		switch {
		case err == nil && i < count:
			filters = append(filters, f)
		case err == nil || errors.Is(err, unix.ENOENT) && i < count:
			return nil, ErrChanged
		case errors.Is(err, unix.ENOENT):
			return filters, nil
		case !errors.Is(err, unix.ESRCH):
			return nil, os.NewSyscallError("ptrace get filter", err)
		case p.held() != nil:
			return nil, p.held()
		case time.Now().After(deadline):
			return nil, ErrDeadline
		default: // it has not stopped yet
			i--
			if time.Now().After(until) {
				time.Sleep(pause)
			}
		}
	}
}
