// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/sys"
)

// Process is a process that is held: whatever happens to its number, it is this
// one that is read and signalled.
type Process struct {
	PID   int // in the pid namespace of the procfs, for display
	Pidfd *os.File
	Dir   *Dir

	status *Status
}

// Status is the process's status when it was first asked for.
func (p *Process) Status() (Status, error) {
	if p.status == nil {
		s, err := p.Dir.Status()
		if err != nil {
			return Status{}, err
		}
		p.status = &s
	}
	return *p.status, nil
}

// Hold takes hold of process pid; fs.ErrNotExist if there is none.
//
// A19 (docs/threat-model.md): the pidfd comes first, then the directory; while
// Alive says so afterwards, both are of the same process, since its number
// cannot have been given away.
func (f *FS) Hold(pid int) (*Process, error) {
	pidfd, err := sys.OpenPid(pid)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return nil, fs.ErrNotExist
	}
	if err != nil {
		return nil, err
	}
	dir, err := f.Process(pid)
	if err != nil {
		pidfd.Close()
		return nil, err
	}
	return &Process{PID: pid, Pidfd: pidfd, Dir: dir}, nil
}

// Alive returns nil while the process runs, else fs.ErrNotExist: also for one
// that has ended and is still to be reaped, which nothing can join any more.
func (p *Process) Alive() error {
	polls := []unix.PollFd{{Events: unix.POLLIN}} // pidfd_open(2): readable when it has ended
	for {
		var n int
		var errno error
		err := sys.Control(p.Pidfd, func(fd int) {
			polls[0].Fd = int32(fd)
			n, errno = unix.Poll(polls, 0)
		})
		switch {
		case errors.Is(errno, unix.EINTR):
			continue
		case err == nil && errno == nil && n > 0:
			return fs.ErrNotExist
		}
		return first(err, errno)
	}
}

// Close lets go of the process.
func (p *Process) Close() error {
	return errors.Join(p.Pidfd.Close(), p.Dir.Close())
}

// HoldPidfd takes hold of the process that pidfd refers to and owns pidfd from
// then on; fs.ErrNotExist if it is gone or has no number here.
func (f *FS) HoldPidfd(pidfd *os.File) (*Process, error) {
	p, err := f.holdPidfd(pidfd)
	if err != nil {
		pidfd.Close()
	}
	return p, err
}

func (f *FS) holdPidfd(pidfd *os.File) (*Process, error) {
	pids, err := f.Numbers(pidfd)
	if err != nil {
		return nil, err
	}
	dir, err := f.Process(pids[0])
	if err != nil {
		return nil, err
	}
	return &Process{PID: pids[0], Pidfd: pidfd, Dir: dir}, nil
}

// Numbers returns the numbers of the process that pidfd refers to on every
// level, the caller's own first; fs.ErrNotExist if it is gone or has no number
// there.
func (f *FS) Numbers(pidfd *os.File) ([]int, error) {
	self, err := f.Self()
	if err != nil {
		return nil, err
	}
	defer self.Close()
	var name string
	if err := sys.Control(pidfd, func(fd int) { name = "fdinfo/" + strconv.Itoa(fd) }); err != nil {
		return nil, err
	}
	info, err := self.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return parsePidfdInfo(info)
}

// parsePidfdInfo returns the line "NSpid:" of a pidfd's fdinfo (5.4), which has
// -1 for a process that is gone and 0 for one that has no number here.
func parsePidfdInfo(b []byte) ([]int, error) {
	for line := range bytes.Lines(b) {
		if value, ok := strings.CutPrefix(string(line), "NSpid:"); ok {
			pids, err := numbers[int](value)
			if err != nil || len(pids) == 0 || pids[0] == 0 {
				break
			}
			return pids, nil
		}
	}
	return nil, fs.ErrNotExist
}
