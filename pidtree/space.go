// SPDX-License-Identifier: Apache-2.0

package pidtree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/sys"
	"github.com/outband/outband/ns"
)

// ErrNoProcess says that a pid namespace has no process of a number.
var ErrNoProcess = errors.New("no such process")

// Space is a pid namespace that is held, with those between it and the caller's
// own. Numbers of processes are translated between them.
type Space struct {
	proc  *procfs.FS
	chain []ns.File // by level; that of level 0 is not open
	ids   []ns.ID
}

// OpenSpace holds the pid namespace of the process that pidfd refers to, which
// stays the caller's; fs.ErrNotExist if that process is gone.
func OpenSpace(pidfd *os.File) (*Space, error) {
	proc, err := procfs.Open()
	if err != nil {
		return nil, err
	}
	s := &Space{proc: proc}
	if err := s.open(pidfd); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Space) open(pidfd *os.File) error {
	p, err := s.hold(pidfd)
	if err != nil {
		return err
	}
	defer p.Close()
	numbers, err := s.proc.Numbers(p.Pidfd)
	if err != nil {
		return err
	}
	s.chain, s.ids = make([]ns.File, len(numbers)), make([]ns.ID, len(numbers))
	self, err := s.proc.Process(os.Getpid())
	if err != nil {
		return err
	}
	defer self.Close()
	own, err := ns.Of(self.File())
	if err != nil {
		return err
	}
	s.ids[0] = own[ns.PID]
	for level := len(numbers) - 1; level > 0; level-- {
		var f ns.File
		if level == len(numbers)-1 {
			f, err = ns.OpenOf(p.Dir.File(), ns.PID)
		} else {
			f, err = s.chain[level+1].Parent()
		}
		if err != nil {
			return err
		}
		s.chain[level] = f
		if s.ids[level], err = f.ID(); err != nil {
			return err
		}
	}
	return p.Alive()
}

// hold holds the process again, by a descriptor of its own.
func (s *Space) hold(pidfd *os.File) (*procfs.Process, error) {
	var fd int
	var errno error
	err := sys.Control(pidfd, func(at int) { fd, errno = unix.FcntlInt(uintptr(at), unix.F_DUPFD_CLOEXEC, 0) })
	if err = errors.Join(err, errno); err != nil {
		return nil, err
	}
	return s.proc.HoldPidfd(os.NewFile(uintptr(fd), "pidfd"))
}

// Close lets go of it.
func (s *Space) Close() error {
	err := s.proc.Close()
	for _, f := range s.chain {
		if f.File != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}

// Level is how many pid namespaces lie between the caller's own and this one,
// which is included: 0 is the caller's own.
func (s *Space) Level() int { return len(s.chain) - 1 }

// Held is a process that is held.
type Held struct {
	PIDs  []int    // its numbers, outermost level first
	Pidfd *os.File // is this process, whoever gets its numbers
}

// Hold finds the process that has number pid on a level of the space's: 0 is the
// caller's own, Level the space itself. It has to be in the space or below it,
// else it is ErrNoProcess. The descriptor is the caller's to close.
func (s *Space) Hold(ctx context.Context, pid, level int) (*Held, error) {
	if level < 0 || level > s.Level() {
		return nil, fmt.Errorf("there is no level %d: the target's is %d", level, s.Level())
	}
	outside, err := s.outside(ctx, pid, level)
	if err != nil {
		return nil, err
	}
	pidfd, err := sys.OpenPid(outside)
	if err != nil {
		return nil, s.none(pid, level)
	}
	h := &Held{Pidfd: pidfd}
	// A19 (docs/threat-model.md): only what is read through the pidfd is about
	// the process that is held.
	h.PIDs, err = s.proc.Numbers(pidfd)
	if err == nil && (len(h.PIDs) <= s.Level() || h.PIDs[level] != pid || !s.has(h.PIDs)) {
		err = fs.ErrNotExist
	}
	if err == nil {
		err = sys.Signal(pidfd, 0, false)
	}
	if err != nil {
		pidfd.Close()
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			err = s.none(pid, level)
		}
		return nil, err
	}
	return h, nil
}

// none is the error for a number that nobody has.
func (s *Space) none(pid, level int) error {
	switch level {
	case s.Level():
		return fmt.Errorf("%w: process %d", ErrNoProcess, pid)
	case 0:
		return fmt.Errorf("%w: process %d of the host is not in the target", ErrNoProcess, pid)
	}
	return fmt.Errorf("%w: process %d of level %d is not in the target", ErrNoProcess, pid, level)
}

// outside returns the number a process has in the caller's own namespace.
func (s *Space) outside(ctx context.Context, pid, level int) (int, error) {
	if level == 0 {
		return pid, nil
	}
	outside, err := s.chain[level].Outside(pid)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return 0, s.none(pid, level)
	case errors.Is(err, errors.ErrUnsupported):
		return s.search(ctx, pid, level)
	}
	return outside, err
}

// search is outside for kernels that do not translate: by NSpid of all
// processes. Of those with the number on that level, one is below the namespace.
func (s *Space) search(ctx context.Context, pid, level int) (int, error) {
	tasks, err := s.proc.Outline(ctx)
	if err != nil {
		return 0, err
	}
	for _, t := range tasks {
		if len(t.NSpid) > level && t.NSpid[level] == pid && s.below(t.PID, level) {
			return t.PID, nil
		}
	}
	return 0, s.none(pid, level)
}

// has tells whether a process with these numbers is in the space or below it.
func (s *Space) has(pids []int) bool {
	level := s.Level()
	if level == 0 {
		return true
	}
	number, err := s.chain[level].Inside(pids[0])
	if errors.Is(err, errors.ErrUnsupported) {
		return s.below(pids[0], level)
	}
	return err == nil && number == pids[level]
}

// below tells whether a process is in the namespace of a level, or below it.
func (s *Space) below(pid, level int) bool {
	dir, err := s.proc.Process(pid)
	if err != nil {
		return false
	}
	defer dir.Close()
	f, err := ns.OpenOf(dir.File(), ns.PID)
	if err != nil {
		return false
	}
	defer f.Close()
	ok, err := f.DescendsFrom(s.ids[level])
	return ok && err == nil
}
