// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
)

// A screen is what a command shows on its terminal, and a keyboard.
type screen struct {
	t     testing.TB
	mu    sync.Mutex
	shown bytes.Buffer
	keys  *io.PipeWriter
	cmd   *Cmd
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shown.Write(b)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shown.String()
}

// onScreen starts a command on a terminal.
func onScreen(t testing.TB, c *Cmd) *screen {
	t.Helper()
	r, w := io.Pipe()
	s := &screen{t: t, keys: w, cmd: c}
	c.Terminal, c.Stdin, c.Stdout = true, r, s
	start(t, c)
	t.Cleanup(func() { w.Close() })
	return s
}

// press types.
func (s *screen) press(keys string) {
	s.t.Helper()
	if _, err := io.WriteString(s.keys, keys); err != nil {
		s.t.Fatal(err)
	}
}

// see waits until text is shown, and forgets everything up to its end.
func (s *screen) see(text string) {
	s.t.Helper()
	for until := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		s.mu.Lock()
		if i := bytes.Index(s.shown.Bytes(), []byte(text)); i >= 0 {
			s.shown.Next(i + len(text))
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		if time.Now().After(until) {
			s.t.Fatalf("waited for %q, shown is %q", text, s.String())
		}
	}
}

// wait waits for the end.
func (s *screen) wait() (err error) {
	s.t.Helper()
	within(s.t, "the end of the session", func() { err = s.cmd.Wait() })
	return err
}

// ash starts an interactive shell that is in every container that has the
// host's files.
func ash(t testing.TB, target *Target) *screen {
	t.Helper()
	c := target.Command(testutil.RequireCommand(t, "busybox", "busybox-static"), "ash", "-i")
	c.Env = []string{"PS1=ready> ", "ENV=", "TERM=xterm"}
	s := onScreen(t, c)
	s.see("ready> ")
	return s
}

// TestTerminal: a name of the container's own devpts, the size from the first
// byte, output to its end.
func TestTerminal(t *testing.T) {
	both(t, func(t *testing.T) {
		testutil.NoLeaks(t)
		target := enter(t, hostFiles())
		c := sh(target, "stty size; tty; echo >/dev/tty; stat -Lc '%a' /dev/stdin; seq 20000")
		c.Terminal, c.Size = true, Size{Rows: 11, Cols: 47}
		out := run(t, c)
		lines := strings.Split(out, "\r\n")
		if os.Geteuid() != 0 { // the host's devpts is not this container's to use
			if lines[1] != "not a tty" || lines[3] != "600" && lines[3] != "620" || !c.Process.NamelessTerminal() {
				t.Errorf("%.200q", out)
			}
			lines[1], lines[3] = "/dev/pts/0", "620"
		}
		if len(lines) < 20004 || lines[0] != "11 47" || !strings.HasPrefix(lines[1], "/dev/pts/") || lines[3] != "620" || lines[20003] != "20000" {
			t.Errorf("%.200q, %d lines", out, len(lines))
		}
		if c.Process.NamelessTerminal() != (os.Geteuid() != 0) {
			t.Error("the container's devpts is not used")
		}
	})
}

// TestJobControl: the keys of a keyboard do inside what they do anywhere.
func TestJobControl(t *testing.T) {
	testutil.NoLeaks(t)
	s := ash(t, enter(t, hostFiles()))
	s.press("sleep 1000\r")
	s.see("sleep 1000")
	await(t, "a job in the foreground", func() bool { g := s.foreground(); return g != 0 && g != s.cmd.Process.PIDs()[0] })
	s.press("\x03")
	s.see("ready> ")
	s.press("echo code $?\r")
	s.see("code 130\r\n")
	s.see("ready> ")
	s.press("cat\r")
	await(t, "a job in the foreground", func() bool { g := s.foreground(); return g != 0 && g != s.cmd.Process.PIDs()[0] })
	s.press("\x1a")
	s.see("Stopped")
	s.see("ready> ")
	s.press("fg\r")
	s.see("cat\r\n")
	s.press("again\r")
	s.see("again\r\nagain\r\n") // echoed, and by cat
	s.press("\x1c")
	s.see("Quit")
	s.press("exit 7\r")
	var exit *ExitError
	if err := s.wait(); !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Error(err)
	}
}

// foreground is the process group in the foreground, as numbered where the
// terminal's session is.
func (s *screen) foreground() int {
	group := 0
	rc, err := s.cmd.Process.terminal.master.SyscallConn()
	if err != nil {
		return 0
	}
	_ = rc.Control(func(fd uintptr) { group, _ = unix.IoctlGetInt(int(fd), unix.TIOCGPGRP) })
	return group
}

// TestResize: a new size is there and is told.
func TestResize(t *testing.T) {
	testutil.NoLeaks(t)
	s := onScreen(t, sh(enter(t, hostFiles()), "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.01; done"))
	s.see("ready")
	if err := s.cmd.Process.Resize(Size{Rows: 3, Cols: 9}); err != nil {
		t.Fatal(err)
	}
	s.see("3 9\r\n")
	if err := s.wait(); err != nil {
		t.Error(err)
	}
	c := enter(t, hostFiles()).Command("sleep", "1000")
	start(t, c)
	if err := c.Process.Resize(Size{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("without a terminal: %v", err)
	}
}

// TestTerminalInput: input ends as on a keyboard, with and without a last line
// feed, also where there is none at all, and from a file.
func TestTerminalInput(t *testing.T) {
	testutil.NoLeaks(t)
	target := enter(t, hostFiles())
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("a\nb"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for name, in := range map[string]io.Reader{"lines": strings.NewReader("a\nb\n"), "part": strings.NewReader("a\nb"), "file": f, "none": nil} {
		c := sh(target, "stty -echo; echo; cat; echo end")
		c.Terminal, c.Stdin = true, in
		out := run(t, c)
		if !strings.HasSuffix(out, "end\r\n") || name != "none" && !strings.Contains(out, "b") {
			t.Errorf("%s: %q", name, out)
		}
	}
}

// TestTerminalStderr: another standard error is a pipe.
func TestTerminalStderr(t *testing.T) {
	testutil.NoLeaks(t)
	c := sh(enter(t, hostFiles()), "test -t 0 && test -t 1 && ! test -t 2 && echo error >&2; echo output")
	var errs bytes.Buffer
	c.Terminal, c.Stderr = true, &errs
	if out := run(t, c); out != "output\r\n" || errs.String() != "error\n" {
		t.Errorf("output %q, error %q", out, errs.String())
	}
}

// TestTerminalFlood: what nobody reads fills no memory, and does not keep ^C
// from arriving.
func TestTerminalFlood(t *testing.T) {
	testutil.NoLeaks(t)
	c := enter(t, hostFiles()).Command("yes")
	stuck := &stuckWriter{full: make(chan struct{}), release: make(chan struct{})}
	r, w := io.Pipe()
	defer w.Close()
	c.Terminal, c.Stdin, c.Stdout = true, r, stuck
	start(t, c)
	<-stuck.full
	if _, err := w.Write([]byte{3}); err != nil {
		t.Fatal(err)
	}
	await(t, "the end of yes", func() bool { return c.Process.PIDs() == nil })
	close(stuck.release)
	var exit *ExitError
	within(t, "the end", func() {
		if err := c.Wait(); !errors.As(err, &exit) || exit.Signal() != unix.SIGINT {
			t.Error(err)
		}
	})
	if stuck.n > 1<<20 {
		t.Errorf("%d bytes were kept somewhere", stuck.n)
	}
}

// stuckWriter takes nothing until it is told to.
type stuckWriter struct {
	once          sync.Once
	full, release chan struct{}
	n             int
}

func (s *stuckWriter) Write(b []byte) (int, error) {
	s.once.Do(func() { close(s.full) })
	<-s.release
	s.n += len(b)
	return len(b), nil
}

// TestTerminalLeave: who is left with the terminal is listened to for a moment
// only, and loses it then.
func TestTerminalLeave(t *testing.T) {
	testutil.NoLeaks(t)
	sweepLeft(t)
	c := sh(enter(t, hostFiles()), "trap '' HUP; yes & echo begin")
	c.Terminal, c.Leave = true, true
	var out []byte
	within(t, "the end", func() { out, _ = c.Output() })
	if !bytes.Contains(out, []byte("begin")) {
		t.Errorf("%.100q", out)
	}
}

// TestTerminalClosed: who no longer reads ends the session.
func TestTerminalClosed(t *testing.T) {
	testutil.NoLeaks(t)
	c := enter(t, hostFiles()).Command("yes")
	c.Terminal, c.Stdout = true, failingWriter{}
	within(t, "the end", func() {
		if err := c.Run(); err == nil {
			t.Error("no error")
		}
	})
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// TestTerminalPanic: a panic of the caller's Writer reaches the caller, when the
// session has ended.
func TestTerminalPanic(t *testing.T) {
	testutil.NoLeaks(t)
	c := sh(enter(t, hostFiles()), "echo; sleep 1000")
	c.Terminal, c.Stdout = true, panickingWriter{}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if p := recover(); p != "evil" {
			t.Errorf("recovered %v", p)
		}
		if c.Process.PIDs() != nil {
			t.Error("the command goes on")
		}
	}()
	_ = c.Wait()
}

type panickingWriter struct{}

func (panickingWriter) Write([]byte) (int, error) { panic("evil") }

// TestTerminalReopened: a program that closes its terminal and opens it again,
// as login(1) does, has not ended anything.
func TestTerminalReopened(t *testing.T) {
	testutil.NoLeaks(t)
	c := sh(enter(t, hostFiles()), `exec 3</dev/null; t=$(tty); exec <&- >&- 2>&-; sleep 0.2; exec <"$t" >"$t" 2>&1; echo back`)
	c.Terminal = true
	if out := run(t, c); out != "back\r\n" {
		t.Errorf("%q", out)
	}
}

// TestTerminalPlan: what excludes each other, and to whom it is given.
func TestTerminalPlan(t *testing.T) {
	target := enter(t, throwaway.Spec{})
	for _, c := range []*Cmd{{Terminal: true, Detach: true}, {Terminal: true, PassStreams: true}} {
		d := target.Command("true")
		d.Terminal, d.Detach, d.PassStreams = c.Terminal, c.Detach, c.PassStreams
		if _, err := d.Plan(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// TestTerminalOwner: whoever enters has the terminal.
func TestTerminalOwner(t *testing.T) {
	testutil.RequireRoot(t)
	for name, spec := range map[string]throwaway.Spec{
		"host's users": hostFiles(), "own users": {Tree: throwaway.TreeShared, User: true},
	} {
		t.Run(name, func(t *testing.T) {
			target := enter(t, spec)
			for _, user := range []*User{nil, {UID: 33, GID: 33}} {
				c := sh(target, "stat -Lc '%u:%g %a' /dev/stdin; exec 2<>/dev/stdin && echo >&2 again")
				c.Terminal, c.User = true, user
				uid := 0
				if user != nil {
					uid = 33
				}
				if out := run(t, c); out != fmt.Sprintf("%d:5 620\r\nagain\r\n", uid) {
					t.Errorf("user %v: %q", user, out)
				}
			}
		})
	}
}

// TestNoTerminals: a devpts at its limit is told, and nothing is half entered.
func TestNoTerminals(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	target := enter(t, hostFiles())
	run(t, sh(target, "mount --make-rprivate / && mount -t devpts -o max=1,ptmxmode=666 devpts /dev/pts"))
	first := onScreen(t, target.Command("cat"))
	c := target.Command("true")
	c.Terminal = true
	var step *StepError
	if err := c.Run(); !errors.As(err, &step) || !errors.Is(err, unix.ENOSPC) || Hint(err) == "" {
		t.Errorf("%v, hint %q", err, Hint(err))
	}
	first.press("\x04")
	if err := first.wait(); err != nil {
		t.Error(err)
	}
	if out := run(t, c.again()); out != "" { // one is free again
		t.Errorf("%q", out)
	}
}

// again is c as it was before it ran.
func (c *Cmd) again() *Cmd {
	d := c.target.Command(c.Args[0], c.Args[1:]...)
	d.Terminal = c.Terminal
	return d
}
