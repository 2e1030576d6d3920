// SPDX-License-Identifier: Apache-2.0

package forkexec

import (
	"errors"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/sys"
)

// process is a child of the caller, held by its pidfd.
type process struct {
	pid   int
	pidfd *os.File
	first *shared // what it carries out before it executes
}

// launch starts the warden: a child that executes an image made for spec.
func launch(spec *Spec, exec, link, tool *os.File) (*process, error) {
	data, files, err := compile(spec, exec, link, tool)
	if err != nil {
		return nil, err
	}
	return execute(data, files)
}

// execute starts a child that executes an image made of a program, in a session
// of its own and without an environment.
func execute(data []byte, files []*os.File) (*process, error) {
	image, err := sealed(data)
	if err != nil {
		return nil, &Error{StepStartWarden, err}
	}
	defer image.Close()
	first, err := share(becoming(files, image))
	if err != nil {
		return nil, err
	}
	pid, pidfd, err := first.start()
	runtime.KeepAlive(files)
	if err != nil {
		return nil, &Error{StepStartWarden, err}
	}
	return &process{pid, os.NewFile(uintptr(pidfd), "pidfd"), first}, nil
}

// becoming is the program by which a child executes image with files as its
// descriptors 0, 1, 2 …, in a session of its own. The child has a table of
// descriptors for itself.
func becoming(files []*os.File, image *os.File) *program {
	p := newProgram(nil)
	failed := p.label()
	p.onFailure(failed)
	call := func(nr int64, args ...word) *pendingOp { return p.emit(StepStartWarden, nr, args) }
	call(unix.SYS_SETSID)
	// Out of the way of the others first; what stays is closed by the execve.
	from := make([]word, 0, len(files)+1)
	for _, f := range append(files[:len(files):len(files)], image) {
		fd := num(f.Fd())
		if fd.n < uint64(len(files)) {
			moved := p.variable(0)
			call(unix.SYS_FCNTL, fd, num(unix.F_DUPFD_CLOEXEC), num(len(files))).into(moved)
			fd = moved.value()
		}
		from = append(from, fd)
	}
	for to := range files {
		call(unix.SYS_DUP3, from[to], num(to), num(0))
	}
	call(unix.SYS_EXECVEAT, from[len(files)], p.text(""), p.texts([]string{"outband"}), p.texts(nil), num(unix.AT_EMPTY_PATH))
	p.place(failed)
	call(unix.SYS_EXIT_GROUP, num(1))
	return p
}

// failure is why a session did not begin: err, or what kept the child from
// becoming the warden. It is gone by now.
func (p *process) failure(err error) error {
	if e := p.first.failure(); e != nil && errors.Is(err, ErrKilled) {
		return e
	}
	return err
}

// wait reaps the process and returns its exit code, -1 where that is not known:
// a signal has ended it, or the caller ignores SIGCHLD (ECHILD).
func (p *process) wait() int {
	defer p.pidfd.Close()
	for {
		var status unix.WaitStatus
		_, err := unix.Wait4(p.pid, &status, unix.WALL, nil) // the number is its own until then
		if !errors.Is(err, unix.EINTR) {
			if err != nil {
				return -1
			}
			return status.ExitStatus()
		}
	}
}

// Kill kills the process.
func (p *process) Kill() error { return sys.Signal(p.pidfd, unix.SIGKILL, false) }
