// SPDX-License-Identifier: Apache-2.0

package pidtree

import (
	"context"
	"iter"

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

	tasks []procfs.Task // what the processes were made of
	// By index, as all that follows: of none it is none.
	parent []int32 // which a process has outside of its place, too
	first  []int32 // that is placed below it; after that the next ones
	next   []int32
	root   int32 // the first of them
}

// none is the index of no process.
const none = -1

// newTree makes a tree of processes that settle has gone through.
func newTree(tasks []procfs.Task, hidden bool) *Tree {
	t := &Tree{Hidden: hidden, Processes: make([]Process, len(tasks)), tasks: tasks}
	links := make([]int32, 3*len(tasks))
	t.parent, t.first, t.next = links[:len(tasks)], links[len(tasks):2*len(tasks)], links[2*len(tasks):]
	for i := range tasks {
		task := &tasks[i]
		t.Processes[i] = Process{
			PIDs: task.NSpid, Parent: task.Parent, PIDNS: ns.ID(task.PIDNS), Start: task.Start, UID: task.UID,
			State: task.State, Kthread: task.Kthread, Comm: task.Comm, Cmdline: task.Cmdline,
			Silent: task.Silent,
		}
		t.parent[i] = none
		if parent, ok := procfs.Search(tasks, task.Parent); ok && parent != i {
			t.parent[i] = int32(parent)
		}
	}
	t.markVisitors()
	t.link()
	return t
}

// markVisitors finds who came in from outside. Parents are followed up to the
// first of whom it is known, so that all of it takes linear time; a circle,
// which there cannot be, ends at whoever was seen first. A parent that is hidden
// tells nothing.
func (t *Tree) markVisitors() {
	known := make([]bool, len(t.Processes))
	var path []int32
	for i := range t.Processes {
		path = path[:0]
		visitor := false
		for at := int32(i); ; {
			p := &t.Processes[at]
			if known[at] || p.Inner() == 1 || p.Kthread {
				visitor = p.Visitor
				break
			}
			known[at] = true
			path = append(path, at)
			parent := t.parent[at]
			if parent == none || t.Processes[parent].Level() < p.Level() {
				visitor = parent != none || !t.Hidden
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
	t.root = none
	for i := range t.first {
		t.first[i] = none
	}
	var inits map[ns.ID]int32                    // by pid namespace, once there is a visitor
	for i := len(t.Processes) - 1; i >= 0; i-- { // each goes before those that are there
		p := &t.Processes[i]
		place := t.parent[i]
		if p.Inner() != 1 && (place == none || t.Processes[place].Level() < p.Level()) {
			if inits == nil {
				inits = t.inits()
			}
			if first, ok := inits[p.PIDNS]; ok && first != int32(i) {
				place = first
			}
		}
		list := &t.root
		if place != none && (!p.Kthread || p.Parent != 0) {
			list = &t.first[place]
		}
		t.next[i], *list = *list, int32(i)
	}
}

// inits are the first processes of pid namespaces.
func (t *Tree) inits() map[ns.ID]int32 {
	inits := map[ns.ID]int32{}
	for i := range t.Processes {
		if p := &t.Processes[i]; p.Inner() == 1 && p.PIDNS != 0 {
			inits[p.PIDNS] = int32(i)
		}
	}
	return inits
}

// markOrphans finds the visitors among those that the first process of their
// namespace has taken over: by their cgroup, which is read for them alone.
func (t *Tree) markOrphans(groups func(pid int) []procfs.Group) {
	var mark func(i int32)
	mark = func(i int32) {
		if p := &t.Processes[i]; p.Inner() != 1 && !p.Visitor {
			p.Visitor = true
			for child := t.first[i]; child != none; child = t.next[child] {
				mark(child)
			}
		}
	}
	for i := range t.Processes {
		p := &t.Processes[i]
		parent := t.parent[i]
		if p.Level() == 0 || p.Inner() == 1 || p.Visitor || parent == none || t.Processes[parent].Inner() != 1 {
			continue
		}
		if cgroup.InSession(groups(p.PID())) {
			mark(int32(i))
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
	if i, ok := procfs.Search(t.tasks, pid); ok {
		return &t.Processes[i]
	}
	return nil
}

// Roots are the processes that have no place below another.
func (t *Tree) Roots() iter.Seq[*Process] { return t.each(t.root) }

// Children are the processes placed below p: its children, those of them that
// are elsewhere as visitors excepted; and below the first process of a pid
// namespace, the visitors in it.
func (t *Tree) Children(p *Process) iter.Seq[*Process] {
	i, ok := procfs.Search(t.tasks, p.PID())
	if !ok {
		return t.each(none)
	}
	return t.each(t.first[i])
}

// each are the processes from one on that have the same place.
func (t *Tree) each(first int32) iter.Seq[*Process] {
	return func(yield func(*Process) bool) {
		for i := first; i != none; i = t.next[i] {
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

// Names is Containers for who needs no more of them than what they are called and
// their first processes, as engine.Names.
func (t *Tree) Names(ctx context.Context, engines []engine.Engine) ([]engine.Container, error) {
	return t.containers(ctx, engines, true)
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
