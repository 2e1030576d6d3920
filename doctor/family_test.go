// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"slices"
	"testing"

	"github.com/outband/outband/internal/procfs"
)

// machine has a container whose first process is 40, with a visitor, one inside
// of it, and neighbours.
func machine() []procfs.Task {
	task := func(pid, parent int, space uint64, numbers ...int) procfs.Task {
		return procfs.Task{PID: pid, Parent: parent, PIDNS: space, NSpid: append([]int{pid}, numbers...)}
	}
	return []procfs.Task{
		task(1, 0, 9), task(30, 1, 9), task(40, 1, 100, 1),
		task(41, 40, 100, 2), task(42, 41, 100, 3),
		task(43, 42, 200, 4, 1), task(44, 43, 200, 5, 2), // a container inside
		task(45, 30, 100, 6), task(46, 45, 100, 7), // a visitor, with a child
		task(50, 1, 300, 1), task(51, 50, 300, 2), // another container
		task(60, 1, 9), task(61, 60, 9),
	}
}

// TestGather: who belongs to a container is told by its pid namespace where it
// has one, and by parents; nobody counts twice.
func TestGather(t *testing.T) {
	unknown := machine() // to a reader who may not know namespaces
	for i := range unknown {
		unknown[i].PIDNS = 0
	}
	circle := machine() // as numbers that were given away can make one
	circle[2].Parent = 44
	for name, c := range map[string]struct {
		tasks []procfs.Task
		first int
		want  []int
	}{
		"container":        {machine(), 40, []int{40, 41, 42, 43, 44, 45, 46}},
		"inside another":   {machine(), 43, []int{43, 44}},
		"by parents alone": {unknown, 40, []int{40, 41, 42, 43, 44}},
		"circle":           {circle, 40, []int{40, 41, 42, 43, 44, 45, 46}},
		// Its pid namespace is that of others, too.
		"of the caller's pid namespace": {machine(), 60, []int{60, 61}},
		"no first of its pid namespace": {machine(), 41, []int{41, 42, 43, 44}},
	} {
		f := &family{all: c.tasks}
		f.gather(slices.IndexFunc(c.tasks, func(t procfs.Task) bool { return t.PID == c.first }))
		var got []int
		for _, m := range f.members {
			got = append(got, m.PID)
		}
		if got[0] != c.first {
			t.Errorf("%s: the first is %d", name, got[0])
		}
		if slices.Sort(got); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
