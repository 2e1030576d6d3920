// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/forkexec"
	"github.com/outband/outband/internal/pty"
	"github.com/outband/outband/internal/sys"
)

// Size is that of a terminal, in characters.
type Size struct{ Rows, Cols uint16 }

// defaultSize is that of a terminal of which nobody says how large it is.
var defaultSize = Size{Rows: 24, Cols: 80}

// terminal is the caller's side of a command's terminal.
//
// The command's end is held open here too, lest a program that closes and opens
// it again (login(1)) looks like the end of the session. That is the session's
// own end.
type terminal struct {
	master, peer *os.File
	ours         bool // it is not of the target's devpts
	s            *streams
}

// Resize sets the size of the command's terminal and tells its foreground
// process group where that is another one.
func (p *Process) Resize(size Size) error {
	if p.terminal == nil {
		return fmt.Errorf("%w: the command has no terminal", ErrInvalid)
	}
	return pty.SetSize(p.terminal.master, pty.Size(size))
}

// NamelessTerminal tells that the command has a terminal without a name inside,
// because its target has no usable devpts: ttyname(3) fails there.
func (p *Process) NamelessTerminal() bool { return p.terminal != nil && p.terminal.ours }

// terminalSpec is what the way in has to know of the terminal. Special
// characters and flow control are those of a Stdin that is a terminal.
func (c *Cmd) terminalSpec(plan *Plan) *forkexec.Terminal {
	if !c.Terminal {
		return nil
	}
	size := c.Size
	if size.Rows == 0 || size.Cols == 0 {
		size = defaultSize
	}
	t := &forkexec.Terminal{Rows: size.Rows, Cols: size.Cols, Owner: plan.terminal[0], Group: plan.terminal[1]}
	like := c.TerminalLike
	if f, ok := c.Stdin.(*os.File); ok && like == nil {
		like = f
	}
	if like != nil {
		if modes, err := pty.Modes(like); err == nil {
			t.Modes = pty.Like(modes)
		}
	}
	return t
}

// onTerminal makes the streams of a command on a terminal: what goes beside it.
func (s *streams) onTerminal(c *Cmd, owner [2]uint32) (err error) {
	s.terminal = &terminal{s: s}
	if c.Stderr != nil && !same(c.Stdout, c.Stderr) {
		if err := s.output(2, c.Stderr, owner); err != nil {
			return err
		}
	}
	s.stopped, s.stop, err = sys.Pipe()
	return err
}

// connect takes the terminal of a session that has begun and moves bytes.
func (t *terminal) connect(c *Cmd) {
	t.master, t.ours = c.session.Terminal()
	t.peer, _ = pty.Peer(t.master) // without, it may end early
	_ = sys.Control(t.master, func(fd int) { _ = unix.SetNonblock(fd, true) })
	go func() {
		defer close(t.s.input)
		defer t.s.keepPanic(c)
		t.s.fail(t.in(c.Stdin))
	}()
	t.s.outputs.Go(func() {
		defer t.s.keepPanic(c)
		err := t.out(c.Stdout)
		t.s.fail(err)
		if err != nil { // nobody reads it any more: as when a telephone line is cut
			_ = c.session.Signal(unix.SIGHUP, true)
			t.hangUp()
			t.close()
		}
	})
}

// in moves input to the terminal. Its end is told as it is on a keyboard: by
// the character for it, twice where a line is not complete.
func (t *terminal) in(src io.Reader) error {
	f, file := src.(*os.File)
	buf, last := make([]byte, 4096), byte('\n')
	for src != nil {
		if file && poll(-1, unix.PollFd{Fd: int32(f.Fd()), Events: unix.POLLIN}, unix.PollFd{Fd: int32(t.s.stopped.Fd())})[1] != 0 {
			return nil
		}
		n, err := src.Read(buf)
		if n > 0 {
			last = buf[n-1]
			if !t.write(buf[:n]) {
				return nil
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return err
		}
	}
	t.end(last)
	return nil
}

// end types the end of the input, after a last character.
func (t *terminal) end(last byte) {
	modes, err := pty.Modes(t.master) // those of the other end
	if err != nil {
		return
	}
	end := []byte{modes.Cc[unix.VEOF]}
	if last != '\n' && modes.Lflag&unix.ICANON != 0 {
		end = append(end, end[0])
	}
	t.write(end)
}

// write writes all of b, however slowly that is read; false when the session
// ends before.
func (t *terminal) write(b []byte) bool {
	for len(b) > 0 {
		var n int
		err := sys.Control(t.master, func(fd int) {
			var werr error
			if n, werr = unix.Write(fd, b); errors.Is(werr, unix.EAGAIN) {
				n = 0
				if poll(-1, unix.PollFd{Fd: int32(fd), Events: unix.POLLOUT}, unix.PollFd{Fd: int32(t.s.stopped.Fd())})[1] != 0 {
					n = -1
				}
			} else if errors.Is(werr, unix.EINTR) {
				n = 0
			}
		})
		if err != nil || n < 0 {
			return false
		}
		b = b[n:]
	}
	return true
}

// out moves what is written to the terminal to dst, to the end of it: EIO, when
// nobody has the other end any more.
func (t *terminal) out(dst io.Writer) error {
	if dst == nil {
		dst = io.Discard
	}
	buf, e := make([]byte, 32<<10), ending{}
	for t.wait(&e) {
		n, err := t.read(buf)
		if n > 0 {
			if _, err := dst.Write(buf[:n]); err != nil {
				return err
			}
		}
		if err != nil {
			return nil
		}
	}
	return nil
}

// read reads what there is; an error is the end.
func (t *terminal) read(buf []byte) (n int, err error) {
	cerr := sys.Control(t.master, func(fd int) { n, err = unix.Read(fd, buf) })
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		err = nil
	}
	return n, errors.Join(cerr, err)
}

// wait waits until the terminal can be read. When the command has ended and
// somebody still has the terminal (Leave), that one is listened to for a while,
// and then what is there is read.
func (t *terminal) wait(e *ending) bool {
	master := unix.PollFd{Fd: int32(t.master.Fd()), Events: unix.POLLIN}
	if e.until.IsZero() {
		ready := poll(-1, master, unix.PollFd{Fd: int32(t.s.stopped.Fd())})
		if ready[1] == 0 {
			return true
		}
		e.until, e.owed = time.Now().Add(leaveBound), maxOwed
	}
	left := max(time.Until(e.until), 0)
	ready := poll(left, master)[0]
	if left == 0 && ready&unix.POLLHUP == 0 {
		if e.owed--; e.owed < 0 {
			return false
		}
	}
	return ready != 0
}

// maxOwed is how often what somebody else keeps writing is still read when its
// time is over: as often as it takes to empty a terminal, which holds some
// 64 KiB and is read 4 KiB at a time.
const maxOwed = 32

// hangUp ends the terminal of a session that has ended.
func (t *terminal) hangUp() {
	if t.peer != nil {
		t.peer.Close()
	}
}

// close lets go of the terminal, which ends it for whoever still has it.
func (t *terminal) close() {
	if t.master != nil {
		t.master.Close()
	}
}

// keepPanic keeps the panic of a Reader or Writer for who calls Wait, and ends
// the session.
func (s *streams) keepPanic(c *Cmd) {
	if p := recover(); p != nil {
		s.mu.Lock()
		if s.panicked == nil {
			s.panicked = p
		}
		s.mu.Unlock()
		_ = c.session.End()
	}
}
