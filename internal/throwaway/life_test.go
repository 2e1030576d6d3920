// SPDX-License-Identifier: Apache-2.0

package throwaway_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
)

// role is the environment variable by which a test knows that it is the child
// of itself.
const role = "OUTBAND_TEST_ROLE"

// again is this test binary with one test, in another role.
func again(t *testing.T, test, as string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 6*deadline)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "-test.run="+test)
	cmd.Env = append(os.Environ(), role+"="+as)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// TestRootless runs the tests of this package once more as another user, whose
// containers all have a user namespace.
func TestRootless(t *testing.T) {
	needRoot(t)
	testutil.NoLeaks(t)
	cmd := again(t, "^Test(Default|Shapes|Time|Namespaces|Depth|IDs|Inside|Devices|Demo|Init|CloseInner|ParentKilled|Refused)$", "rootless")
	cmd.Args = append(cmd.Args, "-test.v")
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
	out, err := cmd.CombinedOutput()
	if ran := strings.Count(string(out), "\n--- PASS"); err != nil || ran < 10 {
		t.Errorf("%v, %d tests passed:\n%s", err, ran, out)
	}
}

// TestDemo looks at the demo's tree from outside.
func TestDemo(t *testing.T) {
	begin(t)
	c := testutil.Throwaway(t, throwaway.Demo())
	if got := childrenOf(t, c.Pid()); !slices.Equal(got, []string{"init", "sleep", "sleep"}) {
		t.Errorf("the outer init has %v", got)
	}
	job := c.Leaf()
	if got := childrenOf(t, job.Pid()); !slices.Equal(got, []string{"sleep"}) || job.Name != "job" {
		t.Errorf("the inner init of %s has %v", job.Name, got)
	}
	if own := levels(t, os.Getpid()); levels(t, c.Pid()) != own+1 || levels(t, job.Pid()) != own+2 {
		t.Errorf("levels: %s, %s", status(t, c.Pid(), "NSpid"), status(t, job.Pid(), "NSpid"))
	}
	has("root/etc/hostname", "job\n")(t, job.Pid())
	has("root/etc/hostname", "web\n")(t, c.Pid())
}

// TestInit sends its init what it has to ignore, then what ends it.
func TestInit(t *testing.T) {
	begin(t)
	c := testutil.Throwaway(t, throwaway.Spec{Workers: [][]string{{"spawn", "0"}, {"true"}}})
	eventually(t, "its children and their orphans are reaped", func() bool { return len(childrenOf(t, c.Pid())) == 0 })
	for _, sig := range []unix.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGUSR1, unix.SIGPWR, unix.SIGTERM} {
		if err := c.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	if state, err := c.Wait(ctx); err != nil || !state.Success() {
		t.Errorf("ended by %v, %v", state, err)
	}
}

// TestReady sends a signal at once: an init that is started handles it.
func TestReady(t *testing.T) {
	begin(t)
	for range 5 {
		c := testutil.Throwaway(t, throwaway.Spec{})
		if err := c.Signal(unix.SIGTERM); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()
		if state, err := c.Wait(ctx); err != nil || !state.Success() {
			t.Fatalf("ended by %v, %v", state, err)
		}
	}
}

// TestCloseInner ends a container inside; the outer one goes on.
func TestCloseInner(t *testing.T) {
	begin(t)
	c := testutil.Throwaway(t, throwaway.Spec{Depth: 3})
	inner, leaf := c.Inner[0], c.Leaf()
	if _, err := leaf.Wait(context.Background()); err == nil {
		t.Error("an inner container was waited for")
	}
	for range 2 {
		if err := inner.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, pid := range []int{inner.Pid(), leaf.Pid()} {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err == nil {
			t.Errorf("process %d is still there", pid)
		}
	}
	if err := c.Signal(0); err != nil {
		t.Errorf("the outer one: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := c.Signal(0); err == nil {
		t.Error("a closed container takes signals")
	}
}

// TestParentKilled kills a creator by SIGKILL: nothing may be left.
func TestParentKilled(t *testing.T) {
	for name, spec := range map[string]throwaway.Spec{
		"root":    {Name: "web", Workers: [][]string{{"sleep", "600"}}},
		"nested":  {Name: "web", Depth: 3, User: true, Workers: [][]string{{"sleep", "600"}}},
		"id":      {Name: "web", User: true, UIDMap: only(9), GIDMap: onlyGroup(9), Args: []string{"sleep", "600"}},
		"host id": {Name: "web", UID: 9, GID: 9, Args: []string{"sleep", "600"}},
	} {
		if as := os.Getenv(role); as == name {
			c := testutil.Throwaway(t, spec)
			fmt.Println("started", c.Pid(), c.Leaf().Pid())
			time.Sleep(deadline)
		} else if as != "" && as != "rootless" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			if name == "host id" {
				needRoot(t)
			}
			begin(t)
			parentKilled(t, name)
		})
	}
}

func parentKilled(t *testing.T, name string) {
	cmd := again(t, "^TestParentKilled$", name)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var outer, leaf int
	lines := bufio.NewScanner(out)
	for outer == 0 && lines.Scan() {
		_, _ = fmt.Sscanf(lines.Text(), "started %d %d", &outer, &leaf)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait()
	if outer == 0 {
		t.Fatal("nothing was started")
	}
	// The test has adopted the outer init, and reaps it.
	eventually(t, "its container ends with it", func() bool {
		pid, err := unix.Wait4(outer, nil, unix.WNOHANG, nil)
		return pid == outer || errors.Is(err, unix.ECHILD)
	})
	for _, pid := range []int{outer, leaf} {
		if _, err := os.Stat("/proc/" + strconv.Itoa(pid)); err == nil {
			t.Errorf("process %d is left", pid)
		}
	}
}

// TestParentKilledEarly kills a creator while it is at work.
func TestParentKilledEarly(t *testing.T) {
	if os.Getenv(role) == "early" {
		fmt.Println("begun")
		for {
			c, err := throwaway.Start(context.Background(), throwaway.Spec{User: true, UIDMap: only(9), GIDMap: onlyGroup(9)})
			if err != nil {
				t.Fatal(err)
			}
			_ = c.Close()
		}
	}
	begin(t)
	for n := range 6 {
		cmd := again(t, "^TestParentKilledEarly$", "early")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for lines.Scan() && lines.Text() != "begun" {
		}
		time.Sleep(time.Duration(3*n) * time.Millisecond) // into one step or another
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait()
		eventually(t, "what it has left ends", func() bool {
			pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil) // the test has no other child
			return pid <= 0 && errors.Is(err, unix.ECHILD)
		})
	}
}

// TestThreadEnds ends the thread that called Start, as a goroutine does that
// has locked it: the container may not take that for the creator's death.
func TestThreadEnds(t *testing.T) {
	begin(t)
	var c *throwaway.Container
	var err error
	tid := make(chan int)
	release := make(chan struct{})
	defer close(release)
	var start func()
	start = func() {
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			go start()
			<-release // the main thread would not end: keep it busy
			return
		}
		c, err = throwaway.Start(context.Background(), throwaway.Spec{})
		tid <- unix.Gettid()
	}
	go start()
	ended := fmt.Sprintf("/proc/self/task/%d", <-tid)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	eventually(t, "the thread ends", func() bool {
		_, err := os.Stat(ended)
		return err != nil
	})
	if err := c.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	if state, err := c.Wait(ctx); err != nil || !state.Success() {
		t.Errorf("ended by %v, %v", state, err)
	}
}

// TestTwoAtOnce starts several from as many goroutines.
func TestTwoAtOnce(t *testing.T) {
	begin(t)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			c, err := throwaway.Start(context.Background(), throwaway.Spec{})
			if err != nil {
				t.Error(err)
				return
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

// TestStreams gives a container the test's own standard input and output.
func TestStreams(t *testing.T) {
	begin(t)
	name := filepath.Join(t.TempDir(), "in")
	if err := os.WriteFile(name, []byte("typed"), 0o600); err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	got, state := output(t, throwaway.Spec{Args: []string{"cat"}, Stdin: in})
	if got != "typed" || !state.Success() {
		t.Errorf("got %q, %v", got, state)
	}
}
