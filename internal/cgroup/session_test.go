// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/sys"
	"github.com/outband/outband/internal/testutil"
)

func itoa(n int) string { return strconv.Itoa(n) }

// sleeper starts a process for a test.
func sleeper(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end(cmd) })
	return cmd
}

// end ends a sleeper, which may have ended.
func end(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// ended tells whether a process is dead; it is not reaped.
func ended(t *testing.T, cmd *exec.Cmd) bool {
	t.Helper()
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, &info, unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, nil); err != nil {
		t.Fatal(err)
	}
	return info.Signo != 0
}

// dies tells whether a process dies: one that has left its group, so that it
// can be removed, is not a zombie yet.
func dies(t *testing.T, cmd *exec.Cmd) bool {
	t.Helper()
	for until := time.Now().Add(endBudget); !ended(t, cmd); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			return false
		}
	}
	return true
}

// unifiedOf is the group of a process.
func unifiedOf(t *testing.T, pid int) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	gs, err := procfs.ParseGroups(b)
	if err != nil {
		t.Fatal(err)
	}
	return Unified(gs)
}

// put puts a process into a session.
func put(t *testing.T, s *Session, pid int) {
	t.Helper()
	f, err := openat(s.Dir, "cgroup.procs", unix.O_WRONLY)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(itoa(pid)); err != nil {
		t.Fatal(err)
	}
}

// session makes a session for a test.
func session(t *testing.T, tree *Tree, path string, leave bool) *Session {
	t.Helper()
	s, err := tree.NewSession(path, leave)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func exists(t *testing.T, tree *Tree, path, name string) bool {
	t.Helper()
	_, err := os.Stat(filepath.Join(tree.root.Name(), path, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

func TestNewSession(t *testing.T) {
	testutil.NoLeaks(t)
	tree, path := group(t)
	names := map[string]bool{}
	for _, leave := range []bool{false, true} {
		for range 3 {
			s := session(t, tree, path, leave)
			if !strings.HasPrefix(s.Name, Prefix) || strings.HasPrefix(s.Name, leftPrefix) != leave || names[s.Name] {
				t.Errorf("%s, leave %v", s.Name, leave)
			}
			names[s.Name] = true
			if !exists(t, tree, path, s.Name) {
				t.Errorf("%s was not made", s.Name)
			}
			if err := s.End(); err != nil || exists(t, tree, path, s.Name) {
				t.Errorf("%s was not removed: %v", s.Name, err)
			}
			s.Release()
		}
	}
}

func TestNewSessionWhereThereIsNone(t *testing.T) {
	testutil.NoLeaks(t)
	tree, path := group(t)
	if s, err := tree.NewSession(path+"/no", false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, %v, want fs.ErrNotExist", s, err)
	}
	// Where no child may be made, the error is the kernel's.
	file := filepath.Join(tree.root.Name(), path, "cgroup.max.descendants")
	if err := os.WriteFile(file, []byte("0"), 0); err != nil {
		t.Fatal(err)
	}
	if s, err := tree.NewSession(path, false); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("%v, %v, want EAGAIN", s, err)
	}
}

// The lock says that the session lives: nobody else gets it, and it is gone
// with the last descriptor.
func TestSessionIsLocked(t *testing.T) {
	testutil.NoLeaks(t)
	tree, path := group(t)
	s := session(t, tree, path, false)
	defer s.Release()
	again, err := tree.open(path + "/" + s.Name)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if err := lock(again); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("a second lock: %v, want EWOULDBLOCK", err)
	}
	s.Dir.Close()
	if err := lock(again); err != nil {
		t.Errorf("when the session has gone: %v", err)
	}
	if err := unix.Rmdir(filepath.Join(tree.root.Name(), path, s.Name)); err != nil {
		t.Error(err)
	}
}

// End ends what is in a group, orphans of orphans too.
func TestEnd(t *testing.T) {
	testutil.RequireKernel(t, 5, 14, "cgroup.kill")
	testutil.NoLeaks(t)
	tree, path := group(t)
	s := session(t, tree, path, false)
	defer s.Release()
	inside := []*exec.Cmd{sleeper(t), sleeper(t), sleeper(t)}
	outside := sleeper(t)
	for _, cmd := range inside {
		put(t, s, cmd.Process.Pid)
	}
	if err := s.End(); err != nil {
		t.Fatal(err)
	}
	for _, cmd := range inside {
		if !dies(t, cmd) {
			t.Errorf("%d lives", cmd.Process.Pid)
		}
	}
	if ended(t, outside) {
		t.Error("a process outside was ended")
	}
	if err := s.End(); err != nil {
		t.Errorf("a second time: %v", err)
	}
}

// A group that has groups in it is not removed, and that is told.
func TestEndOfWhatStays(t *testing.T) {
	testutil.RequireKernel(t, 5, 14, "cgroup.kill")
	testutil.NoLeaks(t)
	tree, path := group(t)
	s := session(t, tree, path, false)
	defer s.Release()
	child := filepath.Join(tree.root.Name(), path, s.Name, "child")
	if err := os.Mkdir(child, 0o755); err != nil {
		t.Fatal(err)
	}
	for what, end := range map[string]func() error{"End": s.End, "GiveUp": s.GiveUp} {
		if err := end(); !errors.Is(err, unix.EBUSY) {
			t.Errorf("%s: %v, want EBUSY", what, err)
		}
	}
	if err := os.Remove(child); err != nil {
		t.Fatal(err)
	}
	if err := s.End(); err != nil {
		t.Error(err)
	}
}

// A sweep ends the sessions without a warden, and no others.
func TestSweep(t *testing.T) {
	testutil.RequireKernel(t, 5, 14, "cgroup.kill")
	testutil.NoLeaks(t)
	tree, path := group(t)
	tests := []struct {
		name                string
		leave, locked, busy bool
		swept, killed       bool
	}{
		{"lives", false, true, true, false, false},
		{"lives, empty", false, true, false, false, false},
		{"warden lost", false, false, true, true, true},
		{"warden lost, empty", false, false, false, true, false},
		{"left on purpose", true, false, true, false, false},
		{"left on purpose, empty", true, false, false, true, false},
		{"left on purpose, warden lives", true, true, false, false, false},
	}
	want := 0
	var sessions []*Session
	var inside []*exec.Cmd
	for _, test := range tests {
		s, cmd := session(t, tree, path, test.leave), sleeper(t)
		if test.busy {
			put(t, s, cmd.Process.Pid)
		}
		if !test.locked {
			s.Dir.Close()
		}
		if test.swept {
			want++
		}
		sessions, inside = append(sessions, s), append(inside, cmd)
	}
	stranger := filepath.Join(tree.root.Name(), path, "stranger")
	if err := os.Mkdir(stranger, 0o755); err != nil {
		t.Fatal(err)
	}
	if got := tree.Sweep(path); got != want {
		t.Errorf("%d were swept, want %d", got, want)
	}
	for i, test := range tests {
		if exists(t, tree, path, sessions[i].Name) == test.swept || test.killed && !dies(t, inside[i]) || !test.killed && ended(t, inside[i]) {
			t.Errorf("%s: exists %v, ended %v", test.name, exists(t, tree, path, sessions[i].Name), ended(t, inside[i]))
		}
		end(inside[i])
		_ = unix.Rmdir(filepath.Join(tree.root.Name(), path, sessions[i].Name)) // where it was not swept
		sessions[i].Release()
	}
	if err := os.Remove(stranger); err != nil {
		t.Errorf("a group of somebody else: %v", err)
	}
	if got := tree.Sweep(path + "/no"); got != 0 {
		t.Errorf("%d were swept where there is nothing", got)
	}
}

// Sweeps and new sessions at the same time take nothing from each other.
func TestSweepRaces(t *testing.T) {
	testutil.NoLeaks(t)
	tree, path := group(t)
	done := make(chan struct{})
	swept := make(chan int)
	go func() {
		n := 0
		for {
			select {
			case <-done:
				swept <- n
				return
			default:
				n += tree.Sweep(path)
			}
		}
	}()
	for range 200 {
		s, err := tree.NewSession(path, false)
		if err != nil {
			continue // three sweeps came between: told, and the session is kept together otherwise
		}
		var st unix.Stat_t
		var serr error
		err = sys.Control(s.Dir, func(fd int) { serr = unix.Fstatat(fd, "cgroup.procs", &st, 0) })
		if err = errors.Join(err, serr); err != nil {
			t.Errorf("%s was swept while it was locked: %v", s.Name, err)
		}
		if err := s.End(); err != nil {
			t.Error(err)
		}
		s.Release()
	}
	close(done)
	<-swept
	tree.Sweep(path) // what a sweep has left of a group that was about to be locked
}

// SweepDir takes nothing but a session's group in the unified hierarchy.
func TestSweepDir(t *testing.T) {
	testutil.NoLeaks(t)
	tree, path := group(t)
	lost, lives := session(t, tree, path, false), session(t, tree, path, false)
	defer lost.Release()
	defer lives.Release()
	lost.Dir.Close()
	other := filepath.Join(tree.root.Name(), path, "outband-agent.service")
	elsewhere := filepath.Join(t.TempDir(), Prefix+"0123456789")
	if err := errors.Join(os.Mkdir(other, 0o755), os.Mkdir(elsewhere, 0o755)); err != nil {
		t.Fatal(err)
	}
	dir := func(s *Session) string { return filepath.Join(tree.root.Name(), path, s.Name) }
	for _, d := range []string{dir(lost), dir(lost), dir(lives), other, elsewhere, "/", "", Prefix} {
		SweepDir(d)
	}
	for d, want := range map[string]bool{dir(lost): false, dir(lives): true, other: true, elsewhere: true} {
		if _, err := os.Stat(d); (err == nil) != want {
			t.Errorf("%s: %v", d, err)
		}
	}
	if err := errors.Join(lives.End(), os.Remove(other)); err != nil {
		t.Error(err)
	}
}
