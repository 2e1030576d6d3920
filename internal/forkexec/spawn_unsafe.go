// SPDX-License-Identifier: Apache-2.0

package forkexec

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// spawn forks a child that shares the caller's memory and carries out the
// program whose header is given, until its execve. It returns the child's number
// or, below 0, an error; masks are a mask of all signals and room for the
// caller's own. The child has no use for the stack, so that the caller, unlike
// after a vfork(2), goes on at once.
func spawn(masks *[2]uint64, pidfd *int32, header *byte) (result int)

// shared is memory in which a program lies that a spawned child reads and writes
// until it has executed: it must be kept that long.
type shared struct{ words []uint64 }

// share links p where it will lie.
func share(p *program) (*shared, error) {
	s := &shared{words: make([]uint64, (headerSize+opSize*(len(p.ops)+1)+len(p.data)+8)/8)}
	linked, err := p.linkAt(uint64(uintptr(unsafe.Pointer(&s.words[0]))))
	if err != nil {
		return nil, err
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&s.words[0])), 8*len(s.words)), linked)
	return s, nil
}

// start starts the child.
func (s *shared) start() (pid, pidfd int, err error) {
	masks, fd := [2]uint64{^uint64(0)}, int32(-1)
	syscall.ForkLock.Lock() // who opens a file that a child must not have holds it for reading
	pid = spawn(&masks, &fd, (*byte)(unsafe.Pointer(&s.words[0])))
	syscall.ForkLock.Unlock()
	if pid < 0 {
		return 0, -1, unix.Errno(-pid)
	}
	return pid, int(fd), nil
}

// failure is the last error of the child and its step, once the child is gone.
func (s *shared) failure() *Error {
	if s.words[0] == 0 {
		return nil
	}
	return &Error{Step(s.words[1]), unix.Errno(s.words[0])}
}
