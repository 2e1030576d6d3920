// SPDX-License-Identifier: Apache-2.0

package throwaway_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
)

func TestMain(m *testing.M) { testutil.Main(m) }

// deadline bounds each wait of these tests.
const deadline = 20 * time.Second

// eventually asks until it is so or the time is over.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for until := time.Now().Add(deadline); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// read returns a file of a process in /proc.
func read(t *testing.T, pid int, name string) string {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// status returns a line of a process's status, blanks made one.
func status(t *testing.T, pid int, field string) string {
	t.Helper()
	_, rest, _ := strings.Cut("\n"+read(t, pid, "status"), "\n"+field+":")
	line, _, _ := strings.Cut(rest, "\n")
	return strings.Join(strings.Fields(line), " ")
}

// levels is how many numbers a process has.
func levels(t *testing.T, pid int) int {
	t.Helper()
	return len(strings.Fields(status(t, pid, "NSpid")))
}

// childrenOf lists what has a parent, by name; zombies have a trailing "!".
func childrenOf(t *testing.T, parent int) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		text := string(data)
		open, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
		fields := strings.Fields(text[end+1:])
		if fields[1] != strconv.Itoa(parent) {
			continue
		}
		name := text[open+1 : end]
		if fields[0] == "Z" {
			name += "!"
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// output runs a container whose init ends by itself.
func output(t *testing.T, spec throwaway.Spec) (string, *os.ProcessState) {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "output"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	spec.Stdout, spec.Stderr = file, file
	c := testutil.Throwaway(t, spec)
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	state, err := c.Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(text), state
}

// begin is what all tests of containers start with. They run as root, and once
// more without privilege (TestRootless).
func begin(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		testutil.RequireUserNS(t)
	}
	testutil.NoLeaks(t)
}

// needRoot requires root of the run, but not of the one that has given it up.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Getenv(role) == "rootless" {
		t.Skip("this is the other user")
	}
	testutil.RequireRoot(t)
}

// TestDefault looks at all that a container without wishes has.
func TestDefault(t *testing.T) {
	begin(t)
	leak, err := syscall.Open("/", syscall.O_RDONLY, 0) // without O_CLOEXEC (A4)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(leak)
	c := testutil.Throwaway(t, throwaway.Spec{Name: "web"})
	pid := c.Pid()
	for _, kind := range []string{"pid", "mnt", "uts", "ipc", "net", "cgroup", "user", "time"} {
		inside, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
		if err != nil {
			t.Fatal(err)
		}
		own, err := os.Readlink("/proc/self/ns/" + kind)
		if err != nil {
			t.Fatal(err)
		}
		shared := kind == "time" || kind == "user" && os.Geteuid() == 0
		if (inside == own) != shared {
			t.Errorf("%s namespace: %s, own is %s", kind, inside, own)
		}
	}
	for _, want := range [][2]string{
		{"comm", "init\n"}, {"cmdline", "init\x00"}, {"environ", "PATH=/bin\x00HOME=/root\x00"},
		{"root/etc/hostname", "web\n"},
	} {
		if got := read(t, pid, want[0]); got != want[1] {
			t.Errorf("%s: got %q", want[0], got)
		}
	}
	if got, want := childrenOf(t, pid), []string(nil); !slices.Equal(got, want) {
		t.Errorf("children: %v", got)
	}
	if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err != nil || exe != "/bin/outband" {
		t.Errorf("exe: %s, %v", exe, err)
	}
	// A copy: a shared file could be written through the link (A5).
	copied, err := os.Stat(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		t.Fatal(err)
	}
	if own, err := os.Stat("/proc/self/exe"); err != nil || os.SameFile(own, copied) {
		t.Errorf("the container has the test's own binary, %v", err)
	}
	if levels(t, pid) != levels(t, os.Getpid())+1 || status(t, pid, "NSsid") != status(t, pid, "NSpid") {
		t.Errorf("pid %s, session %s", status(t, pid, "NSpid"), status(t, pid, "NSsid"))
	}
	// Nothing of the host is in its hands; the runtime may have its own two.
	for fd := range 256 {
		target, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, fd))
		if err == nil && target != "/dev/null" && !strings.HasPrefix(target, "anon_inode:") {
			t.Errorf("descriptor %d: %s", fd, target)
		}
	}
	mounts := map[string]bool{}
	for _, root := range strings.Split(strings.TrimSpace(read(t, pid, "mountinfo")), "\n") {
		mounts[strings.Fields(root)[0]] = true
		where := strings.Fields(root)[4]
		if where != "/" && where != "/proc" && !strings.HasPrefix(where, "/dev/") {
			t.Errorf("mount of the host: %s", root)
		}
	}
	for fd := range 3 {
		_, rest, _ := strings.Cut(read(t, pid, fmt.Sprintf("fdinfo/%d", fd)), "mnt_id:")
		if id := strings.Fields(rest)[0]; !mounts[id] {
			t.Errorf("descriptor %d is of the host's mount %s", fd, id)
		}
	}
}
