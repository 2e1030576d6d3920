// SPDX-License-Identifier: Apache-2.0

package confine

import (
	"errors"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
)

// TestReadLimits compares both ways to read limits, of a process that has
// others than the reader. (Mutant that lost: prlimit of pid 0.)
func TestReadLimits(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	core := unix.Rlimit{Cur: 10, Max: 20}
	c := testutil.Throwaway(t, throwaway.Spec{Rlimits: map[int]unix.Rlimit{unix.RLIMIT_CORE: core}})
	dir := dirOf(t, c.Pid())
	asked, err := readLimits(dir, c.Pid(), unix.Prlimit)
	read, ferr := fileLimits(dir)
	if err != nil || ferr != nil || asked != read || asked[unix.RLIMIT_CORE] != core {
		t.Errorf("asked %v, %v\nread  %v, %v", asked, err, read, ferr)
	}
}

// TestReadLimitsWithoutPrivilege has a reader who may not ask: it reads. Any
// other refusal is an error.
func TestReadLimitsWithoutPrivilege(t *testing.T) {
	dir := dirOf(t, os.Getpid())
	want, err := fileLimits(dir)
	if err != nil {
		t.Fatal(err)
	}
	for refused, fails := range map[unix.Errno]bool{unix.EPERM: false, unix.ESRCH: true} {
		got, err := readLimits(dir, os.Getpid(), func(_, resource int, _, get *unix.Rlimit) error {
			*get = unix.Rlimit{Cur: 1, Max: 1}
			if resource == unix.RLIMIT_NOFILE {
				return refused
			}
			return nil
		})
		if fails && !errors.Is(err, refused) || !fails && (err != nil || got != want) {
			t.Errorf("%v: %v, %v", refused, got, err)
		}
	}
}

// TestReadOwn compares what a thread is told of itself with what its files say,
// once it differs from what is usual. (Mutants that lost: each of the four
// answers replaced by 0.)
func TestReadOwn(t *testing.T) {
	testutil.RequireRoot(t)
	done := make(chan struct{})
	go func() { // the thread is not to be used again
		defer close(done)
		runtime.LockOSThread()
		const slack, randomize = 123456, 0x0040000
		for _, err := range []error{
			unix.Prctl(unix.PR_SET_TIMERSLACK, slack, 0, 0, 0), unix.Setpriority(unix.PRIO_PROCESS, 0, 3),
			unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_BATCH, Nice: 3}, 0),
			setPersonality(randomize),
		} {
			if err != nil {
				t.Error(err)
			}
		}
		compareOwn(t)
	}()
	<-done
}

func compareOwn(t *testing.T) {
	fs, err := procfs.Open()
	if err != nil {
		t.Error(err)
		return
	}
	defer fs.Close()
	dir, err := fs.Self()
	if err != nil {
		t.Error(err)
		return
	}
	defer dir.Close()
	status, err1 := dir.Status()
	stat, err2 := dir.ReadFile("stat")
	want, err3 := Read(dir, status, stat)
	got, err4 := ReadOwn(dir, status)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Error(err)
	}
	for _, d := range Compare(want, got) {
		t.Errorf("%+v", d)
	}
	if s := got.Scheduling; s.Nice != 3 || s.TimerSlack != 123456 || s.Personality != 0x0040000 || s.Policy != unix.SCHED_BATCH {
		t.Errorf("%+v", s)
	}
}

// setPersonality changes that of the calling thread.
func setPersonality(p uintptr) error {
	if _, _, errno := unix.RawSyscall(unix.SYS_PERSONALITY, p, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

func dirOf(t *testing.T, pid int) *procfs.Dir {
	t.Helper()
	fs, err := procfs.Open()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := fs.Process(pid)
	fs.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return dir
}
