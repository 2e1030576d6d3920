// SPDX-License-Identifier: Apache-2.0

package forkexec

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/sys"
	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
)

// deadline bounds every wait of a test: what takes longer hangs.
const deadline = 20 * time.Second

// roleVariable makes the test binary be something else than a test.
const roleVariable = "OUTBAND_TEST_ROLE"

// roles are what the test binary can be started as.
var roles = map[string]func() error{
	"init":   roleInit,
	"tool":   roleTool,
	"noexec": roleNoExec,
	"images": roleImages,
	"fuse":   roleFuse,
	"bound":  roleBound,
}

func TestMain(m *testing.M) {
	throwaway.Main(os.Args)
	if role := os.Getenv(roleVariable); role != "" {
		if err := roles[role](); err != nil {
			fmt.Fprintln(os.Stderr, role+":", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if err := testutil.DropBoot(); err != nil {
		fmt.Fprintln(os.Stderr, "drop CAP_SYS_BOOT:", err)
		os.Exit(1)
	}
	// What a session leaves behind becomes a child of the test, where
	// census.check finds it.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, "prctl:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// need skips the test where something is missing, but fails it where the
// environment requires that nothing is.
func need(t testing.TB, ok bool, what string) {
	t.Helper()
	switch {
	case ok:
	case os.Getenv("OUTBAND_REQUIRE") == "all":
		t.Fatal("needs " + what)
	default:
		t.Skip("needs " + what)
	}
}

// soak tells whether there is time for more of the same.
func soak() bool { return os.Getenv("OUTBAND_SOAK") != "" }

// roleCommand is the test binary in a role. It dies with the test.
func roleCommand(t testing.TB, role string, env ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self)
	c.Env = append([]string{roleVariable + "=" + role, "PATH=" + os.Getenv("PATH")}, env...)
	c.Stderr = os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	return c
}

// startTied starts c from a thread that lives as long as c, since the thread's
// end is what Pdeathsig means. The function returned kills and waits.
func startTied(t testing.TB, c *exec.Cmd) (end func()) {
	t.Helper()
	started, ended := make(chan error), make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread()
		err := c.Start()
		started <- err
		if err == nil {
			_ = c.Wait()
		}
		runtime.UnlockOSThread()
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	return func() {
		_ = c.Process.Kill()
		if !within(func() bool {
			select {
			case <-ended:
				return true
			default:
				reapOrphans(c.Process.Pid)
				return false
			}
		}) {
			t.Errorf("%v cannot be ended", c)
		}
	}
}

// reapOrphans buries what a test that has failed has become the parent of. It
// would hold the target's init, which is to end.
func reapOrphans(init int) {
	for _, pid := range children(os.Getpid()) {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if pid != init && stateOf(stat) == "Z" {
			_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
		}
	}
}

// runTied runs c to its end, within the deadline.
func runTied(c *exec.Cmd) error {
	runtime.LockOSThread() // see startTied
	defer runtime.UnlockOSThread()
	if err := c.Start(); err != nil {
		return err
	}
	hung := time.AfterFunc(deadline, func() { _ = c.Process.Kill() })
	defer hung.Stop()
	return c.Wait()
}

// A target is a container made of nothing but the test binary, and what a Spec
// for it needs.
type target struct {
	t      testing.TB
	pid    int
	pidfd  *os.File
	groups *os.File // the root of the cgroup2 hierarchy, mounted nowhere
	null   *os.File
}

// in is x for a subtest.
func (x *target) in(t testing.TB) *target { y := *x; y.t = t; return &y }

// joined are the namespaces that a target has of its own.
const joined = unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET

func newTarget(t testing.TB) *target {
	t.Helper()
	need(t, os.Geteuid() == 0, "root")
	c := roleCommand(t, "init")
	c.SysProcAttr.Cloneflags = joined
	host, err := os.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	c.ExtraFiles = []*os.File{host} // a directory without a path inside
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	end := startTied(t, c)
	t.Cleanup(func() { in.Close(); end() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("the target's init says %q, %v", line, err)
	}
	x := &target{t: t, pid: c.Process.Pid, groups: cgroupRoot(t)}
	if x.pidfd, err = sys.OpenPid(x.pid); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.pidfd.Close() })
	if x.null, err = os.OpenFile(os.DevNull, os.O_RDWR, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.null.Close() })
	x.warm()
	return x
}

// roleInit is the first process of a target: it reaps, and leaves with the test.
func roleInit() error {
	signal.Ignore(unix.SIGCHLD) // the kernel reaps
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return err
	}
	for _, program := range filters() {
		if err := sys.SetFilter(program, unix.SECCOMP_FILTER_FLAG_TSYNC|unix.SECCOMP_FILTER_FLAG_LOG); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// cgroupRoot is the root of the cgroup2 hierarchy, also where it is not mounted.
func cgroupRoot(t testing.TB) *os.File {
	t.Helper()
	fs, err := unix.Fsopen("cgroup2", unix.FSOPEN_CLOEXEC)
	need(t, err == nil, "cgroup2")
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "cgroup2")
	t.Cleanup(func() { f.Close() })
	return f
}

// warm runs one session, so that what the runtime opens once is open.
func (x *target) warm() {
	x.t.Helper()
	spec, release := x.spec(true, "exit 0")
	defer release()
	if status, err := x.run(spec, sys.ReapsByPidfd()); err != nil || status.Code != 0 {
		x.t.Fatalf("a session that does nothing: %+v, %v", status, err)
	}
}

// spec is a session that runs a line of sh; tracked by a cgroup or by a shepherd.
// release ends and removes the cgroup, whatever is in it.
func (x *target) spec(grouped bool, line string) (spec *Spec, release func()) {
	x.t.Helper()
	spec = &Spec{
		Paths: []string{"/bin/sh"}, Args: []string{"sh", "-c", line}, Env: []string{"PATH=/usr/bin:/bin"},
		Stdin: x.null, Stdout: x.null, Stderr: x.null,
		Target: x.pidfd, Join: joined, Umask: 0o22,
	}
	if !grouped {
		return spec, func() {}
	}
	spec.Groups = newGroup(x.t, x.groups)
	return spec, func() { releaseGroup(x.t, spec.Groups) }
}

// groups counts cgroups, none of which may have the name of another: a warden
// that is late would remove that one.
var groups atomic.Int64

// newGroup makes a session's cgroup. It is not named as the module's own are,
// lest somebody sweeps it.
func newGroup(t testing.TB, parent *os.File) *GroupTree {
	t.Helper()
	name := fmt.Sprintf("forkexec-test-%d-%d", os.Getpid(), groups.Add(1))
	if err := unix.Mkdirat(int(parent.Fd()), name, 0o755); err != nil {
		t.Fatal("mkdir cgroup: ", err)
	}
	fd, err := unix.Openat(int(parent.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return &GroupTree{Parent: parent, Dir: os.NewFile(uintptr(fd), name), Name: name}
}

// exists tells whether the cgroup's directory is still there.
func (g *GroupTree) exists() bool {
	return unix.Faccessat(int(g.Parent.Fd()), g.Name, unix.F_OK, 0) == nil
}

// releaseGroup does what a caller does whose warden was killed.
func releaseGroup(t testing.TB, g *GroupTree) {
	t.Helper()
	defer g.Dir.Close()
	if !g.exists() {
		return
	}
	if err := os.WriteFile(fmt.Sprintf("/proc/self/fd/%d/cgroup.kill", g.Dir.Fd()), []byte("1"), 0); err != nil {
		t.Error(err)
	}
	eventually(t, "cgroup "+g.Name+" cannot be removed", func() bool {
		err := unix.Unlinkat(int(g.Parent.Fd()), g.Name, unix.AT_REMOVEDIR)
		return err == nil || errors.Is(err, unix.ENOENT)
	})
}

// run starts a session and waits for its end.
func (x *target) run(spec *Spec, modern bool) (Status, error) {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	return x.runIn(ctx, spec, modern)
}

func (x *target) runIn(ctx context.Context, spec *Spec, modern bool) (Status, error) {
	x.t.Helper()
	s, err := start(ctx, *spec, modern)
	if err != nil {
		return Status{}, err
	}
	defer hangUp(s)
	return wait(x.t, s)
}

// hangUp lets go of the session's terminal.
func hangUp(s *Session) {
	if master, _ := s.Terminal(); master != nil {
		master.Close()
	}
}

// wait is s.Wait with the deadline.
func wait(t testing.TB, s *Session) (Status, error) {
	t.Helper()
	hung := time.AfterFunc(deadline, func() {
		t.Error("the session does not end")
		_ = s.warden.Kill()
	})
	defer hung.Stop()
	return s.Wait()
}

// eventually waits until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	if !within(ok) {
		t.Fatal(what)
	}
}

// within tells whether f becomes true before the deadline.
func within(f func() bool) bool {
	for end := time.Now().Add(deadline); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// empty waits until init is alone in the target. Killed processes take a
// moment to be buried.
func (x *target) empty(after string) {
	x.t.Helper()
	if !within(func() bool { return len(x.visitors()) == 0 }) {
		var b strings.Builder
		for _, n := range x.visitors() {
			status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/root/proc/%s/status", x.pid, n))
			fmt.Fprintf(&b, "%.110s\n", status)
		}
		x.t.Fatalf("%s: something is left inside:\n%s", after, &b)
	}
}

// visitors are the processes of the target besides its init, by their numbers
// inside.
func (x *target) visitors() []string {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/root/proc", x.pid))
	if err != nil {
		x.t.Fatal(err)
	}
	var found []string
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err == nil && e.Name() != "1" {
			found = append(found, e.Name())
		}
	}
	return found
}

// children are the children of process pid, zombies included.
func children(pid int) []int {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	var found []int
	for _, path := range lists {
		text, _ := os.ReadFile(path) // the thread may be gone
		for _, field := range strings.Fields(string(text)) {
			n, _ := strconv.Atoi(field)
			found = append(found, n)
		}
	}
	slices.Sort(found)
	return found
}

// A census is what a session must leave as it was.
type census struct {
	children []int
	files    []string
}

func takeCensus() census { return census{children(os.Getpid()), openFiles()} }

// openFiles are the descriptors of the test with what they refer to.
func openFiles() []string {
	var found []string
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		if link, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			found = append(found, e.Name()+" "+link)
		}
	}
	return found
}

// check finds no process, zombie or descriptor that was not there before.
func (c census) check(t testing.TB) {
	t.Helper()
	if now := children(os.Getpid()); !slices.Equal(now, c.children) {
		t.Errorf("children %v, were %v: %s", now, c.children, describe(now))
	}
	if now := openFiles(); !slices.Equal(now, c.files) {
		t.Errorf("open files %q, were %q", now, c.files)
	}
}

// adopt reaps the children that the test has become the parent of because their
// warden was killed: they have to end without help.
func (c census) adopt(t testing.TB) {
	t.Helper()
	eventually(t, "an orphan of the session lives", func() bool {
		for _, pid := range children(os.Getpid()) {
			if !slices.Contains(c.children, pid) {
				// Ours and not reaped yet: the number is still its own.
				_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
			}
		}
		return !slices.ContainsFunc(children(os.Getpid()), func(pid int) bool { return !slices.Contains(c.children, pid) })
	})
}

// stateOf is the state in /proc/PID/stat, see proc_pid_stat(5).
func stateOf(stat []byte) string {
	_, rest, _ := bytes.Cut(stat[bytes.LastIndexByte(stat, ')')+1:], []byte(" "))
	state, _, _ := bytes.Cut(rest, []byte(" "))
	return string(state)
}

// describe says what processes are.
func describe(pids []int) string {
	var b bytes.Buffer
	for _, pid := range pids {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		fmt.Fprintf(&b, "%.40s\n", stat)
	}
	return b.String()
}

// clearVisitors kills what a session was allowed to leave inside.
func (x *target) clearVisitors() {
	x.t.Helper()
	within(func() bool {
		for _, pid := range children(x.pid) {
			pidfd, err := sys.OpenPid(pid)
			if err != nil {
				continue
			}
			if slices.Contains(children(x.pid), pid) { // still the one that was meant
				_ = sys.Signal(pidfd, unix.SIGKILL, false)
			}
			pidfd.Close()
		}
		return len(x.visitors()) == 0
	})
	x.empty("killed")
}
