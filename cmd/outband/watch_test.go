// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/throwaway"
)

// terminal is a pseudo-terminal and what was written to it.
type terminal struct {
	t          *testing.T
	main, peer *os.File

	mu  sync.Mutex
	out bytes.Buffer
}

func openTerminal(t *testing.T) *terminal {
	t.Helper()
	main, err := os.OpenFile("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(main.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	err = errors.Join(err, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0), unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 12, Col: 60}))
	if err != nil {
		t.Fatal(err)
	}
	peer, err := os.OpenFile("/dev/pts/"+strconv.Itoa(number), unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	x := &terminal{t: t, main: main, peer: peer}
	t.Cleanup(func() { main.Close(); peer.Close() })
	go x.read()
	return x
}

func (x *terminal) read() {
	buf := make([]byte, 4096)
	for {
		n, err := x.main.Read(buf)
		x.mu.Lock()
		x.out.Write(buf[:n])
		x.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (x *terminal) text() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.out.String()
}

// await waits until the terminal has shown something.
func (x *terminal) await(want string) {
	x.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if strings.Contains(x.text(), want) {
			return
		}
	}
	x.t.Fatalf("%q never shows in %q", want, x.text())
}

// start runs outband on the terminal, in a session of its own.
func (x *terminal) start(env []string, args ...string) *exec.Cmd {
	x.t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Args[0] = "outband"
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = x.peer, x.peer, x.peer
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd
}

// --watch gives the terminal back, whatever ends it.
func TestWatchEnds(t *testing.T) {
	for name, end := range map[string]func(x *terminal, cmd *exec.Cmd, box *throwaway.Container){
		"q":               func(x *terminal, _ *exec.Cmd, _ *throwaway.Container) { _, _ = x.main.WriteString("jk\x1b[Bq") },
		"^C":              func(x *terminal, _ *exec.Cmd, _ *throwaway.Container) { _, _ = x.main.WriteString("\x03") },
		"SIGTERM":         func(_ *terminal, cmd *exec.Cmd, _ *throwaway.Container) { _ = cmd.Process.Signal(unix.SIGTERM) },
		"SIGHUP":          func(_ *terminal, cmd *exec.Cmd, _ *throwaway.Container) { _ = cmd.Process.Signal(unix.SIGHUP) },
		"the target ends": func(_ *terminal, _ *exec.Cmd, box *throwaway.Container) { box.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			box, err := throwaway.Start(context.Background(), throwaway.Spec{Name: "box"})
			if err != nil {
				t.Fatal(err)
			}
			defer box.Close()
			x := openTerminal(t)
			before, err := unix.IoctlGetTermios(int(x.peer.Fd()), unix.TCGETS)
			if err != nil {
				t.Fatal(err)
			}
			cmd := x.start([]string{"TERM=xterm", "NO_COLOR="}, "--run-dir", t.TempDir(), "tree", strconv.Itoa(box.Pid()), "--watch")
			x.await("q ends")
			end(x, cmd, box)
			err = cmd.Wait()
			after, terr := unix.IoctlGetTermios(int(x.peer.Fd()), unix.TCGETS)
			if terr != nil || *after != *before {
				t.Errorf("the terminal's modes are %+v, were %+v, %v", after, before, terr)
			}
			x.await(leaveScreen)
			if name == "q" && err != nil {
				t.Error(err)
			}
			if text := x.text(); !strings.HasPrefix(text, enterScreen) || !strings.Contains(text, "\x1b[2m") {
				t.Errorf("%q", text)
			}
		})
	}
}

// Colours are for terminals that have them, and for those who want them.
func TestColours(t *testing.T) {
	for env, want := range map[string]bool{"TERM=xterm": true, "TERM=dumb": false, "TERM=": false, "NO_COLOR=1": false} {
		x := openTerminal(t)
		cmd := x.start([]string{"NO_COLOR=", "TERM=xterm", env}, "tree", "--all", "--run-dir", t.TempDir())
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
		x.await("PROCESS")
		if got := strings.Contains(x.text(), "\x1b["); got != want {
			t.Errorf("%s: colours %v", env, got)
		}
	}
}

// Where no escape sequences may be used, --watch uses none.
func TestWatchDumb(t *testing.T) {
	for _, env := range []string{"TERM=dumb", "TERM="} {
		x := openTerminal(t)
		cmd := x.start([]string{env}, "tree", "--all", "--watch", "--run-dir", t.TempDir())
		x.await("PROCESS")
		x.await("\r\n\r\n") // the end of a picture
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if text := x.text(); strings.Contains(text, "\x1b") {
			t.Errorf("%s: %q", env, text)
		}
	}
}

// What is to be said of every picture is said once, as long as it is so.
func TestSayingOnce(t *testing.T) {
	var told bytes.Buffer
	p := &program{stderr: &told}
	pictures := [][]string{{"a", "b"}, {"a", "b"}, {"a", "c"}, {}, {"a"}}
	look := p.sayingOnce(func() (*forest, error) {
		notes := pictures[0]
		pictures = pictures[1:]
		for _, note := range notes {
			p.say("note: %s", note)
		}
		if len(pictures) == 0 {
			return nil, io.EOF
		}
		return nil, nil
	})
	for len(pictures) > 0 {
		if _, err := look(); err != nil && len(pictures) > 0 {
			t.Fatal(err)
		}
	}
	note := func(word string) string { return "outband: note: " + word + "\n" }
	if want := note("a") + note("b") + note("c") + note("a"); told.String() != want {
		t.Errorf("%q, want %q", told.String(), want)
	}
}

// Without a terminal --watch prints what changes, and ends with its reader.
func TestWatchLines(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	f := hostileTree(t)
	looked := 0
	var out bytes.Buffer
	err := watchLines(ctx, &out, &treeFlags{output: "json"}, func() (*forest, error) {
		if looked++; looked == 3 {
			return nil, io.EOF
		}
		return f, nil
	})
	if !errors.Is(err, io.EOF) || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("%v, %q", err, out.String())
	}
}
