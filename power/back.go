// SPDX-License-Identifier: Apache-2.0

package power

import (
	"context"
	"time"

	"github.com/outband/outband/engine"
	"github.com/outband/outband/engine/all"
	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/ns"
)

// lookEvery is how often it is looked for what is back.
const lookEvery = 50 * time.Millisecond

// back looks for a container that something started in the place of the one that
// has ended: by its engine's list or, where no engine is known, among the
// children of who supervised it. Nothing is ever done to it.
func (m *machine) back(ctx context.Context, d time.Duration) *Back {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	look := m.child
	if m.byEngine() {
		look = m.listed
	}
	for {
		// What cannot be read in time is read the next time; who is seen is back.
		tasks, _ := m.t.Proc().Scan(ctx)
		if b := look(ctx, tasks); b != nil {
			return b
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(lookEvery):
		}
	}
}

// listed is what the engine has under the same id, or the same name.
func (m *machine) listed(ctx context.Context, tasks []procfs.Task) *Back {
	old := m.o.Container
	found, _ := engine.NewHost(m.t.Proc(), tasks).List(ctx, engine.ByPrefix(all.Engines(), old.Engine))
	for _, c := range found {
		same := c.Engine == old.Engine && c.User == old.User && (c.ID == old.ID || c.Name == old.Name && c.Name != "")
		if same && c.Init.PID != 0 && (c.Init.PID != m.t.PID() || c.Init.Start != m.t.Started()) {
			return &Back{PIDs: c.Init.PIDs, By: c.Engine}
		}
	}
	return nil
}

// reaper is the number of the process that adopts orphans: a container whose
// parent that is has nobody who supervises it.
const reaper = 1

// child is a younger first process of a pid namespace that has the same parent and
// the same command line as the init had: a parent may make other containers too.
// One that is number 1 has any number of such children.
func (m *machine) child(_ context.Context, tasks []procfs.Task) *Back {
	if m.parent.PID <= reaper {
		return nil
	}
	lives := false
	for _, t := range tasks {
		lives = lives || t.PID == m.parent.PID && t.Start == m.parent.Start
	}
	if !lives {
		return nil
	}
	for _, t := range tasks {
		first := t.First() && len(t.NSpid) == len(m.t.PIDs())
		younger := t.Start > m.t.Started() && t.Start >= m.began
		if t.Parent == m.parent.PID && t.Cmdline == m.runs && first && younger && ns.ID(t.PIDNS) != m.t.Namespaces()[ns.PID] {
			return &Back{PIDs: t.NSpid, By: m.parent.Comm}
		}
	}
	return nil
}
