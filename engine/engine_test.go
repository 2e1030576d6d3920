// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
)

// resolveArg makes the test binary tell what Resolve says of its argument.
const resolveArg = "__resolve"

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == resolveArg {
		tellResolve(os.Args[2])
		os.Exit(0)
	}
	testutil.Main(m)
}

func tellResolve(name string) {
	proc, err := procfs.Open()
	if err != nil {
		fmt.Println(err)
		return
	}
	p, err := Resolve(context.Background(), proc, name, "")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(p.PID)
}

// openProc opens /proc for a test.
func openProc(t *testing.T) *procfs.FS {
	t.Helper()
	proc, err := procfs.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { proc.Close() })
	return proc
}

// resolve is the number that name leads to, or an error.
func resolve(t *testing.T, proc *procfs.FS, name, runDir string) (int, error) {
	t.Helper()
	p, err := Resolve(context.Background(), proc, name, runDir)
	if err != nil {
		return 0, err
	}
	defer p.Close()
	if err := p.Alive(); err != nil {
		t.Errorf("%s: process %d: %v", name, p.PID, err)
	}
	return p.PID, nil
}

// Names that are nobody's are refused before anything is looked up, and what is
// wrong with them is said without their own control characters (A22).
func TestNamesThatAreNone(t *testing.T) {
	testutil.NoLeaks(t)
	proc := openProc(t)
	tests := []struct {
		name string
		want error
	}{
		{"", ErrInvalid}, {".", ErrInvalid}, {"..", ErrInvalid}, {"../x", ErrInvalid}, {"./x", ErrInvalid}, {"a/../b", ErrInvalid}, {"a//b", ErrInvalid}, {"a/", ErrInvalid}, {"a/b", ErrNotFound}, {"-x", ErrInvalid},
		{"--", ErrInvalid}, {"-oProxyCommand=x", ErrInvalid}, {"$(id)", ErrInvalid}, {"`id`", ErrInvalid}, {"a b", ErrInvalid},
		{"a;b", ErrInvalid}, {"a\nb", ErrInvalid}, {"a\x00b", ErrInvalid}, {"\x1b[2J", ErrInvalid}, {"a\xffb", ErrInvalid},
		{"a\x7f", ErrInvalid}, {strings.Repeat("a", 256), ErrInvalid}, {strings.Repeat("…", 100), ErrInvalid}, {"*", ErrInvalid}, {"a=b", ErrInvalid},
		{"docker:web", ErrInvalid}, {":", ErrInvalid}, {":1", ErrInvalid}, {"PID:1", ErrInvalid},
		{"pid:", ErrInvalid}, {"pid:0", ErrInvalid}, {"pid:-1", ErrInvalid}, {"pid:+1", ErrInvalid}, {"pid: 1", ErrInvalid},
		{"pid:1x", ErrInvalid}, {"pid:99999999999999999999", ErrInvalid}, {"0", ErrInvalid}, {"٣", ErrNotFound},
		{"pid:$(id)", ErrInvalid}, {"pid:1\n2", ErrInvalid},
		{"pidns:", ErrInvalid}, {"pidns:x", ErrInvalid}, {"pidns:-1", ErrInvalid}, {"pidns:99999999999999999999", ErrInvalid},
		{"cgroup:", ErrInvalid}, {"cgroup:a", ErrInvalid}, {"cgroup:/..", ErrInvalid}, {"cgroup:/a/../b", ErrInvalid},
		{"web", ErrNotFound}, {"web.1", ErrNotFound}, {strings.Repeat("a", 255), ErrNotFound}, {"demo:web", ErrNotFound},
		{"demo:../x", ErrNotFound}, {"pidns:0", ErrNotFound}, {"pidns:18446744073709551615", ErrNotFound},
		{"cgroup:/no such group", ErrNotFound}, {"1073741824", ErrNotFound}, {"pid:1073741824", ErrNotFound},
		{"/no/such/file", ErrNotFound}, {"/proc/1073741824/ns/pid", ErrNotFound}, {"/etc/passwd", ErrInvalid}, {"/dev/null", ErrInvalid}, {"/", ErrInvalid}, {"/" + strings.Repeat("a", 5000), unix.ENAMETOOLONG}, {"/\x1b[2J", ErrInvalid},
	}
	for _, test := range tests {
		short := test.name[:min(len(test.name), 20)]
		pid, err := resolve(t, proc, test.name, t.TempDir())
		if !errors.Is(err, test.want) {
			t.Errorf("%q: %d, %v, want %v", short, pid, err, test.want)
			continue
		}
		if errors.Is(test.want, ErrInvalid) && (len(err.Error()) > 500 || strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' })) {
			t.Errorf("%q: its error is %q", short, err)
		}
	}
}

// FuzzCheck: a name that is let through is safe to print and to use, whatever
// reads it further on.
func FuzzCheck(f *testing.F) {
	for _, seed := range []string{"web", "-x", "a\nb", "pid:1", "/proc/1/ns/pid", "a\xff", "..", "cgroup:/a b", "…"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		err := check(name)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("%v is not ErrInvalid", err)
			}
			return
		}
		switch {
		case name == "", name[0] == '-', strings.ContainsAny(name, "\x00\n\r\x1b"), !strings.HasPrefix(name, "/") && len(name) > maxName:
			t.Errorf("%q was let through", name)
		case !strings.ContainsAny(name, ":/") && strings.ContainsAny(name, " $`;|&<>*?\"'\\"):
			t.Errorf("%q means something to a shell", name)
		case !strings.HasPrefix(name, "/") && !strings.Contains(name, ":") && path.Clean(name) != name:
			t.Errorf("%q is a path", name)
		}
	})
}

// FuzzResolve looks for names that lead anywhere by chance: nothing but the
// four documented forms does, and none of them panics.
func FuzzResolve(f *testing.F) {
	for _, seed := range []string{"web", "pid:0", "pidns:0", "cgroup:/", "demo:x", "/nothing", "x:y"} {
		f.Add(seed)
	}
	proc, err := procfs.Open()
	if err != nil {
		f.Fatal(err)
	}
	dir := f.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // so that no list of processes is read
	f.Fuzz(func(t *testing.T, name string) {
		p, err := Resolve(ctx, proc, name, dir)
		if err != nil {
			return
		}
		defer p.Close()
		if number := strings.TrimPrefix(name, "pid:"); !allDigits(number) {
			t.Errorf("%q led to process %d", name, p.PID)
		}
	})
}

// Each form of a name leads to the container's init, from each process in it.
func TestResolve(t *testing.T) {
	testutil.NoLeaks(t)
	proc := openProc(t)
	c := testutil.Throwaway(t, throwaway.Spec{Depth: 2, Workers: [][]string{{"sleep", "infinity"}}})
	inner := c.Leaf()
	worker := childOf(t, proc, inner.Pid())
	link := func(pid int, kind string) string { return fmt.Sprintf("/proc/%d/ns/%s", pid, kind) }
	tests := []struct {
		name string
		want int
	}{
		{fmt.Sprint(c.Pid()), c.Pid()}, {fmt.Sprintf("pid:%d", c.Pid()), c.Pid()}, {fmt.Sprintf("pid:%d", inner.Pid()), inner.Pid()},
		{fmt.Sprintf("pid:%d", worker), inner.Pid()}, {fmt.Sprintf("pid:%09d", worker), inner.Pid()},
		{fmt.Sprintf("pidns:%d", inode(t, c.Pid(), "pid")), c.Pid()}, {fmt.Sprintf("pidns:%d", inode(t, inner.Pid(), "pid")), inner.Pid()},
		{link(c.Pid(), "pid"), c.Pid()}, {link(worker, "pid"), inner.Pid()},
		{link(inner.Pid(), "mnt"), inner.Pid()}, // one of its own
		{link(inner.Pid(), "uts"), c.Pid()},     // one that both share: the outermost has it
	}
	for _, test := range tests {
		if got, err := resolve(t, proc, test.name, ""); err != nil || got != test.want {
			t.Errorf("%s: %d, %v, want %d", test.name, got, err, test.want)
		}
	}
}

// A process of the caller's own pid namespace is its own target: a container
// may have other namespaces than that.
func TestResolveInOwnPidNamespace(t *testing.T) {
	proc := openProc(t)
	c := testutil.Throwaway(t, throwaway.Spec{Namespaces: unix.CLONE_NEWUTS, Tree: throwaway.TreeHost})
	for _, name := range []string{fmt.Sprint(c.Pid()), fmt.Sprintf("/proc/%d/ns/uts", c.Pid())} {
		if got, err := resolve(t, proc, name, ""); err != nil || got != c.Pid() {
			t.Errorf("%s: %d, %v, want %d", name, got, err, c.Pid())
		}
	}
}

// childOf is a process whose parent is pid.
func childOf(t *testing.T, proc *procfs.FS, pid int) int {
	t.Helper()
	pids, err := proc.Pids()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pids {
		dir, err := proc.Process(p)
		if err != nil {
			continue
		}
		status, err := dir.Status()
		dir.Close()
		if err == nil && status.PPid == pid {
			return p
		}
	}
	t.Fatalf("%d has no child", pid)
	return 0
}

func inode(t *testing.T, pid int, kind string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/ns/%s", pid, kind), &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}
