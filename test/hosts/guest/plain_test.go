// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/sys"
	"github.com/outband/outband/internal/testutil"
)

// unshare starts a container of util-linux and returns its init's number.
func unshare(t *testing.T, flags ...string) int {
	t.Helper()
	args := append([]string{"unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--uts", "--ipc", "--net", "--cgroup"}, flags...)
	return childOf(t, spawn(t, append(args, "sleep", "100000")...).Process.Pid, "sleep")
}

func TestUnshare(t *testing.T) {
	asRoot(t)
	pid := unshare(t)
	check(t, box{pid: pid, exec: []string{"nsenter", "--all", "--target", fmt.Sprint(pid)}, differ: []string{"Umask"}})
}

func TestUnshareTime(t *testing.T) {
	asRoot(t)
	testutil.RequireKernel(t, 5, 6, "time namespaces")
	pid := unshare(t, "--time", "--boottime", "100000")
	check(t, box{pid: pid})
	up, err := outbandEnter(t, pid, nil, "cat", "/proc/uptime")
	if err != nil {
		t.Fatal(err)
	}
	seconds, _, _ := strings.Cut(up, ".")
	if n, err := strconv.Atoi(seconds); err != nil || n < 100000 {
		t.Errorf("the clock inside says %q", up)
	}
}

// TestUnshareUser is a container of an ordinary user's.
func TestUnshareUser(t *testing.T) {
	asUser(t)
	check(t, box{pid: unshare(t, "--user", "--map-root-user")})
}

// bubblewrap starts a container of bwrap's, without capabilities.
func bubblewrap(t *testing.T) int {
	t.Helper()
	has(t, "bwrap")
	outer := spawn(t, "bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--as-pid-1", "sleep", "100000")
	return childOf(t, outer.Process.Pid, "sleep")
}

func TestBubblewrap(t *testing.T) {
	asRoot(t)
	check(t, box{pid: bubblewrap(t)})
}

func TestBubblewrapUser(t *testing.T) {
	asUser(t)
	check(t, box{pid: bubblewrap(t)})
}

func TestRunC(t *testing.T) {
	asRoot(t)
	has(t, "runc")
	oci(t, testutil.RunC(t), "runc")
}

func TestCrun(t *testing.T) {
	asRoot(t)
	has(t, "crun")
	oci(t, testutil.Crun(t), "crun", "NoNewPrivs") // crun exec leaves it out
}

func oci(t *testing.T, c *testutil.OCI, runtime string, differ ...string) {
	t.Helper()
	check(t, box{pid: c.Pid, exec: []string{runtime, "--root", c.Root, "exec", c.ID}, differ: differ})
}

// TestRunCLabel gives a container of runc's a profile of AppArmor.
func TestRunCLabel(t *testing.T) {
	asRoot(t)
	has(t, "runc")
	profile(t, "outband-test", "")
	oci(t, testutil.RunC(t, func(c testutil.Config) {
		c.Set("process.apparmorProfile", "outband-test")
		c.Set("process.noNewPrivileges", false)
	}), "runc")
}

// TestLabelHolds has a profile that denies a file: what enters cannot read it
// either.
func TestLabelHolds(t *testing.T) {
	asRoot(t)
	has(t, "runc")
	profile(t, "outband-test", "deny /secret r,\n")
	c := testutil.RunC(t, func(c testutil.Config) { c.Set("process.apparmorProfile", "outband-test") })
	for _, name := range []string{"secret", "open"} {
		if err := os.WriteFile(filepath.Join(c.Rootfs, name), []byte("said\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := outbandEnter(t, c.Pid, nil, "cat", "/open"); err != nil || out != "said\n" {
		t.Errorf("a file that is allowed: %q, %v", out, err)
	}
	if out, err := outbandEnter(t, c.Pid, nil, "cat", "/secret"); err == nil || !strings.Contains(err.Error(), "ermission denied") {
		t.Errorf("a file that is denied: %q, %v", out, err)
	}
}

// profile loads a profile of AppArmor that allows nearly all but what its rules
// say.
func profile(t *testing.T, name, rules string) {
	t.Helper()
	has(t, "apparmor_parser")
	text := fmt.Sprintf("abi <abi/3.0>,\nprofile %s flags=(attach_disconnected,mediate_deleted) {\n network,\n capability,\n file,\n umount,\n signal,\n ptrace,\n unix,\n deny /proc/sysrq-trigger rwklx,\n%s}\n", name, rules)
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	call(t, "apparmor_parser", "-Kr", path)
	t.Cleanup(func() { _, _ = try(t, "apparmor_parser", "-R", path) })
}

// TestDistroless enters a container in which there is nothing but one program.
func TestDistroless(t *testing.T) {
	asRoot(t)
	has(t, "runc")
	c := testutil.RunC(t, func(config testutil.Config) { config.Set("process.args", []string{"/bin/busybox", "cat"}) })
	links, _ := filepath.Glob(filepath.Join(c.Rootfs, "bin/*"))
	for _, path := range links {
		if filepath.Base(path) != "busybox" {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	lost := losses(t, c.Pid)
	out, err := outbandEnter(t, c.Pid, lost, "/bin/busybox", "id", "-u")
	if err != nil || strings.TrimSpace(out) != "0" {
		t.Errorf("%q, %v", out, err)
	}
	// Without a command it would be a shell.
	cmd := command(t, words(c.Pid, lost)...)
	said, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 127 || !strings.Contains(string(said), "outband: ") {
		t.Errorf("no shell: %v, %s", err, said)
	}
}

// TestYama enters with each setting of kernel.yama.ptrace_scope that can be taken
// back (3 cannot).
func TestYama(t *testing.T) {
	asRoot(t)
	const setting = "/proc/sys/kernel/yama/ptrace_scope"
	before, err := os.ReadFile(setting)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.WriteFile(setting, before, 0) })
	pid := unshare(t)
	for _, scope := range []string{"0", "1", "2"} {
		if err := os.WriteFile(setting, []byte(scope), 0); err != nil {
			t.Fatal(err)
		}
		if out, err := outbandEnter(t, pid, nil, "echo", "in"); err != nil || out != "in\n" {
			t.Errorf("ptrace_scope %s: %q, %v", scope, out, err)
		}
	}
}

// TestKernel says what this host is.
func TestKernel(t *testing.T) {
	onHost(t)
	major, minor := sys.Release()
	t.Logf("Linux %d.%d, user %d", major, minor, os.Geteuid())
	for _, path := range []string{"/sys/kernel/security/lsm", "/proc/self/attr/current", "/proc/self/cgroup", "/sys/fs/cgroup/cgroup.controllers"} {
		b, err := os.ReadFile(path)
		t.Logf("%s: %q %v", path, b, err)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs("/sys/fs/cgroup", &fs); err != nil || fs.Type != unix.CGROUP2_SUPER_MAGIC {
		t.Errorf("/sys/fs/cgroup is no cgroup2: %v", err)
	}
}
