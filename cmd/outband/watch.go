// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// watchTime is how long a picture lasts at least; the machine is not to be busy
// with it for more than a twentieth of the time.
const (
	watchTime  = time.Second
	watchShare = 20
)

// watch shows one picture after the other until it is told to end or its target
// has ended.
func (p *program) watch(ctx context.Context, f *treeFlags, target string, look func() (*forest, error)) error {
	if s := styleOf(canvas()); f.output == "" && s.width > 0 && !dumb() {
		return p.watchScreen(ctx, f, target, look)
	}
	return watchLines(ctx, canvas(), f, p.sayingOnce(look))
}

// sayingOnce has look say of each picture what it did not say of the one before.
func (p *program) sayingOnce(look func() (*forest, error)) func() (*forest, error) {
	var last []string
	return func() (*forest, error) {
		var said bytes.Buffer
		stderr := p.stderr
		p.stderr = &said
		t, err := look()
		p.stderr = stderr
		lines := slices.Collect(strings.Lines(said.String()))
		for _, line := range lines {
			if !slices.Contains(last, line) {
				fmt.Fprint(stderr, line)
			}
		}
		last = lines
		return t, err
	}
}

// watchLines prints each picture that differs from the one before: JSON on a
// line of its own, a drawing with an empty line behind it.
func watchLines(ctx context.Context, w io.Writer, f *treeFlags, look func() (*forest, error)) error {
	var last []byte
	for {
		begin := time.Now()
		t, err := look()
		if err != nil {
			return err
		}
		var now bytes.Buffer
		if f.output == "json" {
			err = writeTree(&now, t)
		} else {
			for _, line := range draw(t, styleOf(w), f.all) {
				fmt.Fprintln(&now, line.text)
			}
			fmt.Fprintln(&now)
		}
		if err == nil && !bytes.Equal(now.Bytes(), last) {
			last = now.Bytes()
			_, err = w.Write(last)
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause(time.Since(begin))):
		}
	}
}

// pause is how long to wait after a picture that took so long.
func pause(took time.Duration) time.Duration { return max(watchTime, watchShare*took) }

// Sequences of a terminal (xterm's, which all have).
const (
	enterScreen = "\x1b[?1049h\x1b[?25l" // the other screen, no cursor
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	home        = "\x1b[H"
	clearLine   = "\x1b[K"
	clearBelow  = "\x1b[J"
)

// screen is the terminal while it is taken. It is given back on every way out
// but SIGKILL.
type screen struct {
	saved *unix.Termios // of standard input; nil: that is no terminal
}

// takeScreen takes the terminal. In the background nothing is touched: its modes
// are somebody else's there.
func takeScreen() (*screen, error) {
	s := &screen{}
	if saved, err := unix.IoctlGetTermios(0, unix.TCGETS); err == nil {
		group, err := unix.IoctlGetInt(0, unix.TIOCGPGRP)
		if err == nil && group != unix.Getpgrp() {
			return nil, errors.New("it runs in the background: --watch needs the terminal")
		}
		s.saved = saved
	}
	return s, s.enter()
}

func (s *screen) enter() error {
	if s.saved != nil {
		raw := *s.saved
		raw.Lflag &^= unix.ICANON | unix.ECHO
		raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
		if err := unix.IoctlSetTermios(0, unix.TCSETSW, &raw); err != nil {
			return os.NewSyscallError("tcsetattr", err)
		}
	}
	_, err := canvas().WriteString(enterScreen)
	return err
}

func (s *screen) leave() {
	_, _ = canvas().WriteString(leaveScreen) // it may be gone
	if s.saved != nil {
		_ = unix.IoctlSetTermios(0, unix.TCSETSW, s.saved)
	}
}

// watchScreen shows pictures in place, and moves among them as keys say.
func (p *program) watchScreen(ctx context.Context, f *treeFlags, target string, look func() (*forest, error)) (err error) {
	t, err := look() // errors are told on the screen that stays
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGTSTP, unix.SIGWINCH)
	defer signal.Stop(signals)
	s, err := takeScreen()
	if err != nil {
		return err
	}
	defer s.leave()
	stderr := p.stderr
	p.stderr = io.Discard // what it would say was said before the first picture
	defer func() { p.stderr = stderr }()
	keys := make(chan byte, 64)
	go readKeys(keys)
	v := &view{title: strings.TrimSpace("outband tree " + target), all: f.all}
	for {
		begin := time.Now()
		v.update(t)
		if err := v.show(canvas()); err != nil {
			return err
		}
		again := time.NewTimer(pause(time.Since(begin)))
		for looking := false; !looking; {
			select {
			case <-ctx.Done():
				return nil
			case <-again.C:
				looking = true
			case sig := <-signals:
				if stop, err := s.on(sig); stop {
					return err
				}
				v.last = ""
				v.update(t)
			case key, ok := <-keys:
				if !ok {
					keys = nil // no input: it goes on
				} else if v.press(key) {
					return nil
				}
			}
			if err := v.show(canvas()); err != nil {
				return err
			}
		}
		if t, err = look(); err != nil {
			return err
		}
	}
}

// on does what a signal asks for; stop says to end, with the shell's exit code.
func (s *screen) on(sig os.Signal) (stop bool, err error) {
	switch sig {
	case unix.SIGWINCH:
		return false, nil
	case unix.SIGTSTP:
		s.leave()
		stopSelf()
		return false, s.enter()
	}
	number, _ := sig.(unix.Signal)
	return true, exitStatus(128 + int(number))
}

func readKeys(keys chan<- byte) {
	defer close(keys)
	buf := make([]byte, 64)
	for {
		n, err := os.Stdin.Read(buf)
		for _, key := range buf[:max(n, 0)] {
			keys <- key
		}
		if err != nil {
			return
		}
	}
}
