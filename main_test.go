// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/cgroup"
	"github.com/outband/outband/internal/confine"
	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/sys"
	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
)

// jobs are what the test binary does instead of tests when its first argument
// is one of them; each returns an exit code.
func jobs() map[string]func(args []string) int {
	return map[string]func([]string) int{
		"__enter": enterJob, "__child": childJob, "__filters": filtersJob, "__fuse": fuseJob, "__listen": listenJob, "__own": ownJob, "__reuse": reuseJob,
	}
}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if job := jobs()[os.Args[1]]; job != nil {
			os.Exit(job(os.Args[2:]))
		}
	}
	testutil.Main(m)
}

// patience bounds everything that a test waits for; no test gets near it unless
// it fails.
const patience = 20 * time.Second

func untilPatience() time.Time { return time.Now().Add(patience) }

// await waits until done.
func await(t testing.TB, what string, done func() bool) {
	t.Helper()
	for until := time.Now().Add(patience); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("waited %v for %s", patience, what)
		}
	}
}

// within fails the test where f takes longer than patience.
func within(t testing.TB, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("waited %v for %s", patience, what)
	}
}

// hold takes hold of a container.
func hold(t testing.TB, c *throwaway.Container) *Target {
	t.Helper()
	var target *Target
	var err error
	if cerr := sys.Control(c.Pidfd(), func(fd int) { target, err = OpenPidfd(context.Background(), fd) }); cerr != nil {
		t.Fatal(cerr)
	}
	if err != nil {
		t.Fatal(err, Hint(err))
	}
	t.Cleanup(func() {
		if err := target.Close(); err != nil {
			t.Error(err)
		}
	})
	return target
}

// enter starts a container and takes hold of it.
func enter(t testing.TB, spec throwaway.Spec) *Target {
	t.Helper()
	return hold(t, testutil.Throwaway(t, spec))
}

// hostFiles is a container that sees the host's files, for its shell.
func hostFiles() throwaway.Spec { return throwaway.Spec{Tree: throwaway.TreeShared} }

// start starts a command, which has ended when the test has.
func start(t testing.TB, c *Cmd) {
	t.Helper()
	if err := c.Start(); err != nil {
		t.Fatal(err, Hint(err))
	}
	t.Cleanup(func() {
		_ = c.Process.Signal(unix.SIGKILL)
		_ = c.Wait() // killed, or waited for already
	})
}

// sleeper starts a command that does nothing and returns its number here.
func sleeper(t testing.TB, target *Target, change func(*Cmd)) (*Cmd, int) {
	t.Helper()
	c := target.Command("sleep", "1000")
	if change != nil {
		change(c)
	}
	start(t, c)
	return c, c.Process.PIDs()[0]
}

// sweepLeft removes the groups of what commands leave running (Leave), once
// that has ended with its container: as the next one who enters does.
func sweepLeft(t testing.TB) {
	t.Helper()
	t.Cleanup(func() {
		groups, err := procDir(t, os.Getpid()).Groups()
		if err != nil {
			t.Error(err)
		}
		tree, err := cgroup.OpenTree()
		if err != nil {
			return
		}
		defer tree.Close()
		tree.Sweep(cgroup.Unified(groups))
	})
}

// procDir opens the /proc directory of a process.
func procDir(t testing.TB, pid int) *procfs.Dir {
	t.Helper()
	proc, err := procfs.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	dir, err := proc.Process(pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return dir
}

// stateOf is how a process is confined, as seen from here.
func stateOf(t testing.TB, pid int) confine.State {
	t.Helper()
	dir := procDir(t, pid)
	status, err := dir.Status()
	if err != nil {
		t.Fatal(err)
	}
	stat, err := dir.ReadFile("stat")
	if err != nil {
		t.Fatal(err)
	}
	state, err := confine.Read(dir, status, stat)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// rootlessID is the user and group that tests without privilege run as.
const rootlessID = 61234

// both runs a test as root, if the test is, and without any privilege: then in
// a process of its own, which runs this test alone.
func both(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Run("rootless", f)
		return
	}
	t.Run("root", f)
	t.Run("rootless", func(t *testing.T) {
		pattern := "^" + strings.ReplaceAll(strings.TrimSuffix(t.Name(), "/rootless"), "/", "$/^") + "$/^rootless$"
		cmd := exec.Command("/proc/self/exe", "-test.run", pattern, "-test.v", "-test.timeout", "60s")
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Credential: &syscall.Credential{Uid: rootlessID, Gid: rootlessID}, Pdeathsig: syscall.SIGKILL,
		}
		cmd.Env = append(os.Environ(), "HOME=/tmp")
		out, err := cmd.CombinedOutput()
		switch {
		case err != nil || !bytes.Contains(out, []byte("--- PASS")) && !bytes.Contains(out, []byte("--- SKIP")):
			t.Errorf("%v\n%s", err, out)
		case bytes.Contains(out, []byte("    --- SKIP")):
			t.Skipf("skipped: %s", out)
		}
	})
}

// run is the output of a command that must succeed.
func run(t testing.TB, c *Cmd) string {
	t.Helper()
	var errs bytes.Buffer
	if c.Stderr == nil {
		c.Stderr = &errs
	}
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%q: %v %s\n%s%s", c.Args, err, Hint(err), out, errs.String())
	}
	return string(out)
}

// sh is a command of the shell.
func sh(target *Target, script string, args ...string) *Cmd {
	return target.Command("/bin/sh", append([]string{"-c", script}, args...)...)
}

// self is the path of the test binary, where the host's files are seen.
func self(t testing.TB) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// enterJob enters the process whose number it is given and runs a command
// there: a small outband enter, for use inside of containers.
func enterJob(args []string) int {
	target, err := Open(context.Background(), args[0])
	if err != nil {
		fmt.Println(err)
		return 125
	}
	defer target.Close()
	c := target.Command(args[1], args[2:]...)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := c.Run(); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}
