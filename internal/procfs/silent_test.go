// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/outband/outband/internal/testutil"
)

// A27: a process that does not tell its arguments is there all the same, and so
// are all others. It is not asked again while somebody waits for it: no look at
// all processes costs another thread.
func TestScanSilent(t *testing.T) {
	testutil.NoLeaks(t)
	fs := open(t)
	pids := []int{testutil.Mute(t), testutil.Mute(t), testutil.Mute(t)}
	check := func(all map[int]Task) {
		t.Helper()
		for _, pid := range pids {
			if mute := all[pid]; !mute.Silent || mute.Cmdline != "" || mute.Parent != os.Getpid() || !slices.Equal(mute.NSpid, []int{pid}) {
				t.Errorf("%+v", mute)
			}
		}
		if self := all[os.Getpid()]; self.Silent || self.Cmdline == "" {
			t.Errorf("the test itself: %+v", self)
		}
	}
	check(scanAll(t, fs))
	if waiting := silent.count(); waiting != len(pids) {
		t.Errorf("%d are waited for", waiting)
	}
	stuck := threadsWaiting(t)
	for range 20 {
		check(scanAll(t, fs))
	}
	if now := threadsWaiting(t); now > stuck || stuck != len(pids) {
		t.Errorf("%d threads wait for %d processes, then %d", stuck, len(pids), now)
	}
	again := fs.Rescan(t.Context(), false, os.Getpid(), pids[0])
	if len(again) != 2 {
		t.Errorf("%+v", again)
	}
}

// Where more do not answer than may be waited for, the others are there all the same,
// in one look and in the next. (Go keeps the threads that waited.)
func TestScanManySilent(t *testing.T) {
	fs := open(t)
	var pids []int
	for range maxLate + 8 {
		pids = append(pids, testutil.Mute(t))
	}
	for look := range 3 {
		all := scanAll(t, fs)
		for _, pid := range append(pids, os.Getpid(), 1) {
			if _, ok := all[pid]; !ok {
				t.Errorf("look %d: %d is missing", look, pid)
			}
		}
		if stuck := threadsWaiting(t); stuck > len(pids) {
			t.Errorf("look %d: %d threads wait", look, stuck)
		}
	}
	if all := scanAll(t, fs); all[os.Getpid()].Silent {
		t.Error("who answers is not asked any more")
	}
}

// threadsWaiting counts the test's own threads that wait for the kernel.
func threadsWaiting(t *testing.T) (n int) {
	t.Helper()
	files, err := filepath.Glob("/proc/self/task/*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		stat, _ := os.ReadFile(file) // it may be gone
		if task, err := ParseTask(stat); err == nil && task.State == 'D' {
			n++
		}
	}
	return n
}

// Where too many do not answer the scan ends too, and says how many are missing.
func TestScanGivesUp(t *testing.T) {
	fs := open(t)
	s, err := newScan(fs, []int{os.Getpid(), os.Getppid()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.release()
	s.next.Store(int64(len(s.slots))) // nobody reads them
	w := &worker{}
	s.workers = []*worker{w}
	at := time.Now()
	for _, step := range []struct {
		after     time.Duration
		late      bool
		left, all int
	}{
		{0, false, 0, 1}, {lateTime / 2, false, 0, 1}, {lateTime, true, 0, 2}, {lateTime, true, 0, 2}, {silentTime, true, 1, 1},
	} {
		w.at.Store(1)
		s.watch(at.Add(step.after))
		if w.late.Load() != step.late || s.left != step.left || len(s.workers) != step.all {
			t.Errorf("after %v: late %v, %d were left, %d work", step.after, w.late.Load(), s.left, len(s.workers))
		}
	}
	s.stop()
	if tasks, missing := s.told(); len(tasks) != 0 || missing != 2 {
		t.Errorf("%v, %d missing", tasks, missing)
	}
}
