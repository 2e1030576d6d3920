// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/sys"
	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/ns"
)

// The command ends with its context, and so does what it left behind.
func TestContext(t *testing.T) {
	testutil.NoLeaks(t)
	both(t, func(t *testing.T) {
		target := enter(t, hostFiles())
		ctx, cancel := context.WithCancel(context.Background())
		c := target.CommandContext(ctx, "/bin/sh", "-c", "trap '' TERM INT; sleep 1000 & sleep 1000")
		start(t, c)
		alone := others(t, target)
		cancel()
		within(t, "the end of a command whose context is done", func() { _ = c.Wait() })
		if c.ProcessState.Signal() != unix.SIGKILL {
			t.Errorf("it ended by %v", c.ProcessState)
		}
		if left := others(t, target); left > 0 || alone == 0 {
			t.Errorf("%d processes before, %d left", alone, left)
		}
		if err := target.CommandContext(ctx, "true").Start(); !errors.Is(err, context.Canceled) {
			t.Errorf("started after its context's end: %v", err)
		}
	})
}

// others counts the processes in the target's pid namespace but its init.
func others(t testing.TB, target *Target) int {
	t.Helper()
	return len(members(t, target.Namespaces()[ns.PID])) - 1
}

// members are the processes of a pid namespace that are no zombies.
func members(t testing.TB, id ns.ID) []int {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, dir := range dirs {
		var pid int
		if _, err := fmt.Sscanf(dir, "/proc/%d/", &pid); err != nil {
			continue
		}
		if link, err := os.Readlink(dir); err == nil && link == fmt.Sprintf("pid:[%d]", id) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// A file system of the target that does not answer holds nobody for long, and
// nothing is left of the attempt.
func TestStartTimeout(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skipf("skipped: needs FUSE: %v", err)
	}
	r, w := pipePair(t)
	spec := hostFiles()
	spec.Args, spec.Stdout = []string{"/proc/self/exe", "__fuse"}, w
	target := enter(t, spec)
	if said, err := bufio.NewReader(r).ReadString('\n'); said != "ready\n" {
		t.Fatalf("%q, %v", said, err)
	}
	for what, change := range map[string]func(*Cmd){
		"directory": func(c *Cmd) { c.Dir = deadMount + "/dir" }, "command": func(c *Cmd) { c.Args[0] = deadMount + "/true" },
		"path": func(c *Cmd) { c.Env = []string{"PATH=" + deadMount + ":/bin"} },
	} {
		c := target.Command("true")
		c.StartTimeout = 100 * time.Millisecond
		change(c)
		within(t, "a "+what+" that does not answer", func() {
			if err := c.Start(); !errors.Is(err, ErrDeadline) {
				t.Errorf("%s: %v, want ErrDeadline", what, err)
			}
		})
		ctx, cancel := context.WithCancel(context.Background())
		c = target.CommandContext(ctx, "true")
		change(c)
		time.AfterFunc(50*time.Millisecond, cancel)
		within(t, "a "+what+" that does not answer", func() {
			if err := c.Start(); !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v, want context.Canceled", what, err)
			}
		})
	}
	if n := others(t, target); n > 0 {
		t.Errorf("%d processes are left", n)
	}
	if err := target.Command("true").Run(); err != nil {
		t.Error(err)
	}
}

// deadMount is where fuseJob mounts a file system that never answers.
const deadMount = "/mnt"

// fuseJob mounts one in a mount namespace of its own. Requests stay unread, so
// that what waits for them can be killed.
func fuseJob([]string) int {
	device, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err == nil {
		options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", device.Fd())
		err = unix.Mount("dead", deadMount, "fuse", 0, options)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("ready")
	_ = unix.Pause()
	runtime.KeepAlive(device)
	return 0
}

// What is left running is ended with the command, unless it may stay.
func TestLeave(t *testing.T) {
	testutil.NoLeaks(t)
	sweepLeft(t)
	both(t, func(t *testing.T) {
		for _, leave := range []bool{false, true} {
			target := enter(t, hostFiles())
			// Two daemons, one by way of a double fork into a session of its own.
			c := sh(target, "sleep 1000 & (setsid sleep 1000 &) ; :")
			c.Leave = leave
			within(t, "a command that leaves something", func() {
				if err := c.Run(); err != nil {
					t.Error(err)
				}
			})
			want := 0
			if leave {
				want = 2
			}
			await(t, "the right number of processes", func() bool { return others(t, target) >= want })
			if got := others(t, target); got < want || !leave && got > 0 {
				t.Errorf("leave %v: %d processes are left", leave, got)
			}
		}
	})
}

// A detached command lives without anybody's help, with no streams.
func TestDetach(t *testing.T) {
	testutil.NoLeaks(t)
	target := enter(t, throwaway.Spec{})
	c := target.Command("sleep", "1000")
	c.Detach = true
	start(t, c)
	pid := c.Process.PIDs()[0]
	for fd := range 3 {
		var st unix.Stat_t
		if err := unix.Stat(fmt.Sprintf("/proc/%d/fd/%d", pid, fd), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != unix.Mkdev(1, 3) {
			t.Errorf("descriptor %d: mode %o, device %#x, %v", fd, st.Mode, st.Rdev, err)
		}
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d/fd/3", pid)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a fourth descriptor: %v", err)
	}
}

// The warden holds what the caller says, as long as the session lives.
func TestHold(t *testing.T) {
	testutil.NoLeaks(t)
	target := enter(t, throwaway.Spec{})
	path := filepath.Join(t.TempDir(), "lock")
	open := func() *os.File {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	lock := func(f *os.File) (err error) {
		_ = sys.Control(f, func(fd int) { err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
		return err
	}
	file := open()
	if err := lock(file); err != nil {
		t.Fatal(err)
	}
	c, pid := sleeper(t, target, func(c *Cmd) { c.Hold = []*os.File{file} })
	file.Close()
	again := open()
	defer again.Close()
	if err := lock(again); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("while the session lives: %v, want EWOULDBLOCK", err)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d/fd/3", pid)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the command has more than its streams: %v", err)
	}
	_ = c.Process.Signal(unix.SIGKILL)
	_ = c.Wait()
	if err := lock(again); err != nil {
		t.Errorf("when it has ended: %v", err)
	}
}

// A thousand commands leave no goroutine, descriptor, thread or process.
func TestThousandCommands(t *testing.T) {
	target := enter(t, throwaway.Spec{})
	if err := target.Command("true").Run(); err != nil { // what is made once
		t.Fatal(err)
	}
	testutil.NoLeaks(t)
	ignore := goleak.IgnoreCurrent()
	before := runtime.NumGoroutine()
	for i := range 1000 {
		c := target.Command("echo", "x")
		var out bytes.Buffer
		switch i % 4 {
		case 0:
			c.Stdin = strings.NewReader("never read")
		case 1:
			c.Stdout = &out
		case 2:
			c.Stdout, c.Stderr = &out, &out
		case 3:
			c.Args[0] = "no-such-command"
		}
		if err := c.Run(); err != nil && !errors.Is(err, ErrExec) {
			t.Fatal(err)
		}
		if i%4 == 1 && out.String() != "x\n" {
			t.Fatalf("%d: %q", i, out.String())
		}
	}
	if err := goleak.Find(ignore); err != nil {
		t.Errorf("%d goroutines before: %v", before, err)
	}
	if n := others(t, target); n > 0 {
		t.Errorf("%d processes are left", n)
	}
}
