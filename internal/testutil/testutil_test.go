// SPDX-License-Identifier: Apache-2.0

package testutil

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/throwaway"
)

func TestMain(m *testing.M) { Main(m) }

// deadline bounds each wait of these tests.
const deadline = 15 * time.Second

// command is a child of the test that dies with it and in time.
func command(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

func TestRequire(t *testing.T) {
	command := func(name string) func(testing.TB) {
		return func(t testing.TB) { RequireCommand(t, name, "some-package") }
	}
	kernel := func(major int) func(testing.TB) {
		return func(t testing.TB) { RequireKernel(t, major, 0, "time travel") }
	}
	for _, test := range []struct {
		name, require   string
		f               func(testing.TB)
		skipped, failed bool
		said            string
	}{
		{"there", "", command("sh"), false, false, ""},
		{"missing", "", command("no-such-command"), true, false, "some-package"},
		{"missing in CI", "all", command("no-such-command"), false, true, "some-package"},
		{"another value", "some", command("no-such-command"), true, false, "some-package"},
		{"kernel", "all", kernel(3), false, false, ""},
		{"old kernel", "", kernel(1000), true, false, "time travel needs Linux 1000.0"},
		{"old kernel in CI", "all", kernel(1000), true, false, "time travel"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("OUTBAND_REQUIRE", test.require)
			got := observe(t, test.f)
			if got.skipped != test.skipped || got.failed != test.failed || !strings.Contains(got.said, test.said) {
				t.Errorf("skipped %v, failed %v, said %q", got.skipped, got.failed, got.said)
			}
		})
	}
}

// TestRequireRefused runs as another user in a chroot, where there are neither
// root's rights nor user namespaces (EPERM, user_namespaces(7)).
func TestRequireRefused(t *testing.T) {
	if !inside() {
		RequireRoot(t)
		runInside(t, throwaway.Spec{User: true, UID: 65534, GID: 65534, Chroot: true})
		return
	}
	for name, f := range map[string]func(testing.TB){
		"root": RequireRoot, "user namespaces": RequireUserNS,
		"throwaway": func(t testing.TB) { Throwaway(t, throwaway.Spec{}) },
		"fence":     func(t testing.TB) { FencedCgroup(t, 1, 1<<20) },
		"runc":      func(t testing.TB) { RunC(t) },
		"busybox":   func(t testing.TB) { BusyboxRoot(t) },
	} {
		if got := observe(t, f); !got.skipped {
			t.Errorf("%s: not skipped: %q", name, got.said)
		}
	}
}

// inside tells whether this is the test process in the container.
func inside() bool { return os.Getenv("OUTBAND_TEST_INSIDE") != "" }

// runInside runs the calling test once more, as the init of a container.
func runInside(t *testing.T, spec throwaway.Spec) {
	t.Helper()
	NoLeaks(t)
	out, err := os.Create(filepath.Join(t.TempDir(), "output"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.Close() })
	spec.Stdout, spec.Stderr = out, out
	spec.Args = []string{"/bin/outband", "-test.run=^" + t.Name() + "$"}
	spec.Env = []string{"OUTBAND_TEST_INSIDE=1", "PATH=/bin"}
	c := Throwaway(t, spec)
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	state, err := c.Wait(ctx)
	said, _ := os.ReadFile(out.Name())
	if err != nil || !state.Success() || !strings.HasPrefix(string(said), "PASS\n") {
		t.Errorf("inside: %v, %v:\n%s", state, err, said)
	}
}

func TestMainDropsReboot(t *testing.T) {
	for _, set := range []string{"CapEff", "CapPrm", "CapInh", "CapAmb"} {
		mask, err := strconv.ParseUint(statusField(set), 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		if mask&(1<<unix.CAP_SYS_BOOT) != 0 {
			t.Errorf("%s has CAP_SYS_BOOT: %x", set, mask)
		}
	}
	if !effective(unix.CAP_SYS_ADMIN) {
		return // nothing is dropped, nor is there anything to drop
	}
	if on, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, unix.CAP_SYS_BOOT, 0, 0, 0); err != nil || on != 0 {
		t.Errorf("CAP_SYS_BOOT in the bounding set: %d, %v", on, err)
	}
}

// TestMainSeesChanges runs a test that leaves a cgroup: it passes, but its run
// has to fail and to name what is left.
func TestMainSeesChanges(t *testing.T) {
	const variable = "OUTBAND_TEST_LEAVE"
	if dir := os.Getenv(variable); dir != "" {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		return
	}
	RequireRoot(t)
	all := hierarchies()
	if len(all) == 0 {
		missing(t, "needs a cgroup hierarchy")
	}
	dir := filepath.Join(all[0].dir, groupPrefix+"left-"+strconv.Itoa(os.Getpid()))
	t.Cleanup(func() { os.Remove(dir) })
	cmd := command(t, "/proc/self/exe", "-test.run=^TestMainSeesChanges$")
	cmd.Env = append(os.Environ(), variable+"="+dir)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !strings.Contains(string(out), "+ cgroup "+dir) {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestDiff(t *testing.T) {
	before := state{"mount a": true, "cgroup a": true, "ip_forward 0": true, "packet filter a": true}
	now := state{"mount b": true, "cgroup b": true, "ip_forward 1": true}
	want := "+ cgroup b,+ ip_forward 1,+ mount b,- ip_forward 0,- mount a,- packet filter a"
	if got := strings.Join(before.diff(now), ","); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := before.diff(before); got != nil {
		t.Errorf("the same differs: %q", got)
	}
}

func TestNoLeaksFindsNothing(t *testing.T) {
	got := observe(t, func(t testing.TB) {
		noLeaks(t, settleTime)
		if err := exec.Command("/proc/self/exe", "__applet", "true").Run(); err != nil {
			t.Error(err)
		}
	})
	if got.failed {
		t.Error(got.said)
	}
}

// TestNoLeaksFinds leaks one thing of each kind. It does so in a container,
// where mounts are nobody else's.
func TestNoLeaksFinds(t *testing.T) {
	if !inside() {
		RequireRoot(t)
		runInside(t, throwaway.Spec{})
		return
	}
	if err := unix.Mount("cgroup2", "/run", "cgroup2", 0, ""); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join("/run", groupPrefix+"leak-"+strconv.Itoa(int(time.Now().UnixNano())))
	got := observe(t, func(t testing.TB) {
		noLeaks(t, 50*time.Millisecond)
		leak(t, dir)
	})
	err := errors.Join(os.Remove(dir), unix.Unmount("/run", 0), unix.Unmount("/tmp", 0))
	if err != nil {
		t.Error(err)
	}
	for _, want := range []string{
		"+ descriptor", ", sleep, state S", ", exit, state Z", "+ mount ", "+ cgroup " + dir, "more threads",
	} {
		if !got.failed || !strings.Contains(got.said, want) {
			t.Errorf("failed %v, %q is not among\n%s", got.failed, want, got.said)
		}
	}
	for _, c := range children() {
		if c.state == "Z" {
			t.Errorf("child %d is left for the next test", c.pid)
		}
	}
}

// leak leaves everything behind that NoLeaks looks for.
func leak(t testing.TB, cgroup string) {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Fd()
	for _, applet := range [][]string{{"sleep", "infinity"}, {"exit", "0"}} {
		cmd := exec.Command("/bin/" + applet[0])
		cmd.Args = applet
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(deadline, func() bool {
		return slices.ContainsFunc(children(), func(c child) bool { return c.state == "Z" })
	})
	if err := errors.Join(unix.Mount("tmpfs", "/tmp", "tmpfs", 0, ""), os.Mkdir(cgroup, 0o755)); err != nil {
		t.Fatal(err)
	}
	for range threadSlack + 4 {
		var fds [2]int
		if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = unix.Read(fds[0], make([]byte, 1)) }() // for ever, in the call
	}
}

// TestNoLeaksFindsOrphan leaves a process whose parent has ended.
func TestNoLeaksFindsOrphan(t *testing.T) {
	NoLeaks(t)
	var pid int
	got := observe(t, func(t testing.TB) {
		noLeaks(t, 50*time.Millisecond)
		out, err := exec.Command("/proc/self/exe", "__applet", "spawn", "60").Output()
		if err != nil {
			t.Fatal(err)
		}
		if pid, err = strconv.Atoi(strings.TrimSpace(string(out))); err != nil {
			t.Fatal(err)
		}
	})
	if want := fmt.Sprintf("+ child %d,", pid); !strings.Contains(got.said, want) {
		t.Fatalf("%q is not in %q", want, got.said)
	}
	orphan, err := os.FindProcess(pid) // by now our own child: nobody else reaps it
	if err != nil {
		t.Fatal(err)
	}
	if err := orphan.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := orphan.Wait(); err != nil {
		t.Fatal(err)
	}
}
