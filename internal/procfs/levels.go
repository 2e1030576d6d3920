// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/sys"
)

// Requests of ioctl_nsfs(2).
const (
	nsGetParent      = 0xb702     // 4.9
	nsGetTgidInPidns = 0x8004b709 // 6.11, ca567df74a28
)

// maxSpaces is how many namespaces a reader keeps open. Beyond that it begins
// anew, so that a thousand of them do not need a thousand descriptors.
const maxSpaces = 64

// spaces are pid namespaces below the reader's own that are open, by inode
// number, and in each those on the way to it: the outermost first, itself last.
// While one is open its number is no other's.
type spaces struct {
	chains  map[uint64][]int
	seen    [512]uint64 // those that a process was in, as far as they do not get in each other's way
	place   int         // a descriptor that one pidfd after the other becomes; 0: none yet
	fdinfo  int         // what the kernel says of that one: it looks when it is read
	missing bool        // the kernel cannot translate; never that it can
}

// close closes all that is open.
func (s *spaces) close() {
	s.closeChains()
	for _, fd := range []*int{&s.place, &s.fdinfo} {
		if *fd > 0 {
			unix.Close(*fd)
		}
		*fd = 0
	}
}

func (s *spaces) closeChains() {
	for _, chain := range s.chains {
		for _, fd := range chain {
			unix.Close(fd)
		}
	}
	s.chains = nil
}

// numbersIn returns a process's number on each level; nil where that cannot be
// told, or the process is gone. Of the first process of a namespace a pidfd tells
// it at half the cost of status; when there is a second one the namespace is
// opened, with those above it, and asked for each at a tenth.
func (r *reader) numbersIn(pid int, space uint64) []int {
	chain, known := r.spaces.chains[space]
	if !known {
		if r.spaces.missing || space == 0 || r.own == 0 || *r.spaces.seenAt(space) != space {
			return r.byPidfd(pid, space)
		}
		chain = r.openChain(pid, space)
	}
	if len(chain) == 0 {
		return nil
	}
	pids := make([]int, 1, 1+len(chain))
	pids[0] = pid
	for _, fd := range chain {
		number, err := sys.Ioctl(fd, nsGetTgidInPidns, pid)
		if err == unix.ENOTTY || err == unix.EINVAL { //nolint:errorlint // a plain errno
			r.spaces.missing = true
		}
		if err != nil || number <= 0 {
			return nil
		}
		pids = append(pids, number)
	}
	return pids
}

// seenAt is where it is kept that a process was in a namespace.
func (s *spaces) seenAt(space uint64) *uint64 { return &s.seen[space%uint64(len(s.seen))] }

// byPidfd reads the numbers from the fdinfo of a pidfd (5.4).
func (r *reader) byPidfd(pid int, space uint64) []int {
	*r.spaces.seenAt(space) = space
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(pidfd)
	if err := r.putInPlace(pidfd); err != nil {
		return nil
	}
	n, err := unix.Pread(r.spaces.fdinfo, r.buf[:], 0)
	if err != nil {
		return nil
	}
	pids, err := parsePidfdInfo(r.buf[:n])
	if err != nil || pids[0] != pid {
		return nil
	}
	return pids
}

// putInPlace makes the descriptor whose fdinfo is open one of pidfd's process.
func (r *reader) putInPlace(pidfd int) (err error) {
	s := &r.spaces
	if s.place > 0 {
		return unix.Dup3(pidfd, s.place, unix.O_CLOEXEC)
	}
	if s.place, err = unix.FcntlInt(uintptr(pidfd), unix.F_DUPFD_CLOEXEC, 0); err != nil {
		s.place = 0
		return err
	}
	s.fdinfo, err = sys.OpenAt(r.root, r.file(os.Getpid(), "/fdinfo/"+strconv.Itoa(s.place)))
	if err != nil {
		s.close()
	}
	return err
}

// openChain opens the pid namespace of a process, if it has the number that was
// read before, and those above it up to the reader's own.
func (r *reader) openChain(pid int, space uint64) []int {
	fd, err := sys.OpenLinkAt(r.root, r.file(pid, "/ns/pid"))
	if err != nil {
		return nil
	}
	if inode(fd) != space {
		unix.Close(fd)
		return nil
	}
	chain := []int{fd}
	for range maxDepth {
		up, err := sys.Ioctl(chain[0], nsGetParent, 0)
		if err != nil { // above the reader's own: not below it
			break
		}
		if inode(up) == r.own {
			unix.Close(up)
			r.keep(space, chain)
			return chain
		}
		chain = append([]int{up}, chain...)
	}
	for _, fd := range chain {
		unix.Close(fd)
	}
	return nil
}

// maxDepth is how deep pid namespaces may be nested (MAX_PID_NS_LEVEL).
const maxDepth = 32

func (r *reader) keep(space uint64, chain []int) {
	if len(r.spaces.chains) >= maxSpaces {
		r.spaces.closeChains()
	}
	if r.spaces.chains == nil {
		r.spaces.chains = make(map[uint64][]int, maxSpaces)
	}
	r.spaces.chains[space] = chain
}

func inode(fd int) uint64 {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return 0
	}
	return st.Ino
}
