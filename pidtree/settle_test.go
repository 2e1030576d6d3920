// SPDX-License-Identifier: Apache-2.0

package pidtree

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/outband/outband/internal/procfs"
)

// world is a machine on which processes come and go while they are read.
type world struct {
	tasks map[int]procfs.Task
	now   uint64
	rng   *rand.Rand
	reads int
}

// churn lets some processes end, whose children go to number 1, and others
// begin, with numbers that were used before among them.
func (w *world) churn(n int) {
	for range n {
		w.now++
		pids := make([]int, 0, len(w.tasks))
		for pid := range w.tasks {
			pids = append(pids, pid)
		}
		slices.Sort(pids)
		if pid := pids[w.rng.IntN(len(pids))]; pid != 1 && w.rng.IntN(2) == 0 {
			delete(w.tasks, pid)
			for child, t := range w.tasks {
				if t.Parent == pid {
					t.Parent = 1
					w.tasks[child] = t
				}
			}
			continue
		}
		parent := pids[w.rng.IntN(len(pids))]
		pid := 2 + w.rng.IntN(60)
		if _, taken := w.tasks[pid]; !taken {
			w.tasks[pid] = procfs.Task{PID: pid, NSpid: []int{pid}, Parent: parent, Start: w.now}
		}
	}
}

func (w *world) read(pids []int) []procfs.Task {
	var tasks []procfs.Task
	for _, pid := range pids {
		if t, ok := w.tasks[pid]; ok {
			tasks = append(tasks, t)
		}
		if w.reads++; w.reads < 3000 { // it calms down in the end
			w.churn(w.rng.IntN(3))
		}
	}
	return tasks
}

// Whatever happens while it is read, each process in the picture has its parent
// there, which is no younger, so that there are no circles; and what is in the
// picture was there.
func TestSettle(t *testing.T) {
	for seed := range uint64(300) {
		w := &world{tasks: map[int]procfs.Task{1: {PID: 1, NSpid: []int{1}}}, rng: rand.New(rand.NewPCG(seed, 1))}
		w.churn(80)
		var pids []int
		for pid := range w.tasks {
			pids = append(pids, pid)
		}
		slices.Sort(pids)
		got := settle(w.read(pids), w.read, false)
		if _, ok := procfs.Search(got, 1); !ok {
			t.Fatalf("seed %d: number 1 is missing", seed)
		}
		for _, p := range got {
			steps := 0
			for q := p; q.Parent != 0; steps++ {
				i, ok := procfs.Search(got, q.Parent)
				if !ok || got[i].Start > q.Start || steps > len(got) {
					t.Fatalf("seed %d: %d has no parent %d in the picture", seed, q.PID, q.Parent)
				}
				q = got[i]
			}
		}
		if !slices.IsSortedFunc(got, func(a, b procfs.Task) int { return a.PID - b.PID }) {
			t.Fatalf("seed %d: not in order", seed)
		}
	}
}

// A machine that never holds still is shown as far as it can be.
func TestSettleRestless(t *testing.T) {
	tasks := []procfs.Task{{PID: 1, NSpid: []int{1}}, {PID: 5, Parent: 6, Start: 9}, {PID: 7, Parent: 5, Start: 10}}
	rounds := 0
	got := settle(tasks, func([]int) []procfs.Task {
		rounds++
		return []procfs.Task{{PID: 5, Parent: 100 + rounds, Start: 9}}
	}, false)
	if rounds != settleRounds || len(got) != 1 || got[0].PID != 1 {
		t.Errorf("%d rounds, %v", rounds, got)
	}
}

// Nothing is read again on a machine that stands still.
func TestSettleStill(t *testing.T) {
	tasks := []procfs.Task{{PID: 1}, {PID: 2}, {PID: 3, Parent: 1, Start: 4}}
	got := settle(tasks, func([]int) []procfs.Task { t.Error("it was read again"); return nil }, false)
	if len(got) != 3 {
		t.Errorf("%v", got)
	}
}

// Numbers that were given away anew make no circle, and what they lie about is
// read again.
func TestSettleReused(t *testing.T) {
	tasks := []procfs.Task{{PID: 1}, {PID: 50, Parent: 51, Start: 7}, {PID: 51, Parent: 50, Start: 9}}
	got := settle(tasks, func(pids []int) []procfs.Task {
		if !slices.Contains(pids, 50) {
			t.Errorf("%v are read again", pids)
		}
		return []procfs.Task{{PID: 50, Parent: 1, Start: 7}}
	}, false)
	if len(got) != 3 || got[1].Parent != 1 {
		t.Errorf("%v", got)
	}
}

// A parent that is hidden is none that can be seen; without that its children
// would be taken for those of a machine that does not hold still.
func TestSettleHidden(t *testing.T) {
	tasks := func() []procfs.Task {
		return []procfs.Task{{PID: 50, Parent: 7, Start: 7}, {PID: 51, Parent: 50, Start: 9}}
	}
	same := func(pids []int) []procfs.Task {
		return slices.DeleteFunc(tasks(), func(p procfs.Task) bool { return !slices.Contains(pids, p.PID) })
	}
	if got := settle(tasks(), same, true); len(got) != 2 || got[0].Parent != 0 || got[1].Parent != 50 {
		t.Errorf("%+v", got)
	}
	if got := settle(tasks(), same, false); len(got) != 0 {
		t.Errorf("%+v", got)
	}
}

// A chain of processes as long as a container may have is left out in a moment
// when its beginning has no parent.
func TestSettleDeep(t *testing.T) {
	tasks := []procfs.Task{{PID: 1}}
	for i := range 30000 {
		tasks = append(tasks, procfs.Task{PID: 1000 + i, Parent: 999 + i, Start: 1})
	}
	tasks = append(tasks, procfs.Task{PID: 40000, Parent: 1, Start: 1})
	rescan := func([]int) []procfs.Task { return []procfs.Task{{PID: 1000, Parent: 999, Start: 1}} }
	done := make(chan []procfs.Task, 1)
	go func() { done <- settle(tasks, rescan, false) }()
	select {
	case got := <-done:
		if len(got) != 2 || got[1].PID != 40000 {
			t.Errorf("%d are left", len(got))
		}
	case <-time.After(20 * time.Second): // one after the other they take minutes
		t.Error("it goes on and on")
	}
}
