// SPDX-License-Identifier: Apache-2.0

package pidtree

import (
	"slices"

	"github.com/outband/outband/internal/procfs"
)

// settleRounds bounds how often what has changed is read again.
const settleRounds = 16

// settle makes one picture of processes that were read one after the other. A
// process's parent may have ended since, and its number may be another's: such
// a process is read again, and its new parent too. Whoever has no parent after
// some rounds is left out: it changes faster than it can be read.
//
// Where processes are hidden from the reader a parent that cannot be read may be
// one of them: then its child has none that can be seen.
//
// tasks are sorted by number, and so is what is returned.
func settle(tasks []procfs.Task, rescan func([]int) []procfs.Task, hidden bool) []procfs.Task {
	for range settleRounds {
		var again []int
		for i := range tasks {
			if t := &tasks[i]; !parented(tasks, t) {
				again = append(again, t.PID)
				if _, ok := procfs.Search(tasks, t.Parent); !ok {
					again = append(again, t.Parent)
				}
			}
		}
		if len(again) == 0 {
			return tasks
		}
		slices.Sort(again)
		tasks = replace(tasks, slices.Compact(again), rescan)
	}
	for i := range tasks {
		if _, ok := procfs.Search(tasks, tasks[i].Parent); hidden && !ok {
			tasks[i].Parent = 0
		}
	}
	return rooted(tasks)
}

// rooted leaves out who has no parent, and whoever descends from those. Parents are
// followed up to the first of whom it is known, so that all of it takes linear time.
func rooted(tasks []procfs.Task) (left []procfs.Task) {
	known, lost := make([]bool, len(tasks)), make([]bool, len(tasks))
	var path []int
	for i := range tasks {
		path = path[:0]
		out := false
		for at := i; ; {
			if known[at] {
				out = lost[at]
				break
			}
			known[at], lost[at] = true, true // a circle, which there cannot be, is out
			path = append(path, at)
			t := &tasks[at]
			if out = !parented(tasks, t); out || t.Parent == 0 {
				break
			}
			at, _ = procfs.Search(tasks, t.Parent)
		}
		for _, at := range path {
			lost[at] = out
		}
		if !out {
			left = append(left, tasks[i])
		}
	}
	return left
}

// parented tells whether a process's parent is there. One that is younger than
// its child is not the parent, but has its number; so there are no circles: of
// two that started in the same clock tick neither number was given away yet.
func parented(tasks []procfs.Task, t *procfs.Task) bool {
	if t.Parent == 0 {
		return true
	}
	i, ok := procfs.Search(tasks, t.Parent)
	return ok && t.Parent != t.PID && tasks[i].Start <= t.Start
}

// replace reads the processes with these numbers again; those that are gone are
// left out.
func replace(tasks []procfs.Task, pids []int, rescan func([]int) []procfs.Task) []procfs.Task {
	tasks = slices.DeleteFunc(tasks, func(t procfs.Task) bool {
		_, found := slices.BinarySearch(pids, t.PID)
		return found
	})
	tasks = append(tasks, rescan(pids)...)
	slices.SortFunc(tasks, func(a, b procfs.Task) int { return a.PID - b.PID })
	return tasks
}
