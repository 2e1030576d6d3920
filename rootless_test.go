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
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/ns"
)

// A user named in the container's tables is entered as root and as the owner of
// the container, as far as its numbers are mapped.
func TestUserOfOwnContainer(t *testing.T) {
	testutil.NoLeaks(t)
	both(t, func(t *testing.T) {
		container := testutil.Throwaway(t, throwaway.Spec{User: true})
		target := hold(t, container)
		write(t, container.Pid(), map[string]string{
			passwdFile: "admin:x:0:0::/home/admin:/bin/sh\nfar:x:70000:70000::/:/bin/sh\n", groupFile: "adm:x:4:admin\n",
		})
		var err error
		c := target.Command("status")
		if c.User, err = target.LookupUser(t.Context(), "admin"); err != nil {
			t.Fatal(err)
		}
		if lines := idLines(t, c); lines[0] != "0 0 0 0" || lines[1] != "0 0 0 0" {
			t.Errorf("%q", lines)
		}
		for _, name := range []string{"far", "70000", "admin:70000"} {
			c = target.Command("status")
			if c.User, err = target.LookupUser(t.Context(), name); err != nil {
				t.Fatal(err)
			}
			if err := c.Run(); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "not mapped") {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// A container whose one number is not 0 is entered by its owner as its init; who
// is not mapped cannot be.
func TestOwnContainerWithoutRoot(t *testing.T) {
	testutil.NoLeaks(t)
	both(t, func(t *testing.T) {
		one := func(id int) []throwaway.IDMap { return []throwaway.IDMap{{ContainerID: 1000, HostID: id, Size: 1}} }
		target := enter(t, throwaway.Spec{User: true, UIDMap: one(os.Getuid()), GIDMap: one(os.Getgid()), DenySetgroups: true})
		if got := run(t, target.Command("id")); !strings.HasPrefix(got, "uid=1000 gid=1000 ") {
			t.Errorf("%q", got)
		}
		c := target.Command("id")
		if c.User = (&User{UID: 1000, GID: 1000}); !strings.HasPrefix(run(t, c), "uid=1000 gid=1000 ") {
			t.Error("as the one user there is")
		}
		c = target.Command("id")
		if c.User = (&User{}); !errors.Is(c.Run(), ErrInvalid) {
			t.Error("as root, who is not there")
		}
	})
}

// Containers that users without privilege make with the usual tools are entered
// by them.
func TestToolsOfUsers(t *testing.T) {
	testutil.NoLeaks(t)
	both(t, func(t *testing.T) {
		for name, test := range map[string]struct {
			pkg  string
			args []string
			uid  string
		}{
			"unshare": {"util-linux", []string{"--user", "--map-root-user", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc"}, "0"},
			"bwrap": {"bubblewrap", []string{"--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--unshare-all", "--as-pid-1", "--die-with-parent",
				"--uid", "1000", "--gid", "1000"}, "1000"},
		} {
			t.Run(name, func(t *testing.T) {
				testutil.RequireUserNS(t)
				cmd := exec.Command(testutil.RequireCommand(t, name, test.pkg), append(test.args, "/bin/sleep", "1000")...)
				cmd.Stderr, cmd.SysProcAttr = os.Stderr, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
				pid := 0
				await(t, "the container of "+name, func() bool { pid = sleepBelow(cmd.Process.Pid); return pid != 0 })
				target, err := Open(context.Background(), strconv.Itoa(pid))
				if err != nil {
					t.Fatal(err, Hint(err))
				}
				defer target.Close()
				// The tool reaps its container, and ends with it.
				defer func() {
					_ = target.Signal(unix.SIGKILL)
					within(t, "the end of "+name, func() { _ = cmd.Wait() })
				}()
				if got := run(t, target.Command("/usr/bin/id", "-u")); strings.TrimSpace(got) != test.uid {
					t.Errorf("user %q, want %s", got, test.uid)
				}
				inside := run(t, sh(target, "readlink /proc/self/ns/pid"))
				if want := fmt.Sprintf("pid:[%d]", target.Namespaces()[ns.PID]); strings.TrimSpace(inside) != want {
					t.Errorf("in %q, want %s", inside, want)
				}
			})
		}
	})
}

// sleepBelow is the process called sleep below another one, 0 while there is none.
func sleepBelow(pid int) int {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		for _, field := range strings.Fields(string(text)) {
			child, err := strconv.Atoi(field)
			if err != nil {
				continue
			}
			if comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", child)); string(comm) == "sleep\n" {
				return child
			}
			if found := sleepBelow(child); found != 0 {
				return found
			}
		}
	}
	return 0
}

// Whoever may see how a container is confined need not be allowed to see its init's
// environment, as the owner of one whose init has another number is not: that is
// missed when a command is planned, and not before.
func TestEnvironmentOfAnother(t *testing.T) {
	testutil.NoLeaks(t)
	testutil.RequireRoot(t)
	pid := testutil.Throwaway(t, throwaway.Spec{User: true}).Pid()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// Without the rights to others' files, and with those to others' processes.
	fsuid := func(uid uintptr) { _, _, _ = unix.RawSyscall(unix.SYS_SETFSUID, uid, 0, 0) }
	fsuid(rootlessID)
	defer fsuid(0)
	target, err := OpenPID(t.Context(), pid)
	if err != nil {
		t.Fatal(err, Hint(err))
	}
	defer target.Close()
	_, err = target.Command("true").Plan()
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "environment") || !strings.Contains(Hint(err), "as root") {
		t.Errorf("%v, %q", err, Hint(err))
	}
}
