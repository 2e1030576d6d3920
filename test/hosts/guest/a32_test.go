// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/testutil"
)

// stands checks, at the end of the test, that the host is the one that it was: it
// was not started again, and is not on its way down.
func stands(t *testing.T) {
	t.Helper()
	boot := func() string {
		b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
		if err != nil {
			t.Fatal(err)
		}
		return string(b) + started(t, 1)
	}
	before := boot()
	t.Cleanup(func() {
		jobs, _ := try(t, "systemctl", "list-jobs", "--no-legend")
		if after := boot(); after != before || strings.Contains(jobs, "reboot") || strings.Contains(jobs, "poweroff") {
			t.Errorf("the host is %q, was %q, and has to do %q", after, before, jobs)
		}
	})
}

// started is when a process did, which with its number is who it is.
func started(t *testing.T, pid int) string {
	t.Helper()
	_, rest, _ := strings.Cut(file(t, pid, "stat"), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 20 {
		t.Fatalf("process %d: %q", pid, rest)
	}
	return fields[19]
}

// TestA32HostPID throws the switch of what is in the host's own pid namespace, with
// all capabilities: each throw is refused, and the host goes on.
func TestA32HostPID(t *testing.T) {
	asRoot(t)
	stands(t)
	shared := spawn(t, "unshare", "--mount", "--uts", "--ipc", "sleep", "100000")
	await(t, "its program", func() bool { return file(t, shared.Process.Pid, "comm") == "sleep" })
	t.Run("podman", func(t *testing.T) {
		podman(t)
		b := podmanRun(t, "switch", "--pid=host")
		refusesAll(t, "podman:switch", b.pid, anyway)
	})
	t.Run("init", func(t *testing.T) { refusesAll(t, "pid:1", 1, anyway) })
	t.Run("unshare", func(t *testing.T) {
		refusesAll(t, fmt.Sprintf("pid:%d", shared.Process.Pid), shared.Process.Pid, nil, anyway)
	})
}

// anyway are all flags by which something is done that is not without.
var anyway = []string{"--force", "--anyway", "--thaw"}

// refusesAll throws the switch of a process in each way, and sees that it stays.
func refusesAll(t *testing.T, name string, pid int, ways ...[]string) {
	before := started(t, pid)
	for _, action := range []string{"off", "reboot", "halt", "kill", "pause", "resume"} {
		for _, flags := range ways {
			r, err := throw(t, name, action, flags...)
			if err == nil || r.Done || !strings.Contains(err.Error(), "exit status 4") || !strings.Contains(err.Error(), "namespace") {
				t.Errorf("%s %s %v is not refused: %+v, %v", name, action, flags, r, err)
			}
		}
	}
	if after := started(t, pid); after != before {
		t.Errorf("%s is one that started at %q, was %q", name, after, before)
	}
}

// hostFIFO is by which a host's init is told to reboot: its own, where it has one,
// or one that the test reads. received is what has come; nil where that would be
// the end of the host.
func hostFIFO(t *testing.T) (path string, received func() string) {
	t.Helper()
	path = "/run/initctl"
	if _, err := try(t, "systemctl", "start", "systemd-initctl.socket"); err == nil {
		t.Log("it is systemd's own")
		return path, func() string { return "" }
	}
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close(); _ = os.Remove(path) })
	return path, func() string {
		b := make([]byte, 4096)
		n, _ := unix.Read(int(f.Fd()), b)
		return string(b[:max(n, 0)])
	}
}

// TestA32HostRun switches off containers that have the host's /run: with the FIFO
// of the host's init, which is told to reboot there, and with the sockets of its
// systemd. Whether their init holds that FIFO open, as an init does with what it
// finds, or one of its own, nothing is written to it: it is pressed instead.
func TestA32HostRun(t *testing.T) {
	asRoot(t)
	stands(t)
	host, received := hostFIFO(t)
	own := filepath.Join(t.TempDir(), "initctl")
	if err := unix.Mkfifo(own, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ holds, action, why string }{
		{host, "reboot", "outside of it as well"}, {host, "off", "outside of it as well"},
		{own, "reboot", "no FIFO that the init holds open"},
	} {
		t.Run(filepath.Base(filepath.Dir(test.holds))+"/"+test.action, func(t *testing.T) {
			pid := withHostRun(t, test.holds)
			name := fmt.Sprintf("pid:%d", pid)
			if out := answer(t, "power", name); !strings.Contains(out, "sysvinit") {
				t.Fatalf("its init is taken for another: %s", out)
			}
			flags := []string{"--grace", "2s", "--anyway"}
			r, said, err := throwSaid(t, name, test.action, flags...)
			if err != nil || !r.Done || !strings.Contains(said, test.why) || !strings.Contains(said, `"rung":"press"`) {
				t.Errorf("%+v, %v: %s", r, err, said)
			}
			if got := received(); got != "" {
				t.Errorf("the host's init is told %q", got)
			}
		})
	}
}

// withHostRun is a container on a root of its own but for /run. Its first process
// is called init and holds a FIFO called initctl open: so is sysvinit told.
func withHostRun(t *testing.T, holds string) int {
	t.Helper()
	dir := testutil.BusyboxRoot(t)
	program, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	inner := filepath.Join(dir, "init")
	if err := os.WriteFile(inner, program, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "etc/inittab"), []byte("::respawn:/bin/sleep 100000\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	const script = `exec 3<>"$1"; mount --bind /run "$0/run" && mount -t proc proc "$0/proc" && exec chroot "$0" /init`
	outer := spawn(t, "unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script, dir, holds)
	return childOf(t, outer.Process.Pid, "init")
}
