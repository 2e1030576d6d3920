// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
)

// openArg makes the test binary tell what Open says.
const openArg = "__open"

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == openArg {
		fmt.Println(openError())
		os.Exit(0)
	}
	testutil.Main(m)
}

// openError is "own", "foreign" or another error.
func openError() string {
	f, err := Open()
	switch {
	case errors.Is(err, ErrForeign):
		return "foreign"
	case err != nil:
		return err.Error()
	}
	f.Close()
	return "own"
}

// open opens /proc for a test.
func open(t *testing.T) *FS {
	t.Helper()
	f, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// A number must not mean one process in /proc and another one in the system
// calls: the /proc of another pid namespace is refused.
func TestOpenIsOfOwnPidNamespace(t *testing.T) {
	testutil.NoLeaks(t)
	tests := []struct {
		name string
		tree throwaway.Tree
		want string
	}{
		{"proc of one's own", throwaway.TreeShared, "own"},
		{"proc of the creator", throwaway.TreeHost, "foreign"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			testutil.Throwaway(t, throwaway.Spec{Args: []string{"/proc/self/exe", openArg}, Tree: test.tree, Stdout: w})
			w.Close()
			out, err := io.ReadAll(r)
			if err != nil || strings.TrimSpace(string(out)) != test.want {
				t.Errorf("Open says %q, %v, want %s", out, err, test.want)
			}
		})
	}
}

// A /proc that is something else is refused: here a tmpfs, as a container with
// a mount namespace of its own would put it there.
func TestOpenIsProcfs(t *testing.T) {
	testutil.RequireRoot(t)
	cmd := exec.Command("/proc/self/exe", openArg)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	script := exec.Command("/bin/sh", "-c", `mount -t tmpfs tmpfs /proc && exec "$0" `+openArg, mustExecutable(t))
	script.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	for want, c := range map[string]*exec.Cmd{"own": cmd, "/proc is not a procfs": script} {
		out, err := c.CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != want {
			t.Errorf("Open says %q, %v, want %q", out, err, want)
		}
	}
}

func mustExecutable(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPids(t *testing.T) {
	f := open(t)
	for range 2 { // the directory is read from its start each time
		pids, err := f.Pids()
		if err != nil || !slices.Contains(pids, os.Getpid()) {
			t.Errorf("%v, %v: without %d", pids, err, os.Getpid())
		}
	}
}

func TestSelfIsTheThread(t *testing.T) {
	f := open(t)
	done := make(chan error)
	go func() { // not on the main thread, which has the process's number
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		self, err := f.Self()
		if err == nil {
			defer self.Close()
			var status Status
			status, err = self.Status()
			if err == nil && status.NSpid[0] != unix.Gettid() {
				err = fmt.Errorf("directory of %d on thread %d", status.NSpid[0], unix.Gettid())
			}
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestProcessThatIsNot(t *testing.T) {
	f := open(t)
	for _, pid := range []int{0, -1, 1 << 30} {
		if d, err := f.Process(pid); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Process(%d): %v, %v, want fs.ErrNotExist", pid, d, err)
		}
	}
}

func TestReadFile(t *testing.T) {
	f := open(t)
	self, err := f.Process(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	want, err := os.ReadFile("/proc/self/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := self.ReadFile("cmdline"); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
	if got, err := self.ReadHead("cmdline", 5); err != nil || string(got) != string(want[:5]) {
		t.Errorf("head of 5: %q, %v", got, err)
	}
	if _, err := self.ReadFile("no such file"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, want fs.ErrNotExist", err)
	}
}

// Nothing leads out of the process's directory, whatever it is called.
func TestReadFileStaysBeneath(t *testing.T) {
	f := open(t)
	self, err := f.Process(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	for _, name := range []string{"../self/status", "/proc/self/status", "root/etc/passwd", "exe", "fd/0", "ns/pid", "cwd/go.mod"} {
		if b, err := self.ReadFile(name); err == nil {
			t.Errorf("%s: read %d bytes", name, len(b))
		}
	}
}

// ReadFile is bounded: an environment may be larger than what is of use.
func TestReadFileIsBounded(t *testing.T) {
	f := open(t)
	// A string is at most 128 KiB, all of them a quarter of the stack limit and
	// 6 MiB (execve(2)).
	var own unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_STACK, &own); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_STACK, &unix.Rlimit{Cur: min(32<<20, own.Max), Max: own.Max}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Setrlimit(unix.RLIMIT_STACK, &own) }()
	cmd := sleeper()
	for i := range 40 {
		cmd.Env = append(cmd.Env, fmt.Sprintf("V%d=%s", i, strings.Repeat("x", 131000)))
	}
	p := start(t, f, cmd)
	await(t, "the end of its exec", func() bool {
		b, _ := p.Dir.ReadHead("environ", 1)
		return len(b) > 0
	})
	if b, err := p.Dir.ReadFile("environ"); !errors.Is(err, unix.EFBIG) || b != nil {
		t.Errorf("%d bytes, %v, want EFBIG", len(b), err)
	}
	if b, err := p.Dir.ReadHead("environ", 200000); err != nil || len(b) != 200000 || !bytes.HasPrefix(b, []byte("V0=x")) {
		t.Errorf("head: %d bytes, %v", len(b), err)
	}
}

func TestReadlink(t *testing.T) {
	f := open(t)
	self, err := f.Process(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	want, _ := os.Executable()
	if got, err := self.Readlink("exe"); err != nil || got != want {
		t.Errorf("exe is %q, %v, want %q", got, err, want)
	}
	if _, err := self.Readlink("status"); err == nil {
		t.Error("status is read as a link")
	}
}

// What OpenLink returns is the process's own directory, and opened for no more
// than to be a place.
func TestOpenLink(t *testing.T) {
	f := open(t)
	self, err := f.Process(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	dir, err := self.OpenLink("cwd")
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	got, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(dir.Fd())))
	want, _ := os.Getwd()
	if err != nil || got != want {
		t.Errorf("cwd is %q, %v, want %q", got, err, want)
	}
	if _, err := dir.Readdirnames(1); !errors.Is(err, unix.EBADF) {
		t.Errorf("reading it: %v, want EBADF", err)
	}
}

// TestDescriptors lists this process's own, and some of many.
func TestDescriptors(t *testing.T) {
	proc, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	self, err := proc.Process(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	for range 300 {
		f, err := os.Open("/dev/null")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
	}
	all, err := self.Descriptors(0)
	if err != nil || len(all) < 300 || !slices.IsSorted(all) || !slices.Contains(all, int(self.File().Fd())) {
		t.Errorf("%d descriptors, %v", len(all), err)
	}
	some, err := self.Descriptors(64)
	if err != nil || len(some) < 64 || len(some) > 200 || !slices.Equal(some, all[:len(some)]) {
		t.Errorf("%d descriptors, asked for 64, %v", len(some), err)
	}
	if _, err := proc.Process(0); err == nil {
		t.Error("there is a process 0")
	}
}
