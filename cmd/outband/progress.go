// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// tick is how often a line of progress is brought up to date.
const tick = 200 * time.Millisecond

// progress is a line at the bottom of a terminal that says what is waited for,
// as long as it is. On anything but a terminal there is none. The zero value and
// nil show nothing.
type progress struct {
	mu    sync.Mutex
	w     io.Writer
	style func() style // the window may change
	text  func() string
	shown string
	done  chan struct{}
	once  sync.Once
	gone  sync.WaitGroup
}

// follow shows on standard error what text returns, until end is called.
func follow(text func() string) *progress {
	s := styleOf(os.Stderr)
	if s.width == 0 || os.Getenv("TERM") == "dumb" {
		return nil
	}
	return followOn(os.Stderr, func() style { return styleOf(os.Stderr) }, func() string {
		if !inForeground(os.Stderr) {
			return ""
		}
		return text()
	})
}

func followOn(w io.Writer, style func() style, text func() string) *progress {
	p := &progress{w: w, style: style, text: text, done: make(chan struct{})}
	p.gone.Go(func() {
		ticker := time.NewTicker(tick)
		defer ticker.Stop()
		for {
			select {
			case <-p.done:
				return
			case <-ticker.C:
				p.mu.Lock()
				p.show()
				p.mu.Unlock()
			}
		}
	})
	return p
}

// eraseLine goes to the beginning of the line and erases it (ECMA-48 EL).
const eraseLine = "\r\x1b[K"

// show draws the line. What it says may be anybody's: it passes row.add.
func (p *progress) show() {
	s := p.style()
	s.width-- // the last column may wrap
	r := row{style: s}
	r.add(dim, p.text())
	if line := r.text.String(); line != p.shown && (line != "" || p.shown != "") {
		_, _ = io.WriteString(p.w, eraseLine+line)
		p.shown = line
	}
}

// print has something else printed, above the line.
func (p *progress) print(f func()) {
	if p == nil {
		f()
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
	f()
}

func (p *progress) erase() {
	if p.shown != "" {
		_, _ = io.WriteString(p.w, eraseLine)
		p.shown = ""
	}
}

// end takes the line away.
func (p *progress) end() {
	if p == nil {
		return
	}
	p.once.Do(func() {
		close(p.done)
		p.gone.Wait()
		p.erase()
	})
}

// inForeground is false where f is the terminal of another job: what is written
// there would go into what that shows, and may stop the writer (tostop).
func inForeground(f *os.File) bool {
	group, err := unix.IoctlGetInt(int(f.Fd()), unix.TIOCGPGRP)
	return err != nil || group == unix.Getpgrp()
}
