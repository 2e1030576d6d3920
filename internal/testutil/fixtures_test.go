// SPDX-License-Identifier: Apache-2.0

package testutil

import (
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

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/throwaway"
)

func TestThrowaway(t *testing.T) {
	RequireUserNS(t)
	NoLeaks(t)
	var pid int
	got := observe(t, func(t testing.TB) { pid = Throwaway(t, throwaway.Spec{Name: "web"}).Pid() })
	if got.failed || pid == 0 {
		t.Fatalf("pid %d: %s", pid, got.said)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err == nil {
		t.Errorf("process %d has outlived its test", pid)
	}
}

func TestThrowawayFails(t *testing.T) {
	got := observe(t, func(t testing.TB) { Throwaway(t, throwaway.Spec{Depth: -1}) })
	if !got.failed || got.skipped {
		t.Errorf("an impossible container: %q", got.said)
	}
}

func TestBusyboxRoot(t *testing.T) {
	RequireRoot(t)
	RequireCommand(t, "busybox", "busybox-static")
	NoLeaks(t)
	var root string
	got := observe(t, func(tb testing.TB) {
		root = BusyboxRoot(tb)
		cmd := command(t, "/bin/sh", "-c", "id -u; cat /etc/passwd | wc -l")
		cmd.Env = []string{"PATH=/bin"}
		cmd.SysProcAttr.Chroot = root
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
		if out, err := cmd.CombinedOutput(); err != nil || string(out) != "65534\n2\n" {
			t.Errorf("%q, %v", out, err)
		}
	})
	if _, err := os.Stat(root); err == nil || got.failed {
		t.Errorf("%s is left: %s", root, got.said)
	}
}

// TestOCI runs a container under each runtime and looks at what is left.
func TestOCI(t *testing.T) {
	RequireRoot(t)
	for name, run := range map[string]func(testing.TB, ...func(Config)) *OCI{"runc": RunC, "crun": Crun} {
		t.Run(name, func(t *testing.T) {
			RequireCommand(t, name, name)
			NoLeaks(t)
			var c *OCI
			got := observe(t, func(tb testing.TB) {
				c = run(tb, func(config Config) { config.Set("hostname", "web") })
				comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", c.Pid))
				if err != nil || string(comm) != "cat\n" {
					t.Errorf("init is %q, %v", comm, err)
				}
				groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", c.Pid))
				if err != nil || !strings.Contains(string(groups), "/"+c.ID+"\n") {
					t.Errorf("cgroups %q, %v", groups, err)
				}
			})
			if got.failed || got.skipped {
				t.Fatal(got.said)
			}
			for _, path := range []string{c.Bundle, c.Root, c.Rootfs, "/proc/" + strconv.Itoa(c.Pid)} {
				if _, err := os.Stat(path); err == nil {
					t.Errorf("%s is left", path)
				}
			}
		})
	}
}

func TestOCIFails(t *testing.T) {
	RequireRoot(t)
	RequireCommand(t, "runc", "runc")
	NoLeaks(t)
	got := observe(t, func(t testing.TB) {
		RunC(t, func(c Config) { c.Set("process.args", []string{"/no/such/command"}) })
	})
	if !got.failed || !strings.Contains(got.said, "no such file") {
		t.Errorf("failed %v: %q", got.failed, got.said)
	}
}

func TestConfigSet(t *testing.T) {
	c := Config{"process": map[string]any{"args": "old", "cwd": "/"}, "root": "scalar"}
	c.Set("process.args", "new")
	c.Set("linux.resources.pids", 1)
	c.Set("root.path", "/x")
	want := "map[linux:map[resources:map[pids:1]] process:map[args:new cwd:/] root:map[path:/x]]"
	if got := fmt.Sprint(c); got != want {
		t.Errorf("got %s", got)
	}
}

// TestFencedCgroup fills a container up to its bound: one thread more, or one
// byte, is refused, and at the end nothing is left of it.
func TestFencedCgroup(t *testing.T) {
	RequireRoot(t)
	NoLeaks(t)
	const tasks, bytes = 60, 64 << 20
	var f *Fence
	got := observe(t, func(tb testing.TB) {
		f = FencedCgroup(tb, tasks, bytes)
		c := Throwaway(tb, throwaway.Spec{Cgroups: f.Dirs, Workers: [][]string{{"sleep", "infinity"}}})
		if members := members(f.Dirs[0]); !slices.Contains(members, c.Pid()) || len(members) != 2 {
			t.Errorf("the fence has %v, init is %d", members, c.Pid())
		}
		c = Throwaway(tb, throwaway.Spec{Workers: slices.Repeat([][]string{{"sleep", "infinity"}}, 3)})
		if err := f.Add(c.Pid()); err != nil {
			t.Error(err)
		}
	})
	if got.failed || got.skipped {
		t.Fatal(got.said)
	}
	for _, dir := range f.Dirs {
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s is left", dir)
		}
	}
}

// TestFenceHolds starts processes in a fence until one is refused.
func TestFenceHolds(t *testing.T) {
	RequireRoot(t)
	NoLeaks(t)
	f := FencedCgroup(t, 8, 64<<20)
	said, err := runFenced(t, f, `for i in 1 2 3 4 5 6 7 8 9; do sleep 60 & done`)
	if err == nil || !strings.Contains(strings.ToLower(said), "fork") {
		t.Errorf("no fork was refused: %q, %v", said, err)
	}
	if n := len(members(f.Dirs[0])); n != 7 {
		t.Errorf("the shell has left %d processes", n)
	}
}

// TestFenceHoldsMemory asks for more memory than there is in a fence.
func TestFenceHoldsMemory(t *testing.T) {
	RequireRoot(t)
	NoLeaks(t)
	for mib, killed := range map[int]bool{8: false, 256: true} {
		f := FencedCgroup(t, 8, 64<<20)
		said, err := runFenced(t, f, fmt.Sprintf("exec dd if=/dev/zero of=/dev/null count=1 bs=%dM", mib))
		var exit *exec.ExitError
		if got := errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL; got != killed {
			t.Errorf("%d MiB: %v, %s", mib, err, said)
		}
	}
}

// runFenced runs a line of shell in a fence, and returns what it has printed.
func runFenced(t *testing.T, f *Fence, line string) (string, error) {
	t.Helper()
	// The shell waits for its standard input: by then it is in the fence.
	cmd := command(t, RequireCommand(t, "sh", "dash"), "-c", "read x; "+line)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	said, err := os.OpenFile(filepath.Join(t.TempDir(), "said"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := f.Add(cmd.Process.Pid); err != nil {
		t.Error(err)
	}
	if _, err := in.Write([]byte("\n")); err != nil {
		t.Error(err)
	}
	err = cmd.Wait()
	text, rerr := os.ReadFile(said.Name())
	if rerr != nil {
		t.Error(rerr)
	}
	return string(text), err
}

func TestFenceRefusesSelf(t *testing.T) {
	for _, pid := range []int{os.Getpid(), 0, -1} {
		if err := (&Fence{}).Add(pid); err == nil {
			t.Errorf("process %d was fenced", pid)
		}
	}
}

// TestLocked takes a directory for a session's group.
func TestLocked(t *testing.T) {
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	for _, how := range []int{unix.LOCK_EX, unix.LOCK_UN} {
		if err := unix.Flock(int(dir.Fd()), how); err != nil {
			t.Fatal(err)
		}
		held := how == unix.LOCK_EX
		if got := locked("+ cgroup " + dir.Name()); got != held {
			t.Errorf("flock %d: locked %v", how, got)
		}
		if locked("+ mount "+dir.Name()) || locked("- cgroup "+dir.Name()) {
			t.Error("something else is locked")
		}
		now := func() state { return state{"cgroup " + dir.Name(): true} }
		if left := settle(state{}, now, 0); (len(left) == 0) != held {
			t.Errorf("flock %d: left is %q", how, left)
		}
	}
}

// TestOpenDirWithMount leaves a mount in a directory that would be removed.
func TestOpenDirWithMount(t *testing.T) {
	if !inside() {
		RequireRoot(t)
		runInside(t, throwaway.Spec{})
		return
	}
	var dir string
	got := observe(t, func(t testing.TB) {
		dir = openDir(t)
		if err := errors.Join(os.Mkdir(dir+"/m", 0o755), unix.Mount("tmpfs", dir+"/m", "tmpfs", 0, ""),
			os.WriteFile(dir+"/m/file", nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	})
	if _, err := os.Stat(dir + "/m/file"); err != nil || !got.failed || !strings.Contains(got.said, "still a mount") {
		t.Errorf("%v, %q", err, got.said)
	}
	if err := unix.Unmount(dir+"/m", 0); err != nil {
		t.Error(err)
	}
}

func TestOthersLive(t *testing.T) {
	other := command(t, "/proc/self/exe", "__applet", "sleep", "60")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	live := groupPrefix + strconv.Itoa(other.Process.Pid) + "-x"
	if !othersLive(live) {
		t.Errorf("%s counts", live)
	}
	if err := other.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = other.Wait()
	for _, name := range []string{live, groupPrefix + strconv.Itoa(os.Getpid()) + "-x", "test-outband-x", "test-outband-1", "outband-1-x", "x"} {
		if othersLive(name) {
			t.Errorf("%s does not count", name)
		}
	}
}
