// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband"
	"github.com/outband/outband/internal/testutil"
)

// asTester is the start of a command line that runs in the ordinary user's own
// systemd.
func asTester(t *testing.T, unit string) []string {
	t.Helper()
	asRoot(t)
	service(t, "user@1000.service")
	return []string{"setpriv", "--reuid", "1000", "--regid", "1000", "--init-groups", "env", "HOME=/home/tester", "XDG_RUNTIME_DIR=/run/user/1000",
		"systemd-run", "--user", "--quiet", "--collect", "--unit=" + unit}
}

// TestRootEntersUsers is root in a container that an ordinary user has made: in
// that user's namespace, below that user's systemd.
func TestRootEntersUsers(t *testing.T) {
	line := asTester(t, "lodger")
	call(t, append(line, "unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc", "sleep", "100000")...)
	t.Cleanup(func() {
		call(t, append(line[:9:9], "systemctl", "--user", "kill", "--signal=KILL", "lodger")...)
	})
	group := "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service"
	pid := 0
	await(t, "the container", func() bool {
		files, _ := filepath.Glob(group + "/*/lodger.service/cgroup.procs")
		for _, name := range files {
			b, _ := os.ReadFile(name)
			for member := range strings.FieldsSeq(string(b)) {
				if comm, _ := os.ReadFile("/proc/" + member + "/comm"); string(comm) == "sleep\n" {
					pid = number(t, member)
				}
			}
		}
		return pid != 0
	})
	check(t, box{pid: pid})
}

// TestUserMayNot is an ordinary user who wants into what is root's.
func TestUserMayNot(t *testing.T) {
	asUser(t)
	said, err := command(t, "outband", "enter", "1", "--", "true").CombinedOutput()
	if err == nil || !strings.HasPrefix(string(said), "outband: enter 1: ") || strings.Count(string(said), "\n") > 2 {
		t.Errorf("%v, %s", err, said)
	}
}

// group makes a cgroup of the host's with a container in it.
func group(t *testing.T) (dir string, pid int) {
	t.Helper()
	asRoot(t)
	dir = fmt.Sprintf("/sys/fs/cgroup/test-outband-%d", os.Getpid())
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		await(t, "the end of "+dir, func() bool {
			inner, _ := filepath.Glob(dir + "/*/cgroup.procs")
			for _, name := range inner {
				_ = os.Remove(filepath.Dir(name))
			}
			return os.Remove(dir) == nil
		})
	})
	pid = unshare(t)
	write(t, dir+"/cgroup.procs", fmt.Sprint(pid))
	return dir, pid
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0); err != nil {
		t.Fatal(err)
	}
}

// TestGroupGoesOn enters a container whose cgroup becomes one with controllers
// for its children while the session runs: processes are below it then, not in
// it. Where sessions have no group of their own, one that runs forbids that.
func TestGroupGoesOn(t *testing.T) {
	testutil.RequireKernel(t, 5, 14, "cgroup.kill")
	dir, pid := group(t)
	target, err := outband.OpenPID(context.Background(), pid)
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	first := enter(t, target, nil)
	if err := os.Mkdir(dir+"/init", 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/init/cgroup.procs", fmt.Sprint(pid))
	write(t, dir+"/cgroup.subtree_control", "+pids +memory")
	// The old hold knows where init was: a session's own group can be there still.
	if err := target.Command("true").Run(); err != nil {
		t.Errorf("by a hold from before: %v", err)
	}
	check(t, box{pid: pid})
	if !strings.HasPrefix(unified(t, first), "/"+filepath.Base(dir)+"/outband-") {
		t.Errorf("the first session is in %s", unified(t, first))
	}
}

// TestGroupForbids enters a container whose cgroup lets none be made below it.
func TestGroupForbids(t *testing.T) {
	dir, pid := group(t)
	write(t, dir+"/cgroup.max.descendants", "0")
	check(t, box{pid: pid})
	if left, _ := filepath.Glob(dir + "/outband-*"); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// TestGroupThreaded enters a container in a cgroup that is threaded, in which a
// session cannot be made to end at once.
func TestGroupThreaded(t *testing.T) {
	dir, pid := group(t)
	if err := os.Mkdir(dir+"/threads", 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/threads/cgroup.type", "threaded")
	write(t, dir+"/threads/cgroup.procs", fmt.Sprint(pid))
	check(t, box{pid: pid})
}

// TestToolKilled kills the command outband: what it has let in is gone.
func TestToolKilled(t *testing.T) {
	asRoot(t)
	testutil.RequireRoot(t)
	pid := unshare(t)
	tool := exec.Command("outband", "enter", fmt.Sprint(pid), "--", "sleep", "100007")
	if err := tool.Start(); err != nil {
		t.Fatal(err)
	}
	inside := func() (n int) {
		lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, name := range lines {
			if b, _ := os.ReadFile(name); string(b) == "sleep\x00100007\x00" {
				n++
			}
		}
		return n
	}
	await(t, "the command inside", func() bool { return inside() == 1 })
	_ = tool.Process.Signal(unix.SIGKILL)
	_ = tool.Wait()
	await(t, "the end of the session", func() bool { return inside() == 0 })
	parent := "/sys/fs/cgroup" + unified(t, pid)
	await(t, "the end of its cgroup", func() bool {
		left, _ := filepath.Glob(parent + "/outband-*")
		return len(left) == 0
	})
}
