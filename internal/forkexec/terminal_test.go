// SPDX-License-Identifier: Apache-2.0

package forkexec

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/sys"
)

// onTerminal runs a line of sh on a terminal and returns what it wrote there.
func (x *target) onTerminal(grouped bool, change func(*Spec), line string) (said string, ours bool) {
	x.t.Helper()
	spec, release := x.spec(grouped, line)
	defer release()
	root, err := os.OpenFile(fmt.Sprintf("/proc/%d/root", x.pid), unix.O_PATH, 0)
	if err != nil {
		x.t.Fatal(err)
	}
	defer root.Close()
	spec.Root, spec.Stdin, spec.Stdout, spec.Stderr = root, nil, nil, nil
	spec.Terminal = &Terminal{Rows: 7, Cols: 33, Owner: NoID, Group: NoID}
	if change != nil {
		change(spec)
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	s, err := start(ctx, *spec, sys.ReapsByPidfd())
	if err != nil {
		x.t.Fatal(err)
	}
	defer hangUp(s)
	master, ours := s.Terminal()
	text := make(chan string, 1)
	go func() { text <- readAll(master) }()
	if status, err := wait(x.t, s); err != nil || status.Code != 0 {
		x.t.Errorf("%q: %+v, %v", line, status, err)
	}
	select {
	case said = <-text:
	case <-time.After(deadline):
		x.t.Fatalf("%q: the terminal has no end", line)
	}
	return said, ours
}

// readAll reads a terminal to its end, which is EIO: nobody has the other end
// open any more.
func readAll(master *os.File) string {
	var said strings.Builder
	buf := make([]byte, 4096)
	for {
		n, err := unix.Read(int(master.Fd()), buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return said.String()
		}
		said.Write(buf[:n])
	}
}

// TestTerminal: the command has a terminal of its target's devpts, of the size
// that was asked for from the start, as its controlling one, and nothing else.
func TestTerminal(t *testing.T) {
	x := newTarget(t)
	for _, grouped := range []bool{true, false} {
		t.Run(fmt.Sprint("cgroup ", grouped), func(t *testing.T) {
			x := x.in(t)
			before := takeCensus()
			said, ours := x.onTerminal(grouped, nil, "stty size; tty; echo >/dev/tty; test -t 2; echo /proc/self/fd/*; ps -o tty= -p $$ | grep -c pts/")
			words := strings.Fields(said)
			if ours || len(words) < 7 || words[0] != "7" || words[1] != "33" || !strings.HasPrefix(words[2], "/dev/pts/") {
				t.Errorf("%q, of ours: %v", said, ours)
			}
			if rest := strings.Join(words[3:], " "); rest != "/proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2 1" && // of a glob, without its own
				!strings.HasPrefix(rest, "/proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2 /proc/self/fd/3 ") {
				t.Errorf("open files %q", rest)
			}
			x.empty("the end")
			before.check(t)
		})
	}
}

// TestTerminalOfOurs: without a root of the target's there is no devpts to be
// trusted, and the terminal is one of an instance that is mounted nowhere: it
// controls, but has no name. Its number says nothing of the host's terminals.
func TestTerminalOfOurs(t *testing.T) {
	x := newTarget(t)
	said, ours := x.onTerminal(true, func(s *Spec) { s.Root = nil }, "stty size; echo >/dev/tty && tty || stat -Lc '%d %t' /dev/stdin /dev/pts/ptmx")
	words := strings.Fields(said)
	if !ours || len(words) < 3 || words[0] != "7" {
		t.Fatalf("%q, of ours: %v", said, ours)
	}
	if device, host := words[len(words)-4], words[len(words)-2]; device == host {
		t.Errorf("%q: the terminal is one of the host's", said)
	}
}

// TestTerminalOwner: the terminal is the user's and group tty's, or the user's
// alone where there is no such group.
func TestTerminalOwner(t *testing.T) {
	x := newTarget(t)
	for _, c := range []struct {
		owner, group uint32
		want         string
	}{
		{33, 5, "33:5 620"},
		{33, NoID, "33:5 600"}, // of the group that devpts gives it
		{NoID, 5, "0:5 620"},
	} {
		said, _ := x.onTerminal(true, func(s *Spec) { s.Terminal.Owner, s.Terminal.Group = c.owner, c.group }, "stat -Lc '%u:%g %a' /dev/stdin")
		if got := strings.TrimSpace(said); got != c.want && got != strings.Replace(c.want, ":5 600", ":0 600", 1) {
			t.Errorf("owner %d, group %d: %q, not %q", c.owner, c.group, got, c.want)
		}
	}
}

// TestTerminalModes: modes that are asked for are there from the start.
func TestTerminalModes(t *testing.T) {
	x := newTarget(t)
	modes := &unix.Termios{Iflag: unix.ICRNL | unix.IUTF8, Oflag: unix.OPOST | unix.ONLCR, Cflag: unix.CS8 | unix.CREAD | unix.B38400, Lflag: unix.ICANON | unix.ISIG}
	modes.Cc[unix.VINTR] = 'x'
	said, _ := x.onTerminal(true, func(s *Spec) { s.Terminal.Modes = modes }, "stty -a")
	if !strings.Contains(said, "intr = x;") || !strings.Contains(said, " iutf8") || !strings.Contains(said, "-echo ") {
		t.Error(said)
	}
}

// TestTerminalError: a redirected standard error keeps its own descriptor.
func TestTerminalError(t *testing.T) {
	x := newTarget(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	said, _ := x.onTerminal(true, func(s *Spec) { s.Stderr = w }, "test -t 0 && test -t 1 && ! test -t 2 && echo error >&2")
	buf := make([]byte, 16)
	n, err := r.Read(buf)
	if said != "" || err != nil || string(buf[:n]) != "error\n" {
		t.Errorf("terminal %q, error %q, %v", said, buf[:n], err)
	}
}
