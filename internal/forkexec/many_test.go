// SPDX-License-Identifier: Apache-2.0

package forkexec

import (
	"fmt"
	"os"
	"regexp"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/outband/outband/internal/sys"
)

// TestManySessions starts sessions from many goroutines under pressure on the
// garbage collector. Descriptors, threads, processes and cgroups are as before.
func TestManySessions(t *testing.T) {
	total := 2000
	if soak() {
		total = 10_000
	}
	x := newTarget(t)
	modern := sys.ReapsByPidfd()
	shared, _ := x.spec(false, "")
	shared.Paths, shared.Args = []string{"/bin/true"}, []string{"true"}
	x.many(t, 200, shared, modern) // the runtime opens what it keeps open
	before, threads := takeCensus(), threadCount(t)
	x.many(t, total, shared, modern)
	x.empty("many sessions")
	before.check(t)
	// Each goroutine may block in a system call, which takes a thread.
	if now := threadCount(t); now > max(threads, goroutines)+16 {
		t.Errorf("%d threads, were %d", now, threads)
	}
}

const goroutines = 64

// many runs n sessions from many goroutines: of one Spec shared by all, held
// together by shepherds, and every fourth in a cgroup and left something.
func (x *target) many(t *testing.T, n int, shared *Spec, modern bool) {
	t.Helper()
	stop := make(chan struct{})
	var pressure, workers sync.WaitGroup
	pressure.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_ = make([]byte, 1<<20)
				runtime.GC()
				runtime.Gosched()
			}
		}
	})
	var next, failures atomic.Int64
	for range goroutines {
		workers.Go(func() {
			for i := next.Add(1); i <= int64(n) && failures.Load() < 10; i = next.Add(1) {
				spec, release, code := shared, func() {}, 0
				if i%4 == 0 {
					spec, release = x.spec(true, "sleep 1000 & exit 2")
					code = 2
				}
				if status, err := x.run(spec, modern); err != nil || status != (Status{Code: code}) {
					t.Errorf("session %d: %+v, %v", i, status, err)
					failures.Add(1)
				}
				if g := spec.Groups; g != nil && g.exists() {
					t.Errorf("session %d: the cgroup is left", i)
					failures.Add(1)
				}
				release()
			}
		})
	}
	workers.Wait()
	close(stop)
	pressure.Wait()
}

func threadCount(t *testing.T) int {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	return len(tasks)
}

// TestMemoryOfSession has a caller with a large heap: the session does not copy
// it (ruling 1). (Mutant that lost: an image with a megabyte of data.)
func TestMemoryOfSession(t *testing.T) {
	const page, size = 4096, 512 << 20
	heap := make([]byte, size)
	for i := 0; i < len(heap); i += page {
		heap[i] = 1
	}
	each(t, func(t *testing.T, x *target, v variant) {
		spec, release := x.spec(v.grouped, "exec sleep 1000")
		defer release()
		s, err := start(t.Context(), *spec, v.modern)
		if err != nil {
			t.Fatal(err)
		}
		for _, kind := range []string{"Rss", "Private_Clean", "Private_Dirty"} {
			if kb := memory(t, s.Warden(), kind); kb >= 1024 {
				t.Errorf("the warden has %s %d kB", kind, kb)
			}
		}
		if rss := memory(t, s.Warden(), "Rss"); rss == 0 {
			t.Error("the warden has no memory at all")
		}
		if err := s.End(); err != nil {
			t.Error(err)
		}
		if _, err := wait(t, s); err != nil {
			t.Error(err)
		}
	})
	runtime.KeepAlive(heap)
	heap = nil
	debug.FreeOSMemory()
}

// memory is a line of /proc/PID/smaps_rollup, kB.
func memory(t *testing.T, pid int, kind string) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^` + kind + `:\s+(\d+) kB$`).FindSubmatch(text)
	if m == nil {
		t.Fatalf("no %s in\n%s", kind, text)
	}
	kb, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return kb
}
