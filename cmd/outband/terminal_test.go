// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/pty"
	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
)

// A desk is a terminal of a user's with outband, or something that starts it,
// on it.
type desk struct {
	*exec.Cmd
	t            *testing.T
	master, peer *os.File
	run          string // where sessions are recorded
	before       unix.Termios
	mu           sync.Mutex
	shown        bytes.Buffer
	ended        chan struct{}
}

// box is a container with the host's files.
func box(t *testing.T) *throwaway.Container {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := throwaway.Start(ctx, throwaway.Spec{Name: "box", Tree: throwaway.TreeShared})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// sit starts a program on a terminal of 30 rows of 90.
func sit(t *testing.T, run string, change func(*exec.Cmd), args ...string) *desk {
	t.Helper()
	d := &desk{t: t, run: run, ended: make(chan struct{})}
	var err error
	if d.master, d.peer, err = pty.Pair(); err != nil {
		t.Fatal(err)
	}
	modes, err := pty.Modes(d.peer)
	if err != nil {
		t.Fatal(err)
	}
	d.before = *modes
	if err := pty.SetSize(d.master, pty.Size{Rows: 30, Cols: 90}); err != nil {
		t.Fatal(err)
	}
	d.Cmd = exec.Command(args[0], args[1:]...)
	if args[0] == "outband" {
		d.Path, d.Err = os.Args[0], nil
	}
	d.Stdin, d.Stdout, d.Stderr = d.peer, d.peer, d.peer
	d.Env = append(os.Environ(), "TERM=xterm")
	d.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if change != nil {
		change(d.Cmd)
	}
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	go d.show()
	go func() { _ = d.Wait(); close(d.ended) }()
	t.Cleanup(func() { _ = d.Process.Kill(); <-d.ended; d.peer.Close(); d.master.Close() })
	return d
}

// enterBox sits down at a session in a fresh container.
func enterBox(t *testing.T, command ...string) *desk {
	t.Helper()
	run := t.TempDir()
	args := []string{"outband", "--run-dir", run, "enter", strconv.Itoa(box(t).Pid())}
	return sit(t, run, nil, append(args, command...)...)
}

func (d *desk) show() {
	buf := make([]byte, 4096)
	for {
		n, err := d.master.Read(buf)
		if err != nil {
			return
		}
		d.mu.Lock()
		d.shown.Write(buf[:n])
		d.mu.Unlock()
	}
}

// see waits until text is shown, and forgets everything up to its end.
func (d *desk) see(text string) {
	d.t.Helper()
	d.until("there is no "+strconv.Quote(text), func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		i := bytes.Index(d.shown.Bytes(), []byte(text))
		if i >= 0 {
			d.shown.Next(i + len(text))
		}
		return i >= 0
	})
}

func (d *desk) until(what string, done func() bool) {
	d.t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.t.Fatalf("%s; shown is %q", what, d.shown.String())
		}
	}
}

func (d *desk) press(keys string) {
	d.t.Helper()
	if _, err := io.WriteString(d.master, keys); err != nil {
		d.t.Fatal(err)
	}
}

// code waits for the end and returns the exit code.
func (d *desk) code() int {
	d.t.Helper()
	select {
	case <-d.ended:
	case <-time.After(patience):
		d.t.Fatal("it does not end")
	}
	return d.ProcessState.ExitCode()
}

// restored tells whether the terminal is set as it was.
func (d *desk) restored() bool {
	now, err := pty.Modes(d.peer)
	return err == nil && *now == d.before
}

func (d *desk) awaitRaw() { d.t.Helper(); d.until("not raw", func() bool { return !d.restored() }) }

// TestTerminalWaysOut: however a session ends, the terminal is as it was.
func TestTerminalWaysOut(t *testing.T) {
	end := func(sig unix.Signal) func(*desk) { return func(d *desk) { _ = d.Process.Signal(sig) } }
	for name, c := range map[string]struct {
		end  func(*desk)
		code int
	}{
		"exit":    {func(d *desk) { d.press("exit 3\r") }, 3},
		"SIGTERM": {end(unix.SIGTERM), 128 + 15}, "SIGHUP": {end(unix.SIGHUP), 128 + 1},
		"SIGINT": {end(unix.SIGINT), 128 + 2}, "SIGQUIT": {end(unix.SIGQUIT), 128 + 3},
		"command killed": {func(d *desk) { d.press("kill -9 $$\r") }, 128 + 9},
	} {
		t.Run(name, func(t *testing.T) {
			d := enterBox(t, "/bin/sh", "-c", `echo ready; trap "" TERM INT; while read x; do $x; eval "$x"; done`)
			d.see("ready")
			d.awaitRaw()
			c.end(d)
			if got := d.code(); got != c.code || !d.restored() {
				t.Errorf("exit code %d, not %d; restored: %v", got, c.code, d.restored())
			}
		})
	}
	t.Run("nothing executed", func(t *testing.T) {
		d := enterBox(t, "/nope")
		d.see("cannot be executed")
		if got := d.code(); got != 127 || !d.restored() {
			t.Errorf("exit code %d, restored: %v", got, d.restored())
		}
	})
}

// TestTerminalStopped: stopped from outside, the terminal is the shell's as it
// was; afterwards it is the session's.
func TestTerminalStopped(t *testing.T) {
	d := enterBox(t, "cat")
	d.awaitRaw()
	if err := d.Process.Signal(unix.SIGTSTP); err != nil {
		t.Fatal(err)
	}
	awaitState(t, d.Process.Pid, 'T')
	if !d.restored() {
		t.Error("not restored while it is stopped")
	}
	if err := d.Process.Signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	d.awaitRaw()
	d.press("go on\r")
	d.see("go on\r\ngo on\r\n")
	d.press("\x04")
	if got := d.code(); got != 0 || !d.restored() {
		t.Errorf("exit code %d, restored: %v", got, d.restored())
	}
}

// TestTerminalSize: it is right from the first byte and follows; TERM goes in.
func TestTerminalSize(t *testing.T) {
	d := enterBox(t, "/bin/sh", "-c", "stty size; echo $TERM; tty; trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.01; done")
	d.see("30 90\r\nxterm\r\n/dev/pts/")
	d.see("ready")
	if err := pty.SetSize(d.master, pty.Size{Rows: 12, Cols: 34}); err != nil {
		t.Fatal(err)
	}
	d.see("12 34\r\n")
	if got := d.code(); got != 0 {
		t.Errorf("exit code %d", got)
	}
}

// TestTerminalBackground: under job control a session in the background is
// never stopped, and is typed to when it comes to the foreground.
func TestTerminalBackground(t *testing.T) {
	bash := testutil.RequireCommand(t, "bash", "bash")
	run, c := t.TempDir(), box(t)
	d := sit(t, run, func(cmd *exec.Cmd) {
		cmd.Env = append(cmd.Env, "PS1=prompt> ", "BOX="+strconv.Itoa(c.Pid()), "RUN="+run, "SELF="+os.Args[0])
	},
		bash, "--norc", "--noediting", "-i")
	d.see("prompt> ")
	d.press("(exec -a outband $SELF --run-dir $RUN enter $BOX -- sh -c 'echo says; read x; echo got $x') &\r")
	d.see("says\r")      // and another one, of the terminal that is not raw
	time.Sleep(2 * look) // long enough for it to have been read from, or stopped
	d.press("jobs\r")
	d.see("Running")
	d.press("fg\r")
	d.see("fg\r\n")
	d.until("it is not typed to", func() bool { return !d.restored() })
	d.press("key\r")
	d.see("got key\r\n")
	d.press("echo back\r")
	d.see("back\r\n")
	d.press("exit\r")
	d.code()
}

// TestTerminalNowhere: cron and nohup have no terminal, and -t makes one all the
// same.
func TestTerminalNowhere(t *testing.T) {
	c, run := box(t), t.TempDir()
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"sh", "-c", "test -t 0 || echo pipe"}, "pipe\n"},
		{[]string{"-t", "sh", "-c", "stty size; echo ${TERM:-none}"}, "24 80\r\nnone\r\n"},
	} {
		cmd := exec.Command(os.Args[0], append([]string{"--run-dir", run, "enter", strconv.Itoa(c.Pid())}, test.args...)...)
		cmd.Args[0] = "outband"
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
		out, err := cmd.CombinedOutput()
		if err != nil || string(out) != test.want {
			t.Errorf("%q: %q, %v", test.args, out, err)
		}
	}
}

// TestTerminalKilled: with outband its session ends, and its terminal.
func TestTerminalKilled(t *testing.T) {
	d := enterBox(t, "/bin/sh", "-c", "echo ready; trap '' HUP; sleep 1000")
	d.see("ready")
	command := awaitRecord(t, d.run)
	if err := d.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	d.code()
	d.until("the command lives", func() bool {
		_, err := os.Stat(filepath.Join("/proc", strconv.Itoa(command)))
		return errors.Is(err, os.ErrNotExist)
	})
}

// TestTerminalVim: an editor and a pager, stopped, continued and resized, in a
// container with the host's files.
func TestTerminalVim(t *testing.T) {
	for name, pkg := range map[string]string{"vim.tiny": "vim-tiny", "less": "less", "bash": "bash"} {
		testutil.RequireCommand(t, name, pkg)
	}
	file := filepath.Join(t.TempDir(), "file")
	d := enterBox(t, "env", "PS1=prompt> ", "bash", "--norc", "-i")
	d.see("prompt> ")
	d.press("vim.tiny -u NONE " + file + "\r")
	d.see("\x1b[30;1H") // the last line of the screen
	d.press("ihello\x1b")
	d.press("\x1a")
	d.see("Stopped")
	d.see("prompt> ")
	d.press("fg\r")
	d.see("hello")
	if err := pty.SetSize(d.master, pty.Size{Rows: 17, Cols: 60}); err != nil {
		t.Fatal(err)
	}
	d.see("\x1b[17;1H")
	d.press(":wq\r")
	d.see("prompt> ")
	d.until("nothing is written", func() bool { text, _ := os.ReadFile(file); return string(text) == "hello\n" })
	d.press("seq 1000 | less\r")
	d.see("16\r\n")
	d.press("G")
	d.see("1000")
	d.press("q")
	d.see("prompt> ")
	d.press("exit\r")
	if got := d.code(); got != 0 || !d.restored() {
		t.Errorf("exit code %d, restored: %v", got, d.restored())
	}
}
