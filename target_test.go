// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/engine"
	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/sys"
	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/ns"
)

func TestOpen(t *testing.T) {
	testutil.NoLeaks(t)
	both(t, func(t *testing.T) {
		c := testutil.Throwaway(t, throwaway.Spec{Depth: 2})
		inner := c.Leaf()
		for _, name := range []string{fmt.Sprint(inner.Pid()), fmt.Sprintf("pid:%d", inner.Pid()), fmt.Sprintf("/proc/%d/ns/pid", inner.Pid())} {
			target, err := Open(context.Background(), name)
			if err != nil {
				t.Fatal(err)
			}
			pids := target.PIDs()
			if target.Name() != name || target.PID() != inner.Pid() || len(pids) != 3 || pids[0] != inner.Pid() || pids[2] != 1 {
				t.Errorf("%s: name %s, number %d, numbers %v", name, target.Name(), target.PID(), pids)
			}
			if err := target.Alive(); err != nil {
				t.Error(err)
			}
			if set, err := ns.Of(procDir(t, inner.Pid()).File()); err != nil || target.Namespaces() != set {
				t.Errorf("%v, want %v, %v", target.Namespaces(), set, err)
			}
			if err := target.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

// Started with the number is the identity of a container's init.
func TestStarted(t *testing.T) {
	c := testutil.Throwaway(t, throwaway.Spec{})
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	want, err := procfs.ParseStart(stat)
	if got := hold(t, c).Started(); err != nil || got != want || want == 0 {
		t.Errorf("%d, want %d, %v", got, want, err)
	}
}

func TestOpenErrors(t *testing.T) {
	testutil.NoLeaks(t)
	tests := []struct {
		name string
		want error
	}{
		{"", ErrInvalid}, {"-x", ErrInvalid}, {"a\nb", ErrInvalid}, {"nobodys:web", ErrInvalid}, {"pid:0", ErrInvalid},
		{"web", ErrNotFound}, {"1073741824", ErrNotFound}, {"pidns:0", ErrNotFound}, {"cgroup:/no/such/group", ErrNotFound},
		{"/no/such/file", ErrNotFound}, {fmt.Sprint(os.Getpid()), ErrOwnNamespace},
	}
	for _, test := range tests {
		target, err := OpenIn(context.Background(), test.name, t.TempDir())
		if !errors.Is(err, test.want) || target != nil {
			t.Errorf("%q: %v, want %v", test.name, err, test.want)
		}
	}
	for _, pid := range []int{0, -1, 1 << 30} {
		if _, err := OpenPID(context.Background(), pid); !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrNotFound) {
			t.Errorf("%d: %v", pid, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Open(ctx, "pidns:1"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want context.Canceled", err)
	}
}

// The machine's first process and its kernel threads are refused, and nothing
// else is done to them.
func TestOpenOfTheMachines(t *testing.T) {
	testutil.NoLeaks(t)
	if _, err := Open(context.Background(), "1"); !errors.Is(err, fs.ErrPermission) && !errors.Is(err, ErrOwnNamespace) {
		t.Errorf("number 1: %v, want fs.ErrPermission or ErrOwnNamespace", err)
	}
	status, err := os.ReadFile("/proc/2/status")
	if err != nil || !strings.Contains(string(status), "\nKthread:\t1\n") {
		t.Skip("skipped: number 2 is no kernel thread here")
	}
	if _, err := Open(context.Background(), "2"); !errors.Is(err, ErrNotSupported) || !strings.Contains(err.Error(), "kernel thread") {
		t.Errorf("number 2: %v, want ErrNotSupported", err)
	}
}

// A kernel that does not say so is seen through too: before 6.7.
func TestIsKernelThread(t *testing.T) {
	proc, err := procfs.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	for pid, want := range map[int]bool{2: true, os.Getpid(): false} {
		p, err := proc.Hold(pid)
		if err != nil {
			t.Skipf("skipped: number %d: %v", pid, err)
		}
		if got := (&Target{init: p}).isKernelThread(); got != want && os.Geteuid() == 0 {
			t.Errorf("%d: %v", pid, got)
		}
		p.Close()
	}
}

// What is known by a name of outband's own is found in its run directory.
func TestOpenIn(t *testing.T) {
	testutil.NoLeaks(t)
	c := testutil.Throwaway(t, throwaway.Spec{})
	dir := filepath.Join(t.TempDir(), "run")
	forget, err := engine.Announce(dir, "web", c.Pid())
	if err != nil {
		t.Fatal(err)
	}
	defer forget()
	target, err := OpenIn(context.Background(), "web", dir)
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	if target.PID() != c.Pid() || target.Name() != "web" {
		t.Errorf("%s is %d, want %d", target.Name(), target.PID(), c.Pid())
	}
}

func TestOpenPidfd(t *testing.T) {
	testutil.NoLeaks(t)
	c := testutil.Throwaway(t, throwaway.Spec{})
	if got := hold(t, c); got.PID() != c.Pid() {
		t.Errorf("%d, want %d", got.PID(), c.Pid())
	}
	// The descriptor stays the caller's.
	if err := sys.Signal(c.Pidfd(), 0, false); err != nil {
		t.Errorf("the pidfd: %v", err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	dead := exec.Command("true")
	if err := dead.Start(); err != nil {
		t.Fatal(err)
	}
	gone, err := sys.OpenPid(dead.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer gone.Close()
	_ = dead.Wait()
	self, err := sys.Self()
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	tests := []struct {
		name string
		fd   int
		want error
	}{
		{"none", -1, ErrInvalid}, {"closed", 1 << 20, ErrInvalid}, {"another file", int(null.Fd()), ErrInvalid},
		{"reaped", int(gone.Fd()), ErrGone}, {"oneself", int(self.Fd()), ErrOwnNamespace},
	}
	for _, test := range tests {
		if _, err := OpenPidfd(context.Background(), test.fd); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
	}
}

// A pidfd from outside of the caller's pid namespace refers to no process that
// could be entered: it comes into the container as its standard input.
func TestOpenPidfdOfOutside(t *testing.T) {
	testutil.NoLeaks(t)
	pidfd, err := sys.Self()
	if err != nil {
		t.Fatal(err)
	}
	defer pidfd.Close()
	out := inside(t, throwaway.Spec{Stdin: pidfd}, "__own", "pidfd")
	if !strings.Contains(out, ErrNotDescendant.Error()) {
		t.Errorf("it says %q", out)
	}
}

// ownJob tells what opening something in a container says.
func ownJob(args []string) int {
	var err error
	switch args[0] {
	case "pidfd":
		_, err = OpenPidfd(context.Background(), 0)
	default:
		_, err = Open(context.Background(), args[0])
	}
	fmt.Println(err, "hint:", Hint(err))
	return 0
}

// The /proc of another pid namespace is refused with the way out.
func TestForeignProc(t *testing.T) {
	testutil.NoLeaks(t)
	out := inside(t, throwaway.Spec{Tree: throwaway.TreeHost}, "__own", "1")
	if !strings.Contains(out, procfs.ErrForeign.Error()) || !strings.Contains(out, "mount -t proc") {
		t.Errorf("it says %q", out)
	}
}

// Another user's container is not to be had, and that is told with a hint.
func TestOpenWithoutPermission(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	c := testutil.Throwaway(t, throwaway.Spec{})
	cmd := exec.Command("/proc/self/exe", "__own", fmt.Sprint(c.Pid()))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: rootlessID, Gid: rootlessID}, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "permission denied") || !strings.Contains(string(out), "or as root") {
		t.Errorf("%v: %s", err, out)
	}
}

// A target that has ended is gone, whether it has been reaped or not.
func TestGone(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	cmd, err := container()
	if err != nil {
		t.Fatal(err)
	}
	target, err := OpenPID(context.Background(), cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	proc, err := procfs.Open()
	if err != nil {
		t.Fatal(err)
	}
	held, err := proc.Hold(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	_ = target.Signal(unix.SIGKILL)
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	gone := func(state string) {
		t.Helper()
		if err := target.Alive(); !errors.Is(err, ErrGone) {
			t.Errorf("%s: alive is %v, want ErrGone", state, err)
		}
		if err := target.Command("true").Run(); !errors.Is(err, ErrGone) {
			t.Errorf("%s: %v, want ErrGone", state, err)
		}
		if _, err := OpenPID(context.Background(), cmd.Process.Pid); !errors.Is(err, ErrGone) && !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v, want ErrGone or ErrNotFound", state, err)
		}
	}
	gone("zombie")
	if _, err := open("held", proc, held); !errors.Is(err, ErrGone) {
		t.Errorf("held while it died: %v, want ErrGone", err)
	}
	_ = cmd.Wait()
	gone("reaped")
}

// An init may have any environment: what is of use is read of it, no more.
func TestLargeEnvironment(t *testing.T) {
	testutil.NoLeaks(t)
	var own unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_STACK, &own); err != nil {
		t.Fatal(err)
	}
	if own.Max < 32<<20 {
		t.Skip("skipped: needs a stack limit of 32 MiB")
	}
	env := []string{"FIRST=1"}
	for i := range 40 { // 5 MiB: a string has 128 KiB at most, all of them 6 MiB
		env = append(env, fmt.Sprintf("V%d=%s", i, strings.Repeat("x", 130000)))
	}
	if err := unix.Setrlimit(unix.RLIMIT_STACK, &unix.Rlimit{Cur: 32 << 20, Max: own.Max}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Setrlimit(unix.RLIMIT_STACK, &own) }()
	cmd := exec.Command("/bin/sh", "-c", "echo; read x")
	cmd.Env = env
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWUTS, Pdeathsig: syscall.SIGKILL,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}}
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
	defer func() { in.Close(); _ = cmd.Wait() }()
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	target, err := OpenPID(context.Background(), cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	plan, err := target.Command("true").Plan()
	if err != nil || !slices.Contains(plan.Env, "FIRST=1") || len(plan.Env) != 3 || len(plan.Notes) == 0 { // V0 and PATH besides
		t.Errorf("%d entries, notes %q, %v", len(plan.Env), plan.Notes, err)
	}
}

// A target may be used by many at once.
func TestTargetIsShared(t *testing.T) {
	testutil.NoLeaks(t)
	target := enter(t, throwaway.Spec{})
	var group sync.WaitGroup
	for i := range 16 {
		group.Go(func() {
			out, err := target.Command("echo", fmt.Sprint(i)).Output()
			if err != nil || string(out) != fmt.Sprintln(i) {
				t.Errorf("%d: %q, %v", i, out, err)
			}
		})
	}
	group.Wait()
}
