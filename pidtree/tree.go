// SPDX-License-Identifier: Apache-2.0

package pidtree

import (
	"context"
	"iter"
	"slices"

	"github.com/outband/outband/engine"
	"github.com/outband/outband/internal/cgroup"
	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/ns"
)

// Tree is a snapshot of all processes.
type Tree struct {
	// Processes are all of them, in the order of their numbers.
	Processes []Process
	// Hidden says that there are processes which the reader may not see: /proc is
	// mounted with hidepid, see proc(5).
	Hidden bool

	tasks    []procfs.Task // what the processes were made of
	at       map[int]int   // by number
	children [][]int       // by index, in the order of their numbers
	roots    []int
}

// newTree makes a tree of processes that settle has gone through.
func newTree(tasks []procfs.Task, hidden bool) *Tree {
	t := &Tree{Hidden: hidden, Processes: make([]Process, len(tasks)), tasks: tasks, at: make(map[int]int, len(tasks))}
	for i, task := range tasks {
		t.Processes[i] = Process{
			PIDs: task.NSpid, Parent: task.Parent, PIDNS: ns.ID(task.PIDNS), Start: task.Start, UID: task.UID,
			State: task.State, Kthread: task.Kthread, Comm: task.Comm, Cmdline: task.Cmdline,
			Silent: task.Silent,
		}
		t.at[task.PID] = i
	}
	t.markVisitors()
	t.link()
	return t
}

// parent returns the index of a process's parent, or -1.
func (t *Tree) parent(i int) int {
	if parent, ok := t.at[t.Processes[i].Parent]; ok && parent != i {
		return parent
	}
	return -1
}

// markVisitors finds who came in from outside. Parents are followed up to the
// first of whom it is known, so that all of it takes linear time; a circle,
// which there cannot be, ends at whoever was seen first. A parent that is hidden
// tells nothing.
func (t *Tree) markVisitors() {
	known := make([]bool, len(t.Processes))
	var path []int
	for i := range t.Processes {
		path = path[:0]
		visitor := false
		for at := i; ; {
			p := &t.Processes[at]
			if known[at] || p.Inner() == 1 || p.Kthread {
				visitor = p.Visitor
				break
			}
			known[at] = true
			path = append(path, at)
			parent := t.parent(at)
			if parent < 0 || t.Processes[parent].Level() < p.Level() {
				visitor = parent >= 0 || !t.Hidden
				break
			}
			at = parent
		}
		for _, at := range path {
			t.Processes[at].Visitor = visitor
		}
	}
}

// link finds each process's place: with its parent, where that is in the same
// pid namespace or the process is the first of its own; else, in from outside,
// it is a guest of the first process of the namespace it is in.
func (t *Tree) link() {
	inits := map[ns.ID]int{}
	for i := range t.Processes {
		if p := &t.Processes[i]; p.Inner() == 1 && p.PIDNS != 0 {
			inits[p.PIDNS] = i
		}
	}
	t.children = make([][]int, len(t.Processes))
	t.roots = nil
	for i := range t.Processes {
		p := &t.Processes[i]
		place := t.parent(i)
		if p.Inner() != 1 && (place < 0 || t.Processes[place].Level() < p.Level()) {
			if first, ok := inits[p.PIDNS]; ok && first != i {
				place = first
			}
		}
		if place < 0 || p.Kthread && p.Parent == 0 {
			t.roots = append(t.roots, i)
			continue
		}
		t.children[place] = append(t.children[place], i)
	}
}

// markOrphans finds the visitors among those that the first process of their
// namespace has taken over: by their cgroup, which is read for them alone.
func (t *Tree) markOrphans(groups func(pid int) []procfs.Group) {
	var mark func(i int)
	mark = func(i int) {
		if p := &t.Processes[i]; p.Inner() != 1 && !p.Visitor {
			p.Visitor = true
			for _, child := range t.children[i] {
				mark(child)
			}
		}
	}
	for i := range t.Processes {
		p := &t.Processes[i]
		parent := t.parent(i)
		if p.Level() == 0 || p.Inner() == 1 || p.Visitor || parent < 0 || t.Processes[parent].Inner() != 1 {
			continue
		}
		if cgroup.InSession(groups(p.PID())) {
			mark(i)
		}
	}
}

// Unknown counts the processes of which the reader may not know in which pid
// namespace they are.
func (t *Tree) Unknown() (n int) {
	for i := range t.Processes {
		if t.Processes[i].PIDNS == 0 {
			n++
		}
	}
	return n
}

// Find returns the process with a number in the reader's pid namespace, or nil.
func (t *Tree) Find(pid int) *Process {
	if i, ok := t.at[pid]; ok {
		return &t.Processes[i]
	}
	return nil
}

// Roots are the processes that have no place below another.
func (t *Tree) Roots() iter.Seq[*Process] { return t.each(t.roots) }

// Children are the processes placed below p: its children, those of them that
// are elsewhere as visitors excepted; and below the first process of a pid
// namespace, the visitors in it.
func (t *Tree) Children(p *Process) iter.Seq[*Process] {
	i, ok := t.at[p.PID()]
	if !ok {
		return t.each(nil)
	}
	return t.each(t.children[i])
}

func (t *Tree) each(list []int) iter.Seq[*Process] {
	return func(yield func(*Process) bool) {
		for _, i := range list {
			if !yield(&t.Processes[i]) {
				return
			}
		}
	}
}

// Name gives the first processes of containers their containers' names. A
// number alone is not enough: it has to be the process that the engine meant.
func (t *Tree) Name(containers []engine.Container) {
	for i := range containers {
		c := &containers[i]
		p := t.Find(c.Init.PID)
		if p != nil && p.Start == c.Init.Start && c.Engine != engine.Bare {
			p.Container = c.FullName()
		}
	}
}

// Containers lists the containers that engines know and gives their first
// processes their names. The processes are those of the tree: none is read
// again. Errors are as those of engine.List.
func (t *Tree) Containers(ctx context.Context, engines []engine.Engine) ([]engine.Container, error) {
	return t.containers(ctx, engines, false)
}

// Names gives the first processes of containers their names, and reads nothing
// else of them. Errors are as those of engine.List.
func (t *Tree) Names(ctx context.Context, engines []engine.Engine) error {
	// What nobody gave a name has none here.
	engines = slices.DeleteFunc(slices.Clone(engines), func(e engine.Engine) bool { return e.Name() == engine.Bare })
	_, err := t.containers(ctx, engines, true)
	return err
}

func (t *Tree) containers(ctx context.Context, engines []engine.Engine, brief bool) ([]engine.Container, error) {
	proc, err := procfs.Open()
	if err != nil {
		return nil, err
	}
	defer proc.Close()
	host := engine.NewHost(proc, t.tasks)
	if brief {
		host.Seek("", "")
	}
	all, err := host.List(ctx, engines)
	t.Name(all)
	return all, err
}
