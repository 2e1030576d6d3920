// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/sys"
	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
)

// start starts cmd for a test and takes hold of it.
func start(t *testing.T, f *FS, cmd *exec.Cmd) *Process {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed, or reaped by the test
	})
	p, err := f.Hold(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func sleeper() *exec.Cmd {
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// deadline bounds everything that a test waits for.
const deadline = 10 * time.Second

// await waits until done.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for until := time.Now().Add(deadline); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("waited %v for %s", deadline, what)
		}
	}
}

func waitForComm(t *testing.T, p *Process, comm string) {
	t.Helper()
	await(t, comm, func() bool {
		status, err := p.Dir.Status()
		return err == nil && status.Name == comm
	})
}

func TestHold(t *testing.T) {
	testutil.NoLeaks(t)
	f := open(t)
	cmd := sleeper()
	p := start(t, f, cmd)
	if err := p.Alive(); err != nil || p.PID != cmd.Process.Pid {
		t.Errorf("%d is %v", p.PID, err)
	}
	if status, err := p.Dir.Status(); err != nil || status.NSpid[0] != p.PID || status.PPid != os.Getpid() {
		t.Errorf("%+v, %v", status, err)
	}
}

func TestHoldWhatIsNot(t *testing.T) {
	testutil.NoLeaks(t)
	f := open(t)
	for _, pid := range []int{0, -1, -os.Getpid(), 1 << 30} {
		if p, err := f.Hold(pid); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Hold(%d): %v, %v, want fs.ErrNotExist", pid, p, err)
		}
	}
}

// The number of a thread is no process's: /proc/TID exists, but is not listed.
func TestHoldThread(t *testing.T) {
	f := open(t)
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		var tid int
		if _, err := fmt.Sscan(task.Name(), &tid); err != nil || tid == os.Getpid() {
			continue
		}
		if p, err := f.Hold(tid); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Hold of thread %d: %v, %v, want fs.ErrNotExist", tid, p, err)
		}
		return
	}
	t.Skip("skipped: the test has one thread")
}

// A process that has ended is not alive, whether it has been reaped or not, and
// is never taken for the next one with its number.
func TestAlive(t *testing.T) {
	testutil.NoLeaks(t)
	f := open(t)
	cmd := sleeper()
	p := start(t, f, cmd)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	await(t, "the zombie", func() bool {
		status, err := p.Dir.Status()
		return err == nil && status.State == 'Z'
	})
	if err := p.Alive(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("zombie: %v, want fs.ErrNotExist", err)
	}
	_ = cmd.Wait()
	if err := p.Alive(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reaped: %v, want fs.ErrNotExist", err)
	}
	if _, err := p.Dir.ReadFile("status"); !errors.Is(err, unix.ESRCH) {
		t.Errorf("its directory: %v, want ESRCH", err)
	}
}

// Another user's process is alive although it cannot be signalled.
func TestAliveOfAnotherUser(t *testing.T) {
	f := open(t)
	p, err := f.Hold(1)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Alive(); err != nil {
		t.Errorf("number 1: %v", err)
	}
}

func TestAliveAfterClose(t *testing.T) {
	f := open(t)
	p, err := f.Hold(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	if err := p.Alive(); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, want what is wrong with the descriptor", err)
	}
}

func TestHoldPidfd(t *testing.T) {
	testutil.NoLeaks(t)
	f := open(t)
	cmd := sleeper()
	held := start(t, f, cmd)
	dup := func() *os.File {
		fd, err := unix.FcntlInt(held.Pidfd.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		return os.NewFile(uintptr(fd), "pidfd")
	}
	p, err := f.HoldPidfd(dup())
	if err != nil {
		t.Fatal(err)
	}
	if p.PID != held.PID || p.Alive() != nil {
		t.Errorf("%+v of process %d", p, held.PID)
	}
	p.Close()
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if p, err := f.HoldPidfd(dup()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of a process that was reaped: %v, %v, want fs.ErrNotExist", p, err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if p, err := f.HoldPidfd(r); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of a pipe: %v, %v, want fs.ErrNotExist", p, err)
	}
}

// The numbers of a process are those that its status has.
func TestNumbers(t *testing.T) {
	f := open(t)
	c := testutil.Throwaway(t, throwaway.Spec{Depth: 3})
	for level, at := 1, c; at != nil; level++ {
		pids, err := f.Numbers(at.Pidfd())
		if err != nil || len(pids) != level+1 || pids[0] != at.Pid() || pids[level] != 1 {
			t.Errorf("level %d: %v, %v, outermost %d", level, pids, err, at.Pid())
		}
		if len(at.Inner) == 0 {
			break
		}
		at = at.Inner[0]
	}
	self, err := sys.Self()
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	if pids, err := f.Numbers(self); err != nil || !slices.Equal(pids, []int{os.Getpid()}) {
		t.Errorf("%v, %v of oneself", pids, err)
	}
}

func TestParsePidfdInfo(t *testing.T) {
	const head = "pos:\t0\nflags:\t02000002\nmnt_id:\t15\nino:\t9\n"
	tests := []struct {
		name, text string
		want       []int
	}{
		{"one level", head + "Pid:\t5\nNSpid:\t5\n", []int{5}},
		{"three levels", head + "Pid:\t5\nNSpid:\t5\t3\t1\n", []int{5, 3, 1}},
		{"reaped", head + "Pid:\t-1\nNSpid:\t-1\n", nil},
		{"not below the reader", head + "Pid:\t0\nNSpid:\t0\n", nil},
		{"no pidfd", head, nil},
		{"empty", "", nil},
		{"nothing behind", "NSpid:\n", nil},
		{"no number", "NSpid:\tx\n", nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := parsePidfdInfo([]byte(test.text))
			if !slices.Equal(got, test.want) || (err == nil) != (test.want != nil) {
				t.Errorf("got %v, %v, want %v", got, err, test.want)
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%v is not fs.ErrNotExist", err)
			}
		})
	}
}

func FuzzParsePidfdInfo(f *testing.F) {
	f.Add([]byte("Pid:\t5\nNSpid:\t5\t1\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		pids, err := parsePidfdInfo(b)
		if (err == nil) != (len(pids) > 0) || slices.ContainsFunc(pids, func(pid int) bool { return pid < 0 }) {
			t.Errorf("%v, %v", pids, err)
		}
		if err == nil && pids[0] == 0 {
			t.Errorf("%v: a process without a number", pids)
		}
	})
}

// A hostile name of a real process is read as it is, and its start is found.
func TestHostileComm(t *testing.T) {
	f := open(t)
	for _, comm := range []string{") S 1", "a\nUid:\t0", "\x1b[31m", `\n`, " x ", "\xff"} {
		cmd := exec.Command("/bin/sh", "-c", `printf %s "$0" >/proc/self/comm; read x`, comm)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		// printf is the shell's own, so that self is the shell.
		p := start(t, f, cmd)
		waitForComm(t, p, comm)
		stat, err := p.Dir.ReadFile("stat")
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseStart(stat)
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')'):])
		if want := string(fields[20]); err != nil || fmt.Sprint(got) != want {
			t.Errorf("%q started at %d, %v, want %s", comm, got, err, strings.TrimSpace(want))
		}
		in.Close()
	}
}
