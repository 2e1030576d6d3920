// SPDX-License-Identifier: Apache-2.0

// Package pidtree shows processes as they are numbered on every level of pid
// namespaces, and which of them came in from outside.
//
// Everything is read from /proc, from the outside: nothing is joined and nothing
// is executed (A3, A7, docs/threat-model.md). Names of processes and their
// arguments are raw: they are the processes' own choice, and are for a program
// that shows them to make safe.
package pidtree

import (
	"context"
	"slices"
	"time"

	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/ns"
)

// Process is one process.
type Process struct {
	// PIDs are its numbers, outermost level first; the first is that in the
	// reader's own pid namespace.
	PIDs    []int
	Parent  int    // of PIDs[0]; 0: none that the reader can see
	PIDNS   ns.ID  // its pid namespace; 0 where the reader may not know
	Start   uint64 // clock ticks since boot: with PIDs[0] its identity
	UID     uint32 // effective, as the reader counts
	State   byte   // as in proc_pid_stat(5): R S D T t Z X I
	Kthread bool   // a kernel thread
	Comm    string
	// Cmdline is its arguments with a NUL behind each, see Args and Reader.Outline.
	Cmdline string
	// Silent says that its arguments could not be read: something holds on to its
	// memory.
	Silent bool
	// Visitor says that the process came in from outside of its pid namespace:
	// it is not number 1 there, and its parent, or a parent's parent, is
	// outside. Of what a visitor left behind when it ended this cannot be told
	// by its parent, which is then number 1 of the namespace: it is told where
	// it is in the cgroup of a session of Outband's.
	Visitor bool
	// Via is what let a visitor in, where that can be told: outband, nsenter,
	// docker exec …; see Tree.Explain. It tells people, and is no reason to trust.
	Via string
	// Container is what a container is called whose first process this is, as
	// engine:name; see Tree.Name.
	Container string
}

// PID is the process's number in the reader's pid namespace.
func (p *Process) PID() int { return p.PIDs[0] }

// Inner is the process's number in its own pid namespace.
func (p *Process) Inner() int { return p.PIDs[len(p.PIDs)-1] }

// Level is how many pid namespaces lie between the reader's own and the
// process's, its own included.
func (p *Process) Level() int { return len(p.PIDs) - 1 }

// Args are its arguments, none for a kernel thread or a zombie. Of a command
// line of more than a page the first page is there.
func (p *Process) Args() []string { return procfs.Strings([]byte(p.Cmdline)) }

// Truncated tells whether Args lacks something.
func (p *Process) Truncated() bool { return len(p.Cmdline) >= procfs.MaxCmdline }

// snapshotTime bounds what reading all processes may take; on a machine with
// ten thousand it takes a tenth of a second.
const snapshotTime = 3 * time.Second

// ErrIncomplete says that some process did not answer in time, and is missing.
var ErrIncomplete = procfs.ErrIncomplete

// Reader makes snapshots. It remembers which processes are silent, and does not
// wait for them in the next one.
type Reader struct{ proc *procfs.FS }

// Open returns a reader of the caller's own pid namespace.
func Open() (*Reader, error) {
	proc, err := procfs.Open()
	if err != nil {
		return nil, err
	}
	return &Reader{proc}, nil
}

// Close releases the reader.
func (r *Reader) Close() error { return r.proc.Close() }

// Snapshot reads all processes. What ends meanwhile is left out, and whose parent
// does is read again: each process has its parent in the tree.
//
// With ErrIncomplete there is a tree all the same.
func (r *Reader) Snapshot(ctx context.Context) (*Tree, error) { return r.look(ctx, false) }

// Outline is Snapshot but for the arguments of processes in pid namespaces below
// the reader's own, which have none then. It takes less time: that to read their
// memory.
func (r *Reader) Outline(ctx context.Context) (*Tree, error) { return r.look(ctx, true) }

func (r *Reader) look(ctx context.Context, outline bool) (*Tree, error) {
	ctx, cancel := context.WithTimeout(ctx, snapshotTime)
	defer cancel()
	scan := r.proc.Scan
	if outline {
		scan = r.proc.Outline
	}
	tasks, err := scan(ctx)
	if tasks == nil {
		return nil, err
	}
	hidden := !slices.ContainsFunc(tasks, func(t procfs.Task) bool { return t.PID == 1 }) // which there always is
	t := newTree(settle(tasks, func(pids []int) []procfs.Task { return r.proc.Rescan(ctx, outline, pids...) }, hidden), hidden)
	t.markOrphans(groupsIn(r.proc))
	return t, err
}

// Snapshot is Reader.Snapshot for a single one.
func Snapshot(ctx context.Context) (*Tree, error) {
	r, err := Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return r.Snapshot(ctx)
}

// groupsIn returns what returns the cgroups of a process, none when it is gone.
func groupsIn(proc *procfs.FS) func(pid int) []procfs.Group {
	buf := make([]byte, procfs.CgroupSize)
	return func(pid int) []procfs.Group {
		groups, err := proc.Groups(pid, buf)
		if err != nil {
			return nil
		}
		return groups
	}
}
