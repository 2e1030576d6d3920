// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
)

func TestRank(t *testing.T) {
	tests := []struct {
		name          string
		a, b          rank
		before, equal bool
	}{
		{"outer level", rank{1, 9, 9}, rank{2, 1, 1}, true, false},
		{"inner level", rank{2, 1, 1}, rank{1, 9, 9}, false, false},
		{"first process", rank{1, 1, 9}, rank{1, 7, 1}, true, false},
		{"not the first", rank{1, 7, 1}, rank{1, 1, 9}, false, false},
		{"two containers", rank{1, 1, 1}, rank{1, 1, 9}, false, true},
		{"older", rank{0, 5, 1}, rank{0, 4, 9}, true, false},
		{"younger", rank{0, 4, 9}, rank{0, 5, 1}, false, false},
		{"as old", rank{0, 4, 9}, rank{0, 5, 9}, false, false},
	}
	for _, test := range tests {
		before, equal := test.a.before(test.b)
		if before != test.before || equal != test.equal {
			t.Errorf("%s: %v, %v", test.name, before, equal)
		}
	}
}

// pod starts two containers that share a net namespace, with each other and with
// the one that both are in.
func pod(t *testing.T) (outer, a, b *throwaway.Container) {
	t.Helper()
	member := throwaway.Spec{Namespaces: unix.CLONE_NEWPID | unix.CLONE_NEWNS, Tree: throwaway.TreeShared}
	outer = testutil.Throwaway(t, throwaway.Spec{
		Namespaces: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET, Tree: throwaway.TreeShared,
		Inner: []throwaway.Spec{member, member},
	})
	return outer, outer.Inner[0], outer.Inner[1]
}

// A namespace that two containers share names neither.
func TestAmbiguous(t *testing.T) {
	testutil.NoLeaks(t)
	proc := openProc(t)
	outer, a, b := pod(t)
	// The outermost has it; without that one there are two left.
	if got, err := resolve(t, proc, fmt.Sprintf("/proc/%d/ns/net", a.Pid()), ""); err != nil || got != outer.Pid() {
		t.Errorf("%d, %v, want %d", got, err, outer.Pid())
	}
	match := func(p *procfs.Process) (rank, bool, error) {
		r, err := rankOf(p)
		return r, p.PID == a.Pid() || p.PID == b.Pid(), err
	}
	p, err := best(context.Background(), proc, match)
	if !errors.Is(err, ErrAmbiguous) {
		t.Fatalf("%v, %v, want ErrAmbiguous", p, err)
	}
	for _, c := range []*throwaway.Container{a, b} {
		if want := fmt.Sprintf("pid:%d", c.Pid()); !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not offer %s", err, want)
		}
	}
}

// The lookup ends with its context, and lets go of what it held.
func TestBestStops(t *testing.T) {
	testutil.NoLeaks(t)
	ctx, cancel := context.WithCancel(context.Background())
	match := func(*procfs.Process) (rank, bool, error) {
		cancel()
		return rank{}, true, nil
	}
	if p, err := best(ctx, openProc(t), match); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v, want context.Canceled", p, err)
	}
}

// What cannot be read is passed over.
func TestBestPassesOver(t *testing.T) {
	testutil.NoLeaks(t)
	match := func(p *procfs.Process) (rank, bool, error) {
		if p.PID == os.Getpid() {
			return rank{}, true, nil
		}
		return rank{}, true, fs.ErrPermission
	}
	p, err := best(context.Background(), openProc(t), match)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if p.PID != os.Getpid() {
		t.Errorf("%d was found", p.PID)
	}
}

// A container that has ended is not found, by any name, whether its init was
// reaped or is a zombie.
func TestEnded(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	proc := openProc(t)
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	defer func() { _ = cmd.Process.Kill() }()
	pidns := fmt.Sprintf("pidns:%d", inode(t, cmd.Process.Pid, "pid"))
	if got, err := resolve(t, proc, pidns, ""); err != nil || got != cmd.Process.Pid {
		t.Fatalf("%d, %v while it runs", got, err)
	}
	_ = cmd.Process.Kill()
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	if got, err := resolve(t, proc, pidns, ""); !errors.Is(err, ErrNotFound) {
		t.Errorf("zombie: %d, %v, want ErrNotFound", got, err)
	}
	_ = cmd.Wait()
	for _, name := range []string{pidns, fmt.Sprintf("pid:%d", cmd.Process.Pid)} {
		if got, err := resolve(t, proc, name, ""); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %d, %v, want ErrNotFound", name, got, err)
		}
	}
}

// The pid namespace of an ancestor is refused before anything is touched: the
// caller is inside a container, its standard input is the file that leads out.
func TestBelow(t *testing.T) {
	testutil.NoLeaks(t)
	proc := openProc(t)
	for _, test := range []struct {
		name, file, want string
	}{
		{"the caller's parent", "/proc/self/ns/pid", ErrNotDescendant.Error() + ": /proc/self/fd/0"},
		{"a sibling", "/proc/%d/ns/pid", ErrNotDescendant.Error() + ": /proc/self/fd/0"},
		{"an ancestor's of another kind", "/proc/self/ns/uts", ErrNotFound.Error() + ": uts namespace /proc/self/fd/0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := test.file
			if strings.Contains(path, "%d") {
				path = fmt.Sprintf(path, testutil.Throwaway(t, throwaway.Spec{}).Pid())
			}
			in, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			if got := resolveInside(t, in, "/proc/self/fd/0"); got != test.want {
				t.Errorf("it says %q, want %q", got, test.want)
			}
		})
	}
	if got, err := resolve(t, proc, "/proc/self/ns/pid", ""); errors.Is(err, ErrNotDescendant) {
		t.Errorf("one's own: %d, %v", got, err)
	}
}

// resolveInside is what Resolve says of a name in a container.
func resolveInside(t *testing.T, in *os.File, name string) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	testutil.Throwaway(t, throwaway.Spec{Args: []string{"/bin/outband", resolveArg, name}, Stdin: in, Stdout: w})
	w.Close()
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func TestByCgroup(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	proc := openProc(t)
	fence := testutil.FencedCgroup(t, 100, 256<<20)
	dir := fence.Dirs[0]
	c := testutil.Throwaway(t, throwaway.Spec{Cgroups: []string{dir}, Workers: [][]string{{"sleep", "infinity"}}})
	path := groupOf(t, proc, c.Pid(), filepath.Base(dir))
	for _, name := range []string{path, path + "/"} {
		if got, err := resolve(t, proc, "cgroup:"+name, ""); err != nil || got != c.Pid() {
			t.Errorf("%s: %d, %v, want %d", name, got, err, c.Pid())
		}
	}
	if got, err := resolve(t, proc, "cgroup:"+path[:len(path)-1], ""); !errors.Is(err, ErrNotFound) {
		t.Errorf("part of a name: %d, %v, want ErrNotFound", got, err)
	}
	other := testutil.Throwaway(t, throwaway.Spec{Cgroups: []string{dir}})
	if got, err := resolve(t, proc, "cgroup:"+path, ""); !errors.Is(err, ErrAmbiguous) {
		t.Errorf("with another one, %d: %d, %v, want ErrAmbiguous", other.Pid(), got, err)
	}
}

// groupOf is the path of a process's cgroup that has this name.
func groupOf(t *testing.T, proc *procfs.FS, pid int, name string) string {
	t.Helper()
	dir, err := proc.Process(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	groups, err := dir.Groups()
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range groups {
		if filepath.Base(g.Path) == name {
			return g.Path
		}
	}
	t.Fatalf("%v has no group %s", groups, name)
	return ""
}
