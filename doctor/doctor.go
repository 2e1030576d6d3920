// SPDX-License-Identifier: Apache-2.0

// Package doctor looks at a container from the outside and says what is wrong
// with it.
//
// Looking and judging are apart: examinations fill a Report with facts, each on
// its own and with a deadline; what they mean is worked out from the report
// alone, see judge. Nothing is joined and nothing is executed inside (A3, A7,
// docs/threat-model.md). File systems of the container are asked by processes
// that can be given up (A27), which are in no cgroup of the container's: it may
// be frozen (A28), or have used up what it may have (A31).
package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/outband/outband"
	"github.com/outband/outband/engine"
	"github.com/outband/outband/internal/cgroup"
	"github.com/outband/outband/internal/inits"
	"github.com/outband/outband/internal/procfs"
)

// lookTime bounds everything together: what asks file systems ends by itself
// before.
const lookTime = 2800 * time.Millisecond

// scanTime bounds the reading of all processes: what was read until then counts.
const scanTime = 2 * time.Second

// An examination looks at one thing. What it returns puts the facts into a
// report, when all that it needs is known.
type examination struct {
	about string
	look  func(context.Context, *patient) func(*Report)
}

// examinations are all of them.
func examinations() []examination {
	return []examination{
		{"engine", record}, {"processes", processes}, {"open files", descriptors}, {"cgroups", limits},
		{"file systems", filesystems}, {"names", names}, {"network", network},
	}
}

// patient is the container while it is looked at.
type patient struct {
	target *outband.Target
	groups []procfs.Group
	shared bool // its network, with the caller
	still  bool // it is frozen
	// Read at most once, by whoever is first to need it.
	mounts func() []procfs.Mount // the caller's
	family func() (*family, error)
}

// Examine looks at a container that runs. It takes less than three seconds,
// whatever the container does; what could not be looked at in that time is told
// in the report.
//
// Errors: outband.ErrGone, fs.ErrPermission.
func Examine(ctx context.Context, t *outband.Target) (*Report, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	p := &patient{target: t, mounts: sync.OnceValue(func() []procfs.Mount { return mountsOf(t.Proc()) })}
	p.family = sync.OnceValues(func() (*family, error) { return relatives(ctx, t) })
	r := &Report{Name: t.Name(), Engine: engine.Bare}
	if err := p.introduce(r); err != nil {
		return nil, err
	}
	all := examinations()
	type result struct {
		at   int
		fill func(*Report)
	}
	results := make(chan result, len(all)) // a late one is never held up
	for i, e := range all {
		go func() { results <- result{i, e.look(ctx, p)} }()
	}
	fills := make([]func(*Report), len(all))
	for waiting := len(all); waiting > 0; waiting-- {
		select {
		case done := <-results:
			fills[done.at] = done.fill
		case <-ctx.Done():
			waiting = 1
		}
	}
	for i, fill := range fills {
		if fill == nil {
			r.unseen(all[i].about, "no answer in time")
			continue
		}
		fill(r)
	}
	r.judge()
	return r, t.Alive()
}

// introduce finds out who it is.
func (p *patient) introduce(r *Report) (err error) {
	init := p.target.Process()
	stat, err := init.Dir.ReadFile("stat") // its state now, not when it was opened
	if err != nil {
		return outband.ErrGone
	}
	task, err := procfs.ParseTask(stat)
	if err != nil {
		return err
	}
	if p.groups, err = init.Dir.Groups(); err != nil {
		return err
	}
	r.State = string(engine.Running)
	r.Init = &Init{
		PID: init.PID, PIDs: p.target.PIDs(), Comm: task.Comm, State: string(task.State), Started: procfs.StartTime(procfs.Boot(), task.Start),
	}
	r.Init.Kind, r.Init.Exe = inits.Kind(init.Dir)
	self, err := p.target.Proc().Self()
	if err != nil {
		return err
	}
	defer self.Close()
	p.shared = sameNetwork(self, init.Dir)
	r.Init.Frozen = p.frozen(self)
	if p.still = len(r.Init.Frozen) > 0; p.still {
		r.State = string(engine.Paused)
	}
	return nil
}

// frozen are the cgroups that keep it frozen.
func (p *patient) frozen(self *procfs.Dir) (paths []string) {
	own, err := self.Groups()
	if err != nil {
		return nil
	}
	for _, f := range cgroup.Frozen(p.groups, own, p.mounts) {
		paths = append(paths, f.Path)
	}
	return paths
}

// mountsOf are those that the caller sees.
func mountsOf(proc *procfs.FS) []procfs.Mount {
	self, err := proc.Self()
	if err != nil {
		return nil
	}
	defer self.Close()
	b, _ := self.ReadFile("mountinfo")
	return procfs.ParseMounts(b)
}

// unseen notes what could not be looked at, on one line: errors may be joined.
func (r *Report) unseen(about, format string, args ...any) {
	r.Unseen = append(r.Unseen, Unseen{about, strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "; ")})
}

// record asks engines what they know: what they call it, and how it ended last.
func record(ctx context.Context, p *patient) func(*Report) {
	f, err := p.family()
	if err != nil {
		return func(r *Report) { r.unseen("engine", "%v", err) }
	}
	c, err := p.target.ContainerAmong(ctx, f.all)
	return func(r *Report) {
		if err != nil {
			r.unseen("engine", "%v", err)
		}
		r.know(&c)
	}
}

// know takes over what an engine knows.
func (r *Report) know(c *engine.Container) {
	r.Name, r.Engine, r.Restart = c.FullName(), c.Engine, c.Restart
	if c.Exit != nil {
		r.Last = &Last{c.Exit.Code, c.Exit.At, c.Exit.OOM}
	}
}

// Stopped is the report on a container that does not run: what its engine has
// written down is all that is known of it. The engines are asked for that: the
// search by name, which c is from, reads nothing else, see engine.NotRunningError.
func Stopped(ctx context.Context, c *engine.Container, engines ...engine.Engine) *Report {
	r := &Report{State: string(engine.Stopped)}
	list, err := engine.List(ctx, engines)
	at := slices.IndexFunc(list, func(l engine.Container) bool { return l.FullName() == c.FullName() && l.ID == c.ID })
	switch {
	case at >= 0:
		c = &list[at]
	case err != nil:
		r.unseen("engine", "%v", err)
	}
	r.know(c)
	r.judge()
	return r
}

// family are the processes of a container, its first one first.
type family struct {
	all        []procfs.Task // the machine's
	members    []*procfs.Task
	incomplete error
}

// relatives finds the processes of a container.
func relatives(ctx context.Context, t *outband.Target) (*family, error) {
	ctx, cancel := context.WithTimeout(ctx, scanTime)
	defer cancel()
	tasks, err := t.Proc().Outline(ctx)
	if tasks == nil {
		return nil, err
	}
	f := &family{all: tasks, incomplete: err}
	at, ok := procfs.Search(tasks, t.PID())
	if !ok || tasks[at].Start != t.Started() {
		return nil, outband.ErrGone
	}
	f.gather(at)
	return f, nil
}

// gather finds who belongs to a first process: what is in its pid namespace, if
// it has one of its own; and what descends from those, also in containers inside.
func (f *family) gather(first int) {
	init := &f.all[first]
	children := make(map[int][]int, len(f.all))
	for i := range f.all {
		children[f.all[i].Parent] = append(children[f.all[i].Parent], i)
	}
	known := make([]bool, len(f.all))
	add := func(i int) {
		if !known[i] {
			known[i] = true
			f.members = append(f.members, &f.all[i])
		}
	}
	add(first)
	for i := range f.all {
		if init.First() && f.all[i].PIDNS == init.PIDNS && init.PIDNS != 0 {
			add(i)
		}
	}
	for next := 0; next < len(f.members); next++ { // it grows meanwhile
		for _, child := range children[f.members[next].PID] {
			add(child)
		}
	}
}
