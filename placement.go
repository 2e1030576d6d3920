// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"fmt"
	"os"
	"slices"

	"github.com/outband/outband/internal/cgroup"
	"github.com/outband/outband/internal/forkexec"
	"github.com/outband/outband/internal/procfs"
)

// placement decides the cgroups.
func (p *planner) placement() error {
	if p.InitStopped = p.t.status.State == 'T'; p.InitStopped {
		p.note("the target's init is stopped by a signal")
	}
	if p.c.Cgroup == CgroupNone || slices.Contains(p.c.AcceptLoss, LossCgroup) {
		p.note("accounted outside of the target's cgroup")
		if len(p.t.frozen) > 0 {
			p.note("the target is frozen: what the command asks of its processes waits")
		}
		return nil
	}
	p.inTarget, p.Cgroup = true, cgroup.Unified(p.t.groups)
	return p.freeze()
}

// openGroup makes the session's cgroup; without one a shepherd does its work.
func (c *Cmd) openGroup(spec *forkexec.Spec, plan *Plan) {
	path := cgroup.Unified(c.target.groups)
	if !plan.inTarget {
		path = cgroup.Unified(c.target.ownGroups)
	}
	tree := c.target.groupTree(path)
	if tree == nil || path == "" {
		return
	}
	group, err := tree.NewSession(path, c.Leave)
	if err != nil {
		return
	}
	c.group = group
	spec.Groups = &forkexec.GroupTree{Parent: group.Parent, Dir: group.Dir, Name: group.Name}
}

// moveInto makes a session that has no group of its own move into the target's
// , unless it is there already.
func (c *Cmd) moveInto(spec *forkexec.Spec, plan *Plan) (held, error) {
	if !plan.inTarget || cgroup.Together(c.target.groups, c.target.ownGroups) {
		return nil, nil
	}
	tree, err := cgroup.OpenTree()
	if err != nil {
		return nil, lossOfCgroup(err)
	}
	defer tree.Close()
	procs, err := tree.OpenProcs(cgroup.Unified(c.target.groups))
	if err != nil {
		return nil, lossOfCgroup(err)
	}
	spec.V1 = append(spec.V1, procs) // written to in the same way
	return held{procs}, nil
}

// lossOfCgroup says that a command would not be accounted as its target is.
func lossOfCgroup(err error) error {
	return fmt.Errorf("%w: %w", &LossError{[]Loss{LossCgroup}}, err)
}

// endGroup removes the session's cgroup with all that is in it.
func (c *Cmd) endGroup() { c.dropGroup((*cgroup.Session).End) }

func (c *Cmd) dropGroup(end func(*cgroup.Session) error) {
	if c.group != nil {
		_ = end(c.group)
		c.group.Release()
		c.group = nil
	}
}

// tasks opens the version 1 groups that have to be joined, if any.
func (c *Cmd) tasks() ([]*os.File, error) {
	t := c.target
	groups := cgroup.Elsewhere(t.groups, t.ownGroups)
	if len(groups) == 0 {
		return nil, nil
	}
	self, err := t.fs.Self()
	if err != nil {
		return nil, err
	}
	defer self.Close()
	b, err := self.ReadFile("mountinfo")
	if err != nil {
		return nil, err
	}
	return cgroup.OpenTasks(groups, procfs.ParseMounts(b))
}
