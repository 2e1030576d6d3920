// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/safetext"
	"github.com/outband/outband/ns"
)

// byPID finds the container in which process number is.
func byPID(ctx context.Context, proc *procfs.FS, number, _ string) (*procfs.Process, error) {
	pid, err := strconv.Atoi(number)
	if !allDigits(number) || err != nil || pid <= 0 {
		return nil, fmt.Errorf("%w: %q is no process number", ErrInvalid, number)
	}
	p, err := proc.Hold(pid)
	if err != nil {
		return nil, gone(err, "process", number)
	}
	first, err := initOf(ctx, proc, p)
	if err != nil {
		p.Close()
		return nil, gone(err, "process", number)
	}
	if first == p {
		return p, nil
	}
	// A19 (docs/threat-model.md): while the process lives, the number of its
	// namespace cannot be another's.
	err = p.Alive()
	p.Close()
	if err != nil {
		first.Close()
		return nil, gone(err, "process", number)
	}
	return first, nil
}

// initOf returns the first process of the pid namespace p is in; p itself where
// that is the caller's own namespace, in which a container can be told by its
// other namespaces only.
func initOf(ctx context.Context, proc *procfs.FS, p *procfs.Process) (*procfs.Process, error) {
	status, err := p.Status()
	if err != nil {
		return nil, err
	}
	if status.NSpid[len(status.NSpid)-1] == 1 || len(status.NSpid) == 1 {
		return p, nil
	}
	set, err := ns.Of(p.Dir.File())
	if err != nil {
		return nil, err
	}
	return firstOf(ctx, proc, ns.PID, set[ns.PID])
}

// byPIDNamespace finds a container by the inode number of its pid namespace.
func byPIDNamespace(ctx context.Context, proc *procfs.FS, number, _ string) (*procfs.Process, error) {
	ino, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%w: %q is no inode number", ErrInvalid, number)
	}
	p, err := firstOf(ctx, proc, ns.PID, ns.ID(ino))
	return p, gone(err, "pid namespace", number)
}

// byFile finds a container by a file that refers to one of its namespaces.
func byFile(ctx context.Context, proc *procfs.FS, path string) (*procfs.Process, error) {
	f, err := ns.OpenFile(path)
	if errors.Is(err, ns.ErrNoNamespace) {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if err != nil {
		return nil, gone(err, "file", path)
	}
	defer f.Close()
	kind, err := f.Kind()
	if err != nil {
		return nil, err
	}
	id, err := f.ID()
	if err != nil {
		return nil, err
	}
	if kind == ns.PID {
		if err := below(proc, f); err != nil {
			return nil, err
		}
	}
	p, err := firstOf(ctx, proc, kind, id)
	return p, gone(err, kind.String()+" namespace", path)
}

// below refuses a pid namespace that is not below the caller's own, which
// setns(2) would refuse with EINVAL.
func below(proc *procfs.FS, f ns.File) error {
	self, err := proc.Self()
	if err != nil {
		return err
	}
	defer self.Close()
	own, err := ns.Of(self.File())
	if err != nil {
		return err
	}
	ok, err := f.DescendsFrom(own[ns.PID])
	if err == nil && !ok {
		err = fmt.Errorf("%w: %s", ErrNotDescendant, safetext.Escape(f.Name()))
	}
	return err
}

// firstOf finds the process to hold for a namespace: for a pid namespace its
// number 1; for others the first process of the outermost pid namespace below
// the caller's that has processes in it, or the oldest process of the caller's
// own. fs.ErrNotExist if there is none.
func firstOf(ctx context.Context, proc *procfs.FS, kind ns.Kind, id ns.ID) (*procfs.Process, error) {
	match := func(p *procfs.Process) (rank, bool, error) {
		set, err := ns.Of(p.Dir.File())
		if err != nil || set[kind] != id {
			return rank{}, false, err
		}
		r, err := rankOf(p)
		return r, kind != ns.PID || r.number == 1, err
	}
	return best(ctx, proc, match)
}

// byCgroup finds the container whose first process is in a cgroup, of any
// hierarchy.
func byCgroup(ctx context.Context, proc *procfs.FS, path, _ string) (*procfs.Process, error) {
	if !strings.HasPrefix(path, "/") || strings.Contains(path+"/", "/../") {
		return nil, fmt.Errorf("%w: %q is no path of a cgroup", ErrInvalid, path)
	}
	path = strings.TrimRight(path, "/")
	match := func(p *procfs.Process) (rank, bool, error) {
		b, err := p.Dir.ReadFile("cgroup")
		if err != nil {
			return rank{}, false, err
		}
		groups, err := procfs.ParseGroups(b)
		if err != nil {
			return rank{}, false, err
		}
		in := false
		for _, g := range groups {
			in = in || strings.TrimRight(g.Path, "/") == path || strings.HasPrefix(g.Path, path+"/")
		}
		if !in {
			return rank{}, false, nil
		}
		r, err := rankOf(p)
		return r, r.number == 1 && r.level > 0, err
	}
	p, err := best(ctx, proc, match)
	return p, gone(err, "cgroup", path)
}

// rank orders the processes that fit: the outermost level first, there the
// first process before others, then the oldest.
type rank struct {
	level, number int
	start         uint64
}

func rankOf(p *procfs.Process) (rank, error) {
	status, err := p.Status()
	if err != nil {
		return rank{}, err
	}
	stat, err := p.Dir.ReadFile("stat")
	if err != nil {
		return rank{}, err
	}
	start, err := procfs.ParseStart(stat)
	last := len(status.NSpid) - 1
	return rank{level: last, number: status.NSpid[last], start: start}, err
}

// before compares ranks; equal says that neither comes first.
func (r rank) before(other rank) (before, equal bool) {
	if r.level != other.level {
		return r.level < other.level, false
	}
	if (r.number == 1) != (other.number == 1) {
		return r.number == 1, false
	}
	if r.number == 1 || r.start == other.start { // two containers
		return false, r.number == 1
	}
	return r.start < other.start, false
}

// best returns the process that match ranks first of all. Two containers that
// fit equally are ErrAmbiguous.
func best(ctx context.Context, proc *procfs.FS, match func(*procfs.Process) (rank, bool, error)) (*procfs.Process, error) {
	pids, err := proc.Pids()
	if err != nil {
		return nil, err
	}
	var found *procfs.Process
	var first rank
	var also []int
	for _, pid := range pids {
		if err := ctx.Err(); err != nil {
			return nil, errors.Join(err, closeAll(found))
		}
		p, err := proc.Hold(pid)
		if err != nil {
			continue // gone since it was listed
		}
		r, ok, err := match(p)
		if err != nil || !ok || p.Alive() != nil {
			p.Close() // not readable means not ours to enter
			continue
		}
		before, equal := true, false
		if found != nil {
			before, equal = r.before(first)
		}
		if equal {
			also = append(also, p.PID)
		}
		if !before {
			p.Close()
			continue
		}
		closeAll(found)
		found, first, also = p, r, nil
	}
	return one(found, also)
}

// one returns the process found, unless there are others.
func one(found *procfs.Process, also []int) (*procfs.Process, error) {
	if found == nil {
		return nil, fs.ErrNotExist
	}
	if len(also) > 0 {
		err := fmt.Errorf("%w: pid:%d", ErrAmbiguous, found.PID)
		for _, pid := range also {
			err = fmt.Errorf("%w, pid:%d", err, pid)
		}
		found.Close()
		return nil, err
	}
	return found, nil
}

func closeAll(p *procfs.Process) error {
	if p == nil {
		return nil
	}
	return p.Close()
}
