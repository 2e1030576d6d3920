// SPDX-License-Identifier: Apache-2.0

// Package pidtree shows processes as they are numbered on every level of pid
// namespaces, and which of them came in from outside.
package pidtree

import (
	"cmp"
	"context"
	"slices"

	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/ns"
)

// Process is one process.
type Process struct {
	// PIDs are its numbers, outermost level first; the first is that in the
	// reader's own pid namespace.
	PIDs   []int
	Parent int   // of PIDs[0]; 0: none that the reader can see
	PIDNS  ns.ID // its pid namespace; 0 where the reader may not know
	Comm   string
	State  byte
	// Visitor says that the process came in from outside of its pid namespace:
	// it is not number 1 there, and its parent, or a parent's parent, is
	// outside. Of what a visitor left behind when it ended this cannot be told
	// any more: its parent is then number 1 of the namespace.
	Visitor bool
}

// PID is the process's number in the reader's pid namespace.
func (p Process) PID() int { return p.PIDs[0] }

// Inner is the process's number in its own pid namespace.
func (p Process) Inner() int { return p.PIDs[len(p.PIDs)-1] }

// Level is how many pid namespaces lie between the reader's own and the
// process's, its own included.
func (p Process) Level() int { return len(p.PIDs) - 1 }

// Snapshot reads all processes, in the order of their numbers. A process that
// ends meanwhile is left out.
func Snapshot(ctx context.Context, proc *procfs.FS) ([]Process, error) {
	pids, err := proc.Pids()
	if err != nil {
		return nil, err
	}
	ps := make([]Process, 0, len(pids))
	for _, pid := range pids {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if p, ok := read(proc, pid); ok {
			ps = append(ps, p)
		}
	}
	slices.SortFunc(ps, func(a, b Process) int { return cmp.Compare(a.PID(), b.PID()) })
	markVisitors(ps)
	return ps, nil
}

// read reads one process; false when it is gone.
func read(proc *procfs.FS, pid int) (Process, bool) {
	dir, err := proc.Process(pid)
	if err != nil {
		return Process{}, false
	}
	defer dir.Close()
	status, err := dir.Status()
	if err != nil {
		return Process{}, false
	}
	p := Process{PIDs: status.NSpid, Parent: status.PPid, Comm: status.Name, State: status.State}
	if set, err := ns.Of(dir.File()); err == nil {
		p.PIDNS = set[ns.PID]
	}
	return p, true
}

// markVisitors finds the visitors among processes that are sorted by number.
func markVisitors(ps []Process) {
	index := make(map[int]int, len(ps))
	for i, p := range ps {
		index[p.PID()] = i
	}
	known := make([]bool, len(ps))
	var visit func(i, depth int) bool
	visit = func(i, depth int) bool {
		p := &ps[i]
		if known[i] || p.Level() == 0 || p.Inner() == 1 || depth > len(ps) {
			return p.Visitor
		}
		known[i] = true // also breaks a circle that numbers given away anew could make
		parent, ok := index[p.Parent]
		p.Visitor = !ok || ps[parent].Level() < p.Level() || visit(parent, depth+1)
		return p.Visitor
	}
	for i := range ps {
		visit(i, 0)
	}
}
