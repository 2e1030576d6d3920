// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/sys"
	"github.com/outband/outband/internal/testutil"
)

func TestMain(m *testing.M) {
	Main(os.Args)
	testutil.Main(m)
}

// bare makes a host without an engine.
func bare(t *testing.T) *Host {
	t.Helper()
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	h, err := Start(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// do runs a shell's words on the host.
func do(t *testing.T, h *Host, script string) string {
	t.Helper()
	out, err := h.Do(t.Context(), "sh", "-c", script)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// TestHostIsApart does on a host what must not be seen on the machine, after it
// has made sure that it is not done to the machine.
func TestHostIsApart(t *testing.T) {
	h := bare(t)
	for _, kind := range []string{"pid", "mnt", "net", "ipc", "uts", "cgroup"} {
		ours, err := os.Readlink("/proc/self/ns/" + kind)
		if theirs := do(t, h, "readlink /proc/self/ns/"+kind); err != nil || ours == theirs {
			t.Fatalf("%s namespace is the machine's: %s, %v", kind, theirs, err)
		}
	}
	for _, path := range []string{"/", "/sys", "/run", "/tmp", "/dev", "/dev/pts", "/dev/shm"} {
		var ours, theirs unix.Stat_t
		if err := errors.Join(unix.Stat(path, &ours), unix.Stat(h.Path(path), &theirs)); err != nil || ours.Dev == theirs.Dev {
			t.Fatalf("%s is the machine's: %v", path, err)
		}
	}
	forward := read(t, "/proc/sys/net/ipv4/ip_forward")
	do(t, h, `echo 1 >/proc/sys/net/ipv4/ip_forward
		echo x >/etc/outband-lab-was-here && rm /etc/hostname && mkdir -p /usr/local/outband-lab
		mount -o remount,ro /sys && hostname elsewhere`)
	if got := read(t, "/proc/sys/net/ipv4/ip_forward"); got != forward {
		t.Errorf("the machine forwards: %s", got)
	}
	for _, path := range []string{"/etc/outband-lab-was-here", "/usr/local/outband-lab"} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s is on the machine", path)
		}
	}
	var st unix.Statfs_t
	if err := unix.Statfs("/sys", &st); err != nil || st.Flags&unix.ST_RDONLY != 0 {
		t.Errorf("the machine's /sys is read-only: %v", err)
	}
	if name, err := os.Hostname(); err != nil || name == "elsewhere" {
		t.Errorf("the machine is called %s, %v", name, err)
	}
	if got := do(t, h, "cat /proc/self/cgroup"); strings.Contains(got, "outband") {
		t.Errorf("the host's cgroup is seen: %s", got)
	}
	if got := read(t, fmt.Sprintf("/proc/%d/cgroup", h.Init)); !strings.Contains(got, h.Group) {
		t.Errorf("the host is not in its cgroup: %s", got)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestCommand(t *testing.T) {
	h := bare(t)
	for _, c := range []struct {
		script string
		want   Result
	}{
		{"echo out; echo err >&2; exit 3", Result{3, "out\n", "err\n"}},
		{"kill -KILL $$", Result{128 + 9, "", ""}},
		{"sleep 1000 & echo started", Result{0, "started\n", ""}}, // holds the outputs
		{"cat; trap", Result{0, "", ""}},
	} {
		cmd := h.Command("sh", "-c", c.script)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if r, err := cmd.Wait(t.Context()); err != nil || r != c.want {
			t.Errorf("%s: %+v, %v", c.script, r, err)
		}
	}
	if err := h.Command("no-such-command").Start(); err == nil || !strings.Contains(err.Error(), "no-such-command") {
		t.Errorf("no such command: %v", err)
	}
	if err := h.Command("echo", strings.Repeat("x", maxPacket)).Start(); err == nil {
		t.Error("a message that is too long was sent")
	}
	user := h.Command("sh", "-c", "id -u; id -g; pwd")
	user.User, user.Dir = &User{1001, 1002}, "/tmp"
	if out, err := user.output(t.Context()); err != nil || out != "1001\n1002\n/tmp\n" {
		t.Errorf("as a user: %q, %v", out, err)
	}
}

func TestCommandDeadline(t *testing.T) {
	h := bare(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := h.Do(ctx, "sleep", "1000"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if got := do(t, h, "ps -e -o args | grep -c '^sleep 1000' || true"); got != "0" {
		t.Errorf("%s still run", got)
	}
}

// TestOrphansAreReaped: the first process collects what others leave to it.
func TestOrphansAreReaped(t *testing.T) {
	h := bare(t)
	do(t, h, "for i in 1 2 3; do sh -c 'sleep 0.01 & exit 0'; done")
	if err := poll(t.Context(), func() error {
		if got := do(t, h, "ps -e -o stat | grep -c Z || true"); got != "0" {
			return errors.New("zombies: " + got)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// TestHostEndsByItself: what is on a host may end its first process, as by a
// reboot; commands are told of it, and nothing is left.
func TestHostEndsByItself(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	h, err := Start(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	cmd := h.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	init, err := sys.OpenPid(h.Init)
	if err != nil {
		t.Fatal(err)
	}
	defer init.Close()
	if err := sys.Signal(init, unix.SIGKILL, false); err != nil {
		t.Fatal(err)
	}
	if _, err := cmd.Wait(t.Context()); err == nil || !strings.Contains(err.Error(), "the host has ended") {
		t.Errorf("the command: %v", err)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if _, err := h.Do(t.Context(), "true"); err == nil {
		t.Error("a host that has ended takes orders")
	}
}

// TestFrozenEnds: a container that is paused ends with its host.
func TestFrozenEnds(t *testing.T) {
	testutil.NoLeaks(t)
	h := Open(t, Docker())
	if _, err := h.Run(t.Context(), "web", Busybox(t), Options{}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Do(t.Context(), "docker", "pause", "web"); err != nil {
		t.Fatal(err)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
}

// TestEngines: each engine runs a container, enters it where it can, and ends it.
func TestEngines(t *testing.T) {
	for _, e := range Engines() {
		t.Run(e.Name, func(t *testing.T) {
			testutil.NoLeaks(t)
			h := Open(t, e)
			if v := h.Version(t.Context()); !strings.Contains(v, ".") {
				t.Errorf("version %q", v)
			}
			c, err := h.Run(t.Context(), "web", Busybox(t), Options{})
			if err != nil {
				t.Fatal(err)
			}
			status := read(t, fmt.Sprintf("/proc/%d/status", c.Pid))
			if want := fmt.Sprintf("NSpid:\t%d\t%d\t1\n", c.Pid, c.HostPid); !strings.Contains(status, want) {
				t.Errorf("%q is not in\n%s", want, status)
			}
			r, err := c.Exec(t.Context(), "id", "-u")
			if e.exec != nil && (err != nil || r.Code != 0 || r.Out != "0\n") || e.exec == nil && !errors.Is(err, ErrNotOffered) {
				t.Errorf("exec: %+v, %v", r, err)
			}
			if err := c.Remove(t.Context()); (e.remove != nil) != (err == nil) {
				t.Errorf("remove: %v", err)
			}
		})
	}
}

// TestTerminalsGo: terminals of a host's own devpts are counted by the machine;
// they end with the host. Others may open some at the same time, hence several
// tries.
func TestTerminalsGo(t *testing.T) {
	for range 5 {
		if with, after := terminals(t); after < with {
			return
		}
	}
	t.Error("a host that has ended leaves its terminals")
}

// terminals counts the machine's while a host has one, and after its end.
func terminals(t *testing.T) (with, after int) {
	t.Helper()
	count := func() int {
		n, err := strconv.Atoi(strings.TrimSpace(read(t, "/proc/sys/kernel/pty/nr")))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	h := bare(t)
	cmd := h.Command("sh", "-c", "exec 3<>/dev/ptmx && ls /dev/pts/0 && sleep 1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := poll(t.Context(), func() error {
		if said := cmd.Said(); said != "/dev/pts/0\n" {
			return errors.New("no terminal: " + said)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	with = count()
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	return with, count()
}

// TestRunFails: what cannot run is an error that says why, not a wait.
func TestRunFails(t *testing.T) {
	for _, e := range []*Engine{RunC(), Bubblewrap(), Unshare()} {
		t.Run(e.Name, func(t *testing.T) {
			testutil.NoLeaks(t)
			h := Open(t, e)
			_, err := h.Run(t.Context(), "web", Busybox(t), Options{Args: []string{"/no/such/program"}})
			if err == nil || !strings.Contains(err.Error(), "/no/such/program") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestSetupFails(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	broken := &Engine{Name: "broken"}
	broken.setup = func(ctx context.Context, h *Host) error {
		return h.daemon(ctx, h.Command("sh", "-c", "echo it broke >&2; exit 1"), "false")
	}
	if _, err := Start(t.Context(), broken); err == nil || !strings.Contains(err.Error(), "it broke") {
		t.Errorf("got %v", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Start(gone, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that is done: %v", err)
	}
}

func TestMissing(t *testing.T) {
	e := &Engine{Name: "none", Needs: []Program{{"sh", "dash"}, {"no-such-engine", "some-package"}}}
	if got := e.Missing(); !strings.Contains(got, "no-such-engine") || !strings.Contains(got, "some-package") {
		t.Errorf("got %q", got)
	}
	if got := (&Engine{Needs: []Program{{"sh", "dash"}}}).Missing(); got != "" {
		t.Errorf("got %q", got)
	}
}

func TestImages(t *testing.T) {
	testutil.RequireCommand(t, "busybox", "busybox-static")
	for _, image := range []*Image{Busybox(t), Scratch(t)} {
		dir := filepath.Join(t.TempDir(), "root")
		if err := image.unpack(dir); err != nil {
			t.Fatal(err)
		}
		left := filepath.Join(dir, "left")
		if err := errors.Join(os.WriteFile(left, nil, 0o644), image.unpack(dir)); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(left); err == nil {
			t.Error("unpacked over another")
		}
		data, err := image.archive()
		if err != nil {
			t.Fatal(err)
		}
		r, n := tar.NewReader(bytes.NewReader(data)), 0
		for ; ; n++ {
			header, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			info, err := os.Lstat(filepath.Join(dir, header.Name))
			if err != nil || info.Mode().Type() != header.FileInfo().Mode().Type() {
				t.Errorf("%s: %v, %v", header.Name, info, err)
			}
		}
		if n != len(image.Files) {
			t.Errorf("%d of %d files", n, len(image.Files))
		}
	}
	if _, err := os.Stat("/bin/sh"); err == nil {
		for _, f := range Scratch(t).Files {
			if strings.HasSuffix(f.Path, "sh") {
				t.Errorf("a shell: %s", f.Path)
			}
		}
	}
}

func TestNumber(t *testing.T) {
	for text, want := range map[string]int{"12\n": 12, "0": 0, "": 0, "-1": 0, "x": 0} {
		if got, err := number(text, nil); err == nil && got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %s, %v", text, strconv.Itoa(got), err)
		}
	}
}
