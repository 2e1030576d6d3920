// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/ns"
)

// Host is what an adapter sees of the machine: its processes, and files of state
// that it may trust. It is safe for use by several goroutines.
type Host struct {
	root string // "" but in tests: where the files of state are looked for
	proc *procfs.FS
	scan func(context.Context) ([]procfs.Task, error)

	sought *sought // nil: all that there is

	mu    sync.Mutex
	tasks []procfs.Task // by number; nil: not read yet

	// incomplete tells why tasks are not all.
	incomplete error

	kitted sync.Map // kits by user

	placed sync.Once
	places []Place

	looked sync.Once
	mounts []procfs.Mount
	remote sync.Map // points of mounts that were told
}

// NewHost returns the machine as proc shows it, whose processes have been read
// already; tasks may be nil. It does not own proc.
func NewHost(proc *procfs.FS, tasks []procfs.Task) *Host {
	return &Host{proc: proc, scan: proc.Outline, tasks: tasks}
}

// Recorded returns a machine whose files of state are below root and whose
// processes are tasks: for tests of adapters.
func Recorded(root string, tasks []procfs.Task) *Host {
	return &Host{root: root, tasks: append([]procfs.Task{}, tasks...)} // nil would mean that they are not read yet
}

// Tasks are all processes, in the order of their numbers. One whose files do not
// answer holds up nobody: what there is by half of an engine's time is what there
// is, and that it is not all is told once.
//
// A27 (docs/threat-model.md): a process can let its readers wait.
func (h *Host) Tasks(ctx context.Context) ([]procfs.Task, error) { return h.read(ctx, askTime/2) }

// read reads all processes if they are not known yet.
func (h *Host) read(ctx context.Context, limit time.Duration) ([]procfs.Task, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.tasks == nil {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		tasks, err := h.scan(ctx)
		if errors.Is(err, procfs.ErrIncomplete) && len(tasks) > 0 {
			h.incomplete, err = err, nil
		}
		if err != nil {
			return nil, err
		}
		h.tasks = tasks
	}
	return h.tasks, nil
}

// Facts are what has to be true of a process for it to be the one that an
// engine's state names. A number alone is not enough: it may have been given
// away since.
type Facts struct {
	PID   int
	Start uint64 // clock ticks since boot; 0: the engine does not tell
	// Cgroup is a name that has to be in the path of one of its cgroups, such as
	// the container's id. The engine made that path, outside of the container.
	Cgroup string
	// Parent is the number its parent has to have.
	Parent int
	// Owner is the user, other than root, whose the container is.
	Owner uint32
}

// errUnsure is a fact that is missing.
var errUnsure = errors.New("nothing tells the process from another with its number")

// Init returns the process that fits the facts; fs.ErrNotExist if there is none.
//
// A20 (docs/threat-model.md): what is compared was written by the kernel, or by
// an engine into files of root's.
func (h *Host) Init(f Facts) (Init, error) {
	if f.Start == 0 && f.Cgroup == "" && f.Parent == 0 {
		return Init{}, errUnsure
	}
	t, ok := h.task(f.PID)
	err := fs.ErrNotExist
	if ok {
		err = h.fits(t, f)
	}
	if err == nil {
		return initFrom(t), nil
	}
	if f.Owner != 0 {
		for _, t := range h.inKits(f.Owner, f.PID) {
			if h.fits(t, f) == nil {
				return initFrom(t), nil
			}
		}
	}
	return Init{}, err
}

// fits tells whether the facts are true of a process that has the number.
func (h *Host) fits(t procfs.Task, f Facts) error {
	switch {
	case f.Start != 0 && t.Start != f.Start, f.Parent != 0 && t.Parent != f.Parent, f.Cgroup != "" && !h.inCgroup(t.PID, f.Cgroup):
		return fs.ErrNotExist
	case f.Owner != 0:
		return h.ownedBy(t.PID, f.Owner)
	}
	return nil
}

func initFrom(t procfs.Task) Init {
	return Init{PID: t.PID, PIDs: t.NSpid, Start: t.Start, PIDNS: ns.ID(t.PIDNS), Comm: t.Comm}
}

// task returns one process.
func (h *Host) task(pid int) (procfs.Task, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.tasks == nil {
		if pid <= 0 {
			return procfs.Task{}, false
		}
		read := h.proc.Rescan(context.Background(), true, pid)
		return first(read)
	}
	i, ok := procfs.Search(h.tasks, pid)
	if !ok {
		return procfs.Task{}, false
	}
	return h.tasks[i], true
}

func first(tasks []procfs.Task) (procfs.Task, bool) {
	if len(tasks) == 0 {
		return procfs.Task{}, false
	}
	return tasks[0], true
}

// Cgroups are the paths of a process's cgroups, one for each hierarchy.
func (h *Host) Cgroups(pid int) []string {
	if h.proc == nil { // recorded
		return h.recordedCgroups(pid)
	}
	groups, err := h.proc.Groups(pid, make([]byte, procfs.CgroupSize))
	if err != nil {
		return nil
	}
	paths := make([]string, 0, len(groups))
	for _, g := range groups {
		paths = append(paths, g.Path)
	}
	return paths
}

func (h *Host) recordedCgroups(pid int) []string {
	b, err := os.ReadFile(filepath.Join(h.root, fmt.Sprintf("proc/%d/cgroup", pid)))
	if err != nil {
		return nil
	}
	groups, err := procfs.ParseGroups(b)
	if err != nil {
		return nil
	}
	var paths []string
	for _, g := range groups {
		paths = append(paths, g.Path)
	}
	return paths
}

// inCgroup tells whether name is a part of a path of a process's cgroups, or the
// end of a part after a dash or dot, as in docker-ID.scope.
func (h *Host) inCgroup(pid int, name string) bool {
	for _, path := range h.Cgroups(pid) {
		for part := range strings.SplitSeq(path, "/") {
			part = strings.TrimSuffix(part, ".scope")
			if part == name || strings.HasSuffix(part, "-"+name) || strings.HasSuffix(part, ":"+name) {
				return true
			}
		}
	}
	return false
}
