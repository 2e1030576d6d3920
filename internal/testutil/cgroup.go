// SPDX-License-Identifier: Apache-2.0

package testutil

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/sys"
)

// groupMark is in the name of every cgroup of tests and of sessions. Those of
// sessions start with it: were the tests' to do so too, a sweep after lost
// sessions would take them for such.
const (
	groupMark   = "outband-"
	groupPrefix = "test-" + groupMark
)

// fenceTimeout bounds the end of what is in a Fence.
const fenceTimeout = 5 * settleTime

// hierarchy is a mounted cgroup file system.
type hierarchy struct {
	dir     string
	unified bool
	options []string // of v1: its controllers, or name=…
}

// hierarchies lists them from mountinfo (proc_pid_mountinfo(5)).
func hierarchies() []hierarchy {
	var all []hierarchy
	for _, line := range readLines("/proc/self/mountinfo") {
		mount, super, ok := strings.Cut(line, " - ")
		where, kind := strings.Fields(mount), strings.Fields(super)
		if !ok || len(where) < 5 || len(kind) < 3 || !strings.HasPrefix(kind[0], "cgroup") {
			continue
		}
		all = append(all, hierarchy{where[4], kind[0] == "cgroup2", strings.Split(kind[2], ",")})
	}
	return all
}

// cgroups lists those of tests and sessions in all hierarchies, but for those of
// other test processes that are alive. Groups of other names come and go on
// every machine, services' for one.
func cgroups() []string {
	var found []string
	for _, h := range hierarchies() {
		_ = filepath.WalkDir(h.dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.IsDir() || path == h.dir {
				return nil // what is gone meanwhile was not left
			}
			if othersLive(entry.Name()) {
				return fs.SkipDir
			}
			if strings.Contains(entry.Name(), groupMark) {
				found = append(found, path)
			}
			return nil
		})
	}
	return found
}

// locked tells whether a change is a cgroup that somebody holds a lock on: that
// is a live session's warden, which is a leaked child if it is the test's. It
// has to be tried, as /proc/locks has none that was inherited from a process
// that has ended; for a moment that gets in the way of whoever tries too.
func locked(change string) bool {
	path, ok := strings.CutPrefix(change, "+ cgroup ")
	if !ok {
		return false
	}
	dir, err := os.Open(path)
	if err != nil {
		return false
	}
	defer dir.Close()
	err = unix.Flock(int(dir.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	return errors.Is(err, unix.EWOULDBLOCK)
}

// othersLive tells whether a cgroup is named after another process that lives.
func othersLive(name string) bool {
	rest, ok := strings.CutPrefix(name, groupPrefix)
	number, _, dash := strings.Cut(rest, "-")
	pid, err := strconv.Atoi(number)
	if !ok || !dash || err != nil || pid == os.Getpid() {
		return false
	}
	_, err = os.Stat("/proc/" + number)
	return err == nil
}

// Fence is a cgroup that bounds what is put into it.
type Fence struct {
	// Dirs are its directories, one for each hierarchy that it needs.
	Dirs []string

	added, killed []int
}

// FencedCgroup makes a cgroup for tests that exhaust something: at most pidsMax
// tasks and memMax bytes. At the end of the test all that is in it is killed, and
// reaped if the test has adopted it: make the fence before what goes into it.
func FencedCgroup(t testing.TB, pidsMax, memMax int64) *Fence {
	t.Helper()
	RequireRoot(t)
	f := &Fence{}
	t.Cleanup(func() {
		if err := f.end(); err != nil {
			t.Errorf("end fenced cgroup: %v", err)
		}
	})
	f.limit(t, "pids", map[string]int64{"pids.max": pidsMax}, map[string]int64{"pids.max": pidsMax})
	f.limit(t, "memory", map[string]int64{"memory.limit_in_bytes": memMax},
		map[string]int64{"memory.max": memMax, "memory.swap.max": 0})
	return f
}

// limit bounds one controller: in its v1 hierarchy, where it has one, else in
// the v2 one, whose root must have it enabled for its children already.
func (f *Fence) limit(t testing.TB, controller string, v1, v2 map[string]int64) {
	t.Helper()
	all := hierarchies()
	i := slices.IndexFunc(all, func(h hierarchy) bool { return slices.Contains(h.options, controller) })
	files := v1
	if i < 0 {
		i = slices.IndexFunc(all, func(h hierarchy) bool { return h.unified })
		files = v2
	}
	if i < 0 {
		missing(t, "needs a cgroup hierarchy with "+controller)
		return
	}
	dir, err := f.dir(all[i].dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range files {
		err := os.WriteFile(filepath.Join(dir, name), []byte(strconv.FormatInt(value, 10)), 0)
		switch {
		case name == "memory.swap.max" && errors.Is(err, fs.ErrNotExist): // no swap accounting
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
			missing(t, fmt.Sprintf("needs the %s controller enabled at %s", controller, all[i].dir))
		case err != nil:
			t.Fatal(err)
		}
	}
}

// dir is the fence's directory in the hierarchy at root, made if need be.
func (f *Fence) dir(root string) (string, error) {
	for _, dir := range f.Dirs {
		if filepath.Dir(dir) == root {
			return dir, nil
		}
	}
	// At the hierarchy's root, since limits of the test's own cgroup would count
	// along, and in v2 a group with processes cannot have limited children.
	dir, err := os.MkdirTemp(root, groupPrefix+strconv.Itoa(os.Getpid())+"-fence-")
	if err == nil {
		f.Dirs = append(f.Dirs, dir)
	}
	return dir, err
}

// Add puts a process in, along with what it forks from now on. The number must
// be that of a child that is not reaped. The test process itself is refused,
// since it would be killed at the end.
func (f *Fence) Add(pid int) error {
	if pid <= 0 || pid == os.Getpid() {
		return fmt.Errorf("process %d cannot be fenced", pid)
	}
	f.added = append(f.added, pid)
	for _, dir := range f.Dirs {
		err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
		if err != nil {
			return err
		}
	}
	return nil
}

// end kills all that is inside and removes the cgroup.
func (f *Fence) end() error {
	// Not cgroup.kill, which is of v2 alone (5.14).
	for _, dir := range f.Dirs {
		// No fork succeeds from here on, so the loop gets to an end.
		_ = os.WriteFile(filepath.Join(dir, "pids.max"), []byte("0"), 0)
	}
	var failed error
	for _, dir := range f.Dirs {
		var err error
		waitFor(fenceTimeout, func() bool { err = f.remove(dir); return err == nil })
		failed = errors.Join(failed, err)
	}
	for _, pid := range f.killed {
		if slices.Contains(f.added, pid) {
			continue // whoever started it has a handle
		}
		waitFor(settleTime, func() bool {
			got, err := unix.Wait4(pid, nil, unix.WNOHANG, nil)
			return got == pid || errors.Is(err, unix.ECHILD)
		})
	}
	return failed
}

// remove kills what is in a cgroup and those below it and removes them; EBUSY
// while something is still dying.
func (f *Fence) remove(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, entry := range entries {
		if entry.IsDir() {
			err = errors.Join(err, f.remove(filepath.Join(dir, entry.Name())))
		}
	}
	f.kill(dir)
	return errors.Join(err, os.Remove(dir))
}

// kill sends SIGKILL to each process of a cgroup: the number may have passed to
// another process between the reading and the opening, so membership is read
// again once there is a pidfd.
func (f *Fence) kill(dir string) {
	for _, pid := range members(dir) {
		pidfd, err := sys.OpenPid(pid)
		if err != nil {
			continue // gone
		}
		if pid != os.Getpid() && slices.Contains(members(dir), pid) {
			_ = sys.Signal(pidfd, unix.SIGKILL, false)
			f.killed = append(f.killed, pid)
		}
		pidfd.Close()
	}
}

// members reads cgroup.procs. A 0 stands for a process that is not visible from
// this pid namespace.
func members(dir string) []int {
	var pids []int
	for _, line := range readLines(filepath.Join(dir, "cgroup.procs")) {
		if pid, err := strconv.Atoi(line); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}
