// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// in moves the input into the command's pipe, until its end, or until nobody
// reads it any more.
func (s *streams) in(w *os.File, src io.Reader) {
	f, ok := src.(*os.File)
	if !ok {
		_, err := io.Copy(w, src)
		if !errors.Is(err, unix.EPIPE) && !errors.Is(err, os.ErrClosed) { // not: the command reads no more
			s.fail(err)
		}
		w.Close()
		return
	}
	from, to, stop := int(f.Fd()), int(w.Fd()), int(s.stopped.Fd())
	// What holds the pipe may never read it and outlive the command (Leave), so
	// that no write may wait for it.
	_ = unix.SetNonblock(to, true) // cannot fail on a pipe
	m := mover{from: from, to: to, flags: unix.SPLICE_F_NONBLOCK, full: func() bool {
		ready := poll(-1, unix.PollFd{Fd: int32(to), Events: unix.POLLOUT}, unix.PollFd{Fd: int32(stop)})
		return ready[0]&unix.POLLERR == 0 && ready[1] == 0
	}}
	defer func() { s.unsent = m.unsent }()
	for {
		ready := poll(-1, unix.PollFd{Fd: int32(from), Events: unix.POLLIN}, unix.PollFd{Fd: int32(to)}, unix.PollFd{Fd: int32(stop)})
		if ready[1] != 0 || ready[2] != 0 {
			return // the command reads no more, or is gone
		}
		switch n, err := m.move(); {
		case errors.Is(err, unix.EAGAIN):
		case errors.Is(err, unix.EPIPE) || errors.Is(err, errFull):
			return
		case err != nil || n == 0:
			s.endOfInput(w, f)
			return
		}
	}
}

// poll waits until something is ready, or so long; -1 is for ever. It returns
// what is ready of each, nothing when the time is over.
func poll(timeout time.Duration, fds ...unix.PollFd) (ready [3]int16) {
	ms := -1
	if timeout >= 0 {
		ms = int(timeout / time.Millisecond)
	}
	for {
		_, err := unix.Poll(fds, ms)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		for i, fd := range fds {
			ready[i] = fd.Revents
		}
		return ready
	}
}

// endOfInput closes the command's pipe, so that it reads the end. What it does
// not read of a regular file must still be told from the pipe when the command
// has ended: that takes another end, for reading, which without a writer keeps
// nobody waiting.
func (s *streams) endOfInput(w, src *os.File) {
	if regular(src) {
		s.rest, _ = os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", w.Fd()), os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	}
	w.Close()
}

// out moves output to dst until nobody inside holds the pipe.
func (s *streams) out(dst io.Writer, r *os.File) error {
	defer r.Close()
	if dst == nil {
		dst = io.Discard
	}
	f, ok := dst.(*os.File)
	if !ok {
		return s.copyOut(dst, r)
	}
	from, to := int(r.Fd()), int(f.Fd())
	m := mover{from: from, to: to, full: func() bool { // of the caller's, whatever it takes
		poll(-1, unix.PollFd{Fd: int32(to), Events: unix.POLLOUT})
		return true
	}}
	var e ending
	for s.wait(r, &e) {
		n, err := m.move()
		if errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil || n == 0 {
			return err // EPIPE: closing r tells it to the command
		}
		e.owed -= n
	}
	return nil
}

// An ending is what is still read of a pipe once the command has ended.
type ending struct {
	until time.Time // when to leave alone who still writes; zero while the command runs
	owed  int64     // what the pipe held at the command's end, bytes
}

// wait waits until r can be read; false when the command has ended, what it had
// written is read, and whoever still holds the pipe has had time to write.
func (s *streams) wait(r *os.File, e *ending) bool {
	pipe := unix.PollFd{Fd: int32(r.Fd()), Events: unix.POLLIN}
	if e.until.IsZero() {
		ready := poll(-1, pipe, unix.PollFd{Fd: int32(s.stopped.Fd())})
		if ready[1] == 0 {
			return true
		}
		e.until, e.owed = time.Now().Add(leaveBound), unread(r)
	}
	if left := time.Until(e.until); left > 0 {
		return poll(left, pipe)[0] != 0
	}
	return e.owed > 0
}

// copyOut is out for destinations that are no files. r has a deadline once the
// command has ended; what is in the pipe by then is delivered all the same,
// however long dst takes.
func (s *streams) copyOut(dst io.Writer, r *os.File) error {
	buf := make([]byte, 64<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if _, err := dst.Write(buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			_ = r.SetReadDeadline(time.Time{})
			_, err := io.CopyN(dst, r, unread(r))
			return err
		}
		if err != nil {
			return nil // the end
		}
	}
}

// A mover moves bytes between two descriptors, one of which is a pipe.
type mover struct {
	from, to int
	flags    int         // of splice(2)
	full     func() bool // waits until to, which may not block, takes more; false: give up
	unsent   int64       // what was read and not written, bytes
	buf      []byte      // to copy through, where one of them does not splice
	moved    int64       // bytes, until the pipes are large
}

// errFull says that full has given up.
var errFull = errors.New("nobody reads")

// move moves some bytes, none at the end: by splice(2), or by copying where the
// other descriptor does not splice. EAGAIN is for the caller to wait for from.
func (m *mover) move() (int64, error) {
	for m.buf == nil {
		n, err := unix.Splice(m.from, nil, m.to, nil, pipeSize, unix.SPLICE_F_MOVE|m.flags)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			if !m.full() {
				return 0, errFull
			}
			return 0, err
		case errors.Is(err, unix.EINVAL):
			m.buf = make([]byte, 64<<10)
		default:
			m.flowed(n)
			return n, err
		}
	}
	for {
		n, err := unix.Read(m.from, m.buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, err
		}
		return int64(n), m.write(m.buf[:n])
	}
}

// flowed enlarges the pipes when as much has been moved as they hold: most
// commands say little, and are not to pay for it.
func (m *mover) flowed(n int64) {
	if m.moved >= defaultPipe {
		return
	}
	if m.moved += max(n, 0); m.moved >= defaultPipe {
		for _, fd := range [...]int{m.from, m.to} { // a wish; one of them need not be a pipe
			_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, pipeSize)
		}
	}
}

// write writes all of b, unless nobody reads it.
func (m *mover) write(b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(m.to, b)
		b = b[max(n, 0):]
		switch {
		case err == nil || errors.Is(err, unix.EINTR):
			continue
		case !errors.Is(err, unix.EAGAIN):
		case m.full():
			continue
		default:
			err = errFull
		}
		m.unsent = int64(len(b))
		return err
	}
	return nil
}
