// SPDX-License-Identifier: Apache-2.0

// Package pty knows terminals from the outside: modes, sizes, who is in the
// foreground, and the end of a pseudo-terminal that its master holds. Opening
// one in a container is package forkexec's.
package pty

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/sys"
)

// Size is that of a terminal, in characters.
type Size struct{ Rows, Cols uint16 }

// IsTerminal tells whether f is a terminal.
func IsTerminal(f *os.File) bool {
	_, err := Modes(f)
	return err == nil
}

// Modes returns how f is set (termios(3)); ENOTTY where it is no terminal.
func Modes(f *os.File) (*unix.Termios, error) {
	var t *unix.Termios
	var err error
	cerr := sys.Control(f, func(fd int) { t, err = unix.IoctlGetTermios(fd, unix.TCGETS) })
	return t, errors.Join(cerr, os.NewSyscallError("tcgetattr", err))
}

// SetModes sets how f is set, when what was written to it is out.
func SetModes(f *os.File, t *unix.Termios) error {
	return retry(f, "tcsetattr", func(fd int) error { return unix.IoctlSetTermios(fd, unix.TCSETSW, t) })
}

// Raw is t with nothing done to what goes through, either way (cfmakeraw(3)).
func Raw(t *unix.Termios) *unix.Termios {
	raw := *t
	raw.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	raw.Oflag &^= unix.OPOST
	raw.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	raw.Cflag &^= unix.CSIZE | unix.PARENB
	raw.Cflag |= unix.CS8
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	return &raw
}

// fresh is how Linux makes a terminal (tty_std_termios).
func fresh() unix.Termios {
	t := unix.Termios{
		Iflag: unix.ICRNL | unix.IXON,
		Oflag: unix.OPOST | unix.ONLCR,
		Cflag: unix.B38400 | unix.CS8 | unix.CREAD | unix.HUPCL,
		Lflag: unix.ISIG | unix.ICANON | unix.ECHO | unix.ECHOE | unix.ECHOK | unix.ECHOCTL | unix.ECHOKE | unix.IEXTEN,
	}
	for i, c := range map[int]uint8{
		unix.VINTR: 'C' - '@', unix.VQUIT: '\\' - '@', unix.VERASE: 0x7f, unix.VKILL: 'U' - '@', unix.VEOF: 'D' - '@', unix.VMIN: 1,
		unix.VSTART: 'Q' - '@', unix.VSTOP: 'S' - '@', unix.VSUSP: 'Z' - '@', unix.VREPRINT: 'R' - '@', unix.VDISCARD: 'O' - '@',
		unix.VWERASE: 'W' - '@', unix.VLNEXT: 'V' - '@',
	} {
		t.Cc[i] = c
	}
	return t
}

// Like is a fresh terminal with the special characters of t, its flow control,
// and whether it is UTF-8: what belongs to the keyboard and not to what was
// run before.
func Like(t *unix.Termios) *unix.Termios {
	const keyboard = unix.IUTF8 | unix.IXON | unix.IXOFF | unix.IXANY
	f := fresh()
	f.Iflag = f.Iflag&^keyboard | t.Iflag&keyboard
	f.Cc = t.Cc
	f.Cc[unix.VMIN], f.Cc[unix.VTIME] = 1, 0
	return &f
}

// SizeOf returns the size of f; ENOTTY where it is no terminal.
func SizeOf(f *os.File) (Size, error) {
	var w *unix.Winsize
	var err error
	cerr := sys.Control(f, func(fd int) { w, err = unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ) })
	if err = errors.Join(cerr, os.NewSyscallError("tiocgwinsz", err)); err != nil {
		return Size{}, err
	}
	return Size{w.Row, w.Col}, nil
}

// SetSize sets the size of f and tells its foreground process group (SIGWINCH)
// where it is another one than before.
func SetSize(f *os.File, s Size) error {
	return retry(f, "tiocswinsz", func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: s.Rows, Col: s.Cols})
	})
}

// Foreground tells whether the calling process is in the foreground of its
// controlling terminal f: who is not must neither read it nor set its modes. A
// terminal that is not the controlling one has no foreground to be out of.
func Foreground(f *os.File) bool {
	group, err := 0, error(nil)
	if cerr := sys.Control(f, func(fd int) { group, err = unix.IoctlGetInt(fd, unix.TIOCGPGRP) }); cerr != nil || err != nil {
		return true
	}
	return group == unix.Getpgrp()
}

// Peer opens the other end of the pseudo-terminal that master is of, without a
// path (TIOCGPTPEER, 4.13), and not as a controlling terminal.
func Peer(master *os.File) (*os.File, error) { return sys.OpenPeer(master) }

// Pair makes a pseudo-terminal of the caller's own devpts, for tests and
// measurements.
func Pair() (master, peer *os.File, err error) {
	if master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return nil, nil, err
	}
	err = retry(master, "tiocsptlck", func(fd int) error { return unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0) })
	if err == nil {
		peer, err = Peer(master)
	}
	if err != nil {
		master.Close()
		return nil, nil, err
	}
	return master, peer, nil
}

// Unread is how much waits to be read of f, bytes.
func Unread(f *os.File) int {
	n := 0
	_ = sys.Control(f, func(fd int) { n, _ = unix.IoctlGetInt(fd, unix.TIOCINQ) })
	return n
}

// Readable waits until f can be read or wake is at its end, or so long, and
// tells which it was; either may be nil.
func Readable(f, wake *os.File, timeout time.Duration) (readable, woken bool) {
	polls := []unix.PollFd{{Fd: -1, Events: unix.POLLIN}, {Fd: -1}}
	for i, file := range [...]*os.File{f, wake} {
		if file != nil && sys.Control(file, func(fd int) { polls[i].Fd = int32(fd) }) != nil {
			return true, i == 1 // closed: whoever reads it is told
		}
	}
	for end := time.Now().Add(timeout); ; timeout = max(time.Until(end), 0) {
		if _, err := unix.Poll(polls, int(timeout/time.Millisecond)); !errors.Is(err, unix.EINTR) {
			return polls[0].Revents != 0, polls[1].Revents != 0
		}
	}
}

// retry makes a call on f that a signal may interrupt.
func retry(f *os.File, what string, call func(fd int) error) error {
	var err error
	cerr := sys.Control(f, func(fd int) {
		for err = call(fd); errors.Is(err, unix.EINTR); err = call(fd) {
		}
	})
	return errors.Join(cerr, os.NewSyscallError(what, err))
}
