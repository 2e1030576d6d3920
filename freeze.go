// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"fmt"
	"strings"
	"time"

	"github.com/outband/outband/internal/cgroup"
	"github.com/outband/outband/internal/procfs"
)

// freshness is how long what was seen of a target's freezers counts.
const freshness = 50 * time.Millisecond

// look asks what keeps the target frozen.
func (s *snapshot) look(proc *procfs.FS) {
	s.looked = time.Now()
	s.frozen = cgroup.Frozen(s.groups, s.ownGroups, func() []procfs.Mount { return mounts(proc) })
}

// mounts are those that the calling thread sees.
func mounts(proc *procfs.FS) []procfs.Mount {
	self, err := proc.Self()
	if err != nil {
		return nil
	}
	defer self.Close()
	b, _ := self.ReadFile("mountinfo")
	return procfs.ParseMounts(b)
}

// thaw lets go on what keeps the target frozen.
func (s *snapshot) thaw(proc *procfs.FS) error {
	return cgroup.Thaw(s.frozen, func() []procfs.Mount { return mounts(proc) })
}

// thaw thaws what the plan says.
func (c *Cmd) thaw(seen *snapshot, plan *Plan) error {
	if len(plan.Thaw) == 0 {
		return nil
	}
	if err := seen.thaw(c.target.fs); err != nil {
		return fmt.Errorf("thaw it: %w", err)
	}
	return nil
}

// freeze refuses to enter a frozen cgroup, or thaws it (A28): whoever comes in is
// frozen as well, before it has done anything.
func (p *planner) freeze() error {
	if len(p.t.frozen) == 0 {
		return nil
	}
	names := make([]string, len(p.t.frozen))
	for i, f := range p.t.frozen {
		names[i] = f.Path
	}
	if !p.c.Thaw {
		return withHint(fmt.Errorf("%w: cgroup %s", ErrFrozen, strings.Join(names, ", ")),
			"--thaw thaws it, and it stays so; --cgroup none enters from outside of it")
	}
	p.Thaw = names
	p.note("the target is thawed, and stays so: cgroup %s (--thaw)", strings.Join(names, ", "))
	return nil
}

// frozenMeanwhile is the group that was frozen since the plan was made; "" if
// there is none.
func (c *Cmd) frozenMeanwhile() string {
	if c.plan == nil || !c.plan.inTarget {
		return ""
	}
	late := c.target.snapshot
	if late.look(c.target.fs); len(late.frozen) > 0 {
		return late.frozen[0].Path
	}
	return ""
}
