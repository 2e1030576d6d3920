// SPDX-License-Identifier: Apache-2.0

package sys_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/sys"
	"github.com/outband/outband/internal/testutil"
)

func TestMain(m *testing.M) { testutil.Main(m) }

// long is a deadline that no test reaches unless it fails.
const long = 10 * time.Second

// child starts a shell script whose output is a number, and which lives until
// its standard input ends.
func child(t *testing.T, script string, attr syscall.SysProcAttr) (cmd *exec.Cmd, number int) {
	t.Helper()
	cmd = exec.Command("/bin/sh", "-c", script+"; read x")
	attr.Pdeathsig = syscall.SIGKILL
	cmd.SysProcAttr = &attr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if _, err := fmt.Fscanln(out, &number); err != nil {
		t.Fatal(err)
	}
	return cmd, number
}

func pidfd(t *testing.T, pid int) *os.File {
	t.Helper()
	f, err := sys.OpenPid(pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestOpenPid(t *testing.T) {
	testutil.NoLeaks(t)
	self, err := sys.Self()
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	if err := sys.Signal(self, 0, false); err != nil {
		t.Errorf("oneself: %v", err)
	}
	flags, err := unix.FcntlInt(self.Fd(), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("flags %#x, %v: it would go into every child", flags, err)
	}
	tests := []struct {
		pid  int
		want error
	}{{0, unix.EINVAL}, {-1, unix.EINVAL}, {1 << 30, unix.ESRCH}}
	for _, test := range tests {
		if f, err := sys.OpenPid(test.pid); !errors.Is(err, test.want) {
			t.Errorf("%d: %v, %v, want %v", test.pid, f, err, test.want)
		}
	}
}

func TestSignal(t *testing.T) {
	testutil.NoLeaks(t)
	cmd, pid := child(t, "echo $$", syscall.SysProcAttr{})
	f := pidfd(t, pid)
	if err := sys.Signal(f, 0, false); err != nil {
		t.Errorf("while it runs: %v", err)
	}
	if err := sys.Signal(f, 65, false); !errors.Is(err, unix.EINVAL) {
		t.Errorf("signal 65: %v, want EINVAL", err)
	}
	if err := sys.Signal(f, unix.SIGTERM, false); err != nil {
		t.Error(err)
	}
	state, _ := cmd.Process.Wait()
	if ws := state.Sys().(syscall.WaitStatus); ws.Signal() != unix.SIGTERM {
		t.Errorf("ended as %v", state)
	}
	if err := sys.Signal(f, 0, false); !errors.Is(err, unix.ESRCH) {
		t.Errorf("when it is reaped: %v, want ESRCH", err)
	}
	f.Close()
	if err := sys.Signal(f, 0, false); err == nil {
		t.Error("closed: no error")
	}
}

// A group's signal reaches those whom the leader started, one process's not.
func TestSignalGroup(t *testing.T) {
	testutil.RequireKernel(t, 6, 9, "PIDFD_SIGNAL_PROCESS_GROUP")
	testutil.NoLeaks(t)
	for _, group := range []bool{false, true} {
		t.Run(fmt.Sprint("group ", group), func(t *testing.T) {
			cmd, number := child(t, "sleep 1000 & echo $!", syscall.SysProcAttr{Setpgid: true})
			member := pidfd(t, number)
			leader, err := sys.OpenPid(cmd.Process.Pid)
			if err != nil {
				t.Fatal(err)
			}
			defer leader.Close()
			if err := sys.Signal(leader, unix.SIGKILL, group); err != nil {
				t.Fatal(err)
			}
			_, _ = cmd.Process.Wait()
			if !group && sys.Signal(member, 0, false) != nil {
				t.Error("the leader's signal has ended the other one")
			}
			if !group {
				_ = sys.Signal(member, unix.SIGKILL, false)
			}
			if !sys.Await(time.Now().Add(long), member, nil) {
				t.Error("the group's signal did not reach the other one")
			}
			_, _ = unix.Wait4(number, nil, 0, nil) // an orphan is the test's where that is a subreaper
		})
	}
}

func TestPipeBlocks(t *testing.T) {
	testutil.NoLeaks(t)
	r, w, err := sys.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	for _, f := range []*os.File{r, w} {
		err := sys.Control(f, func(fd int) {
			flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
			if err != nil || flags&unix.O_NONBLOCK != 0 {
				t.Errorf("flags %#x, %v", flags, err)
			}
			if flags, err = unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
				t.Errorf("descriptor flags %#x, %v", flags, err)
			}
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestControlKeepsMode(t *testing.T) {
	r, w, err := os.Pipe() // which does not block
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	mode := func() (nonblock bool) {
		err := sys.Control(r, func(fd int) {
			flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
			nonblock = flags&unix.O_NONBLOCK != 0
		})
		if err != nil {
			t.Fatal(err)
		}
		return nonblock
	}
	if !mode() || !mode() {
		t.Error("Control made it block")
	}
	r.Close()
	if err := sys.Control(r, func(int) { t.Error("called with a closed file") }); err == nil {
		t.Error("closed: no error")
	}
}

func socketpair(t *testing.T) (near, far *os.File) {
	t.Helper()
	near, far, err := sys.Socketpair()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

// send sends a message with descriptors.
func send(t *testing.T, f *os.File, text string, fds ...int) {
	t.Helper()
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	err := sys.Control(f, func(fd int) {
		if err := unix.Sendmsg(fd, []byte(text), rights, nil, 0); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestReceive(t *testing.T) {
	testutil.NoLeaks(t)
	near, far := socketpair(t)
	send(t, far, "first")
	send(t, far, "second", 0)
	send(t, far, "third", 0, 0)
	buf := make([]byte, 64)
	for _, want := range []struct {
		text string
		fd   bool
	}{{"first", false}, {"second", true}, {"third", true}} {
		n, fd, err := sys.Receive(near, buf)
		if err != nil || string(buf[:n]) != want.text || (fd != nil) != want.fd {
			t.Errorf("%q, %v, %v, want %+v", buf[:n], fd, err, want)
		}
		if fd == nil {
			continue
		}
		if flags, err := unix.FcntlInt(fd.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("descriptor flags %#x, %v", flags, err)
		}
		fd.Close()
	}
	// What does not fit is cut, not kept for the next message.
	send(t, far, "longer than it")
	send(t, far, "next")
	if n, _, err := sys.Receive(near, buf[:6]); err != nil || string(buf[:n]) != "longer" {
		t.Errorf("%q, %v", buf[:n], err)
	}
	if n, _, err := sys.Receive(near, buf); err != nil || string(buf[:n]) != "next" {
		t.Errorf("%q, %v", buf[:n], err)
	}
	far.Close()
	if _, _, err := sys.Receive(near, buf); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v, want io.EOF", err)
	}
	near.Close()
	if _, _, err := sys.Receive(near, buf); err == nil {
		t.Error("closed: no error")
	}
}

func TestAwait(t *testing.T) {
	testutil.NoLeaks(t)
	past, later := time.Unix(1, 0), time.Now().Add(long)
	tests := []struct {
		name     string
		deadline time.Time
		do       func(w, other *os.File)
		want     bool
	}{
		{"something to read", later, func(w, _ *os.File) { w.WriteString("x") }, true},
		{"its end", later, func(w, _ *os.File) { w.Close() }, true},
		{"the other's end", later, func(_, other *os.File) { other.Close() }, true},
		{"something to read, no deadline", time.Time{}, func(w, _ *os.File) { w.WriteString("x") }, true},
		{"nothing in time", past, func(_, _ *os.File) {}, false},
		{"nothing in 5 ms", time.Now().Add(5 * time.Millisecond), func(_, _ *os.File) {}, false},
		{"something to read from the other", past, func(_, other *os.File) { other.WriteString("x") }, false},
		{"something to read, deadline over", past, func(w, _ *os.File) { w.WriteString("x") }, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r, w := socketpair(t)
			other, far := socketpair(t)
			test.do(w, far)
			if got := sys.Await(test.deadline, r, other); got != test.want {
				t.Errorf("got %v", got)
			}
		})
	}
	r, w := socketpair(t)
	if sys.Await(past, r, nil) {
		t.Error("nothing to read, no other: got true")
	}
	w.Close()
	r.Close()
	if !sys.Await(time.Time{}, r, nil) {
		t.Error("a closed file is waited for")
	}
}

// A write from another goroutine ends the wait.
func TestAwaitWakes(t *testing.T) {
	r, w := socketpair(t)
	done := make(chan bool)
	go func() { done <- sys.Await(time.Now().Add(long), r, nil) }()
	if _, err := w.WriteString("x"); err != nil {
		t.Fatal(err)
	}
	if !<-done {
		t.Error("nothing was read until the deadline")
	}
}

func TestRelease(t *testing.T) {
	b, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		t.Fatal(err)
	}
	major, minor := sys.Release()
	if want := fmt.Sprintf("%d.%d.", major, minor); !strings.HasPrefix(string(b), want) || major < 5 {
		t.Errorf("%s of %s", want, b)
	}
}

func TestOpenFile(t *testing.T) {
	testutil.NoLeaks(t)
	f, err := sys.Open("/proc/self/cmdline", unix.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if b, err := io.ReadAll(f); err != nil || len(b) == 0 {
		t.Errorf("%q, %v", b, err)
	}
	if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("flags %#x, %v: it would go into every child", flags, err)
	}
	if _, err := sys.Open("/nonexistent", unix.O_RDONLY); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "/nonexistent") {
		t.Errorf("what is not there: %v", err)
	}
}
