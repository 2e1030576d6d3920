// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"io"
	"os"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband"
	"github.com/outband/outband/internal/pty"
)

// keyboard is the caller's own terminal while a session is on one: where keys
// come from, in raw mode.
//
// The rules: its modes are what they were, however outband ends or is stopped;
// while outband is in the background it is neither read nor set, so that
// nothing stops outband for that.
type keyboard struct {
	file  *os.File
	wake  *os.File // its other end is closed when nothing is read any more
	ended *os.File

	mu    sync.Mutex
	saved *unix.Termios // what to restore; nil: it is as it was
	hold  bool          // it stays as it is, whoever reads
}

// look is how often a session in the background sees whether it still is.
const look = 200 * time.Millisecond

// openKeyboard takes standard input if it is a terminal; nil otherwise.
func openKeyboard() *keyboard {
	if !pty.IsTerminal(os.Stdin) {
		return nil
	}
	wake, ended, err := os.Pipe()
	if err != nil {
		return nil
	}
	// Whoever ignores it may write and set modes from the background
	// (termios(3)); those that are let in get every signal's default.
	signal.Ignore(unix.SIGTTOU, unix.SIGTTIN)
	return &keyboard{file: os.Stdin, wake: wake, ended: ended}
}

// raw makes what is typed go to the session as it is, if outband is in the
// foreground.
func (k *keyboard) raw() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.saved != nil || k.hold || !pty.Foreground(k.file) {
		return
	}
	modes, err := pty.Modes(k.file)
	if err == nil && pty.SetModes(k.file, pty.Raw(modes)) == nil {
		k.saved = modes
	}
}

// restore sets the modes that there were, which stay until release.
func (k *keyboard) restore() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.hold = true
	if k.saved != nil {
		_ = pty.SetModes(k.file, k.saved)
		k.saved = nil
	}
}

// close restores for good.
func (k *keyboard) close() {
	if k == nil {
		return
	}
	k.restore()
	k.ended.Close() // again where that was done already: an error and no harm
}

// cooked calls f with the modes that there were.
func (k *keyboard) cooked(f func()) {
	if k == nil {
		f()
		return
	}
	k.restore()
	f()
	k.release()
}

// release undoes restore.
func (k *keyboard) release() {
	k.mu.Lock()
	k.hold = false
	k.mu.Unlock()
	k.raw()
}

// Read reads what is typed while outband is in the foreground. It ends with
// close.
func (k *keyboard) Read(b []byte) (int, error) {
	for {
		if !pty.Foreground(k.file) {
			if _, over := pty.Readable(nil, k.wake, look); over {
				return 0, io.EOF
			}
			continue
		}
		k.raw() // also for who was started in the background
		switch ready, over := pty.Readable(k.file, k.wake, time.Hour); {
		case over:
			return 0, io.EOF
		case !ready:
			continue
		}
		n, err := k.file.Read(b)
		if errors.Is(err, unix.EIO) && !pty.Foreground(k.file) || errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) {
			continue
		}
		return n, err
	}
}

// wantsTerminal tells whether the session is to be on a terminal: if it is
// asked for, and by default where somebody sits at one.
func (f *enterFlags) wantsTerminal() bool {
	switch {
	case f.terminal:
		return true
	case f.noTerminal, f.passStreams, f.detach, f.noInput:
		return false
	}
	return pty.IsTerminal(os.Stdin) && pty.IsTerminal(os.Stdout)
}

// useTerminal has cmd run on a terminal, and returns the keyboard that is at
// its other end, or nil.
func useTerminal(cmd *outband.Cmd) *keyboard {
	if size, ok := windowSize(); ok {
		cmd.Size = size
	}
	if pty.IsTerminal(os.Stderr) {
		cmd.Stderr = cmd.Stdout
	}
	if term, ok := os.LookupEnv("TERM"); ok {
		cmd.Env = append([]string{"TERM=" + term}, cmd.Env...)
	}
	if cmd.Stdin == nil {
		return nil
	}
	k := openKeyboard()
	if k != nil {
		cmd.Stdin, cmd.TerminalLike = k, k.file
	}
	return k
}

// windowSize is that of the caller's terminal, wherever it is.
func windowSize() (outband.Size, bool) {
	for _, f := range []*os.File{os.Stdout, os.Stdin, os.Stderr} {
		if size, err := pty.SizeOf(f); err == nil && size.Rows > 0 && size.Cols > 0 {
			return outband.Size(size), true
		}
	}
	return outband.Size{}, false
}

// hangUpTime is how long a command has after its terminal was hung up.
const hangUpTime = time.Second

// attend does what a session on a terminal needs besides bytes: sizes and
// signals. It returns when signals ends; the signal that made outband give up
// is sent to ended.
//
// A signal from outside ends the session, as a cut line would: the keys for
// signals are inside's business.
func attend(process *outband.Process, k *keyboard, signals <-chan os.Signal, cancel func(), ended chan<- unix.Signal) {
	for s := range signals {
		sig, _ := s.(unix.Signal)
		switch sig {
		case unix.SIGWINCH:
			if size, ok := windowSize(); ok {
				_ = process.Resize(size)
			}
		case unix.SIGTSTP:
			k.cooked(stopSelf)
			if size, ok := windowSize(); ok {
				_ = process.Resize(size)
			}
		case unix.SIGUSR1, unix.SIGUSR2:
			_ = process.Signal(sig)
		default:
			select {
			case ended <- sig:
			default:
			}
			_ = process.SignalGroup(unix.SIGHUP)
			_ = process.SignalGroup(unix.SIGCONT)
			time.AfterFunc(hangUpTime, cancel)
		}
	}
}
