// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"path"
	"strconv"
	"strings"

	"github.com/outband/outband/internal/cgroup"
	"github.com/outband/outband/internal/procfs"
)

// limits reads what the cgroups of a container let it have (A31): those of its
// own and those above, each of which bounds it.
func limits(_ context.Context, p *patient) func(*Report) {
	groups := whole(p.groups)
	found := &Report{}
	found.boundedProcesses(groups, p.mounts)
	found.boundedMemory(groups, p.mounts)
	found.boundedCPU(groups, p.mounts)
	for l := range cgroup.Levels(groups, "", p.mounts) {
		found.pressure(l)
		break
	}
	return func(r *Report) {
		r.Limits = append(r.Limits, found.Limits...)
		r.OOMKills, r.CPU, r.Pressure = found.OOMKills, found.CPU, found.Pressure
		r.Unseen = append(r.Unseen, found.Unseen...)
	}
}

// whole are the groups of a container: its init may be in one of its own below,
// where init systems put it.
func whole(groups []procfs.Group) []procfs.Group {
	list := make([]procfs.Group, len(groups))
	for i, g := range groups {
		if path.Base(g.Path) == "init.scope" && path.Dir(g.Path) != "/" {
			g.Path = path.Dir(g.Path)
		}
		list[i] = g
	}
	return list
}

// tighter tells whether less is left of a limit than of another one.
func tighter(a, b *Limit) bool {
	switch {
	case b == nil:
		return true
	case a.Max == nil || b.Max == nil:
		return a.Max != nil
	}
	return a.share() > b.share()
}

// share is how much of a limit is used up, 1 being all of it.
func (l *Limit) share() float64 {
	if l.Max == nil {
		return 0
	}
	return float64(l.Used-min(l.Used, l.Reclaimable)) / max(float64(*l.Max), 1)
}

// addTightest adds the limit of which least is left.
func (r *Report) addTightest(list []*Limit) {
	var worst *Limit
	for _, l := range list {
		if tighter(l, worst) {
			worst = l
		}
	}
	if worst != nil {
		r.Limits = append(r.Limits, *worst)
	}
}

// bound is a limit as a file of a group has it; nil for one that is not bounded.
func bound(n uint64, err error) *uint64 {
	if err != nil || n == cgroup.Unlimited {
		return nil
	}
	return &n
}

func (r *Report) boundedProcesses(groups []procfs.Group, mounts func() []procfs.Mount) {
	var list []*Limit
	for l := range cgroup.Levels(groups, "pids", mounts) {
		used, err := l.Number("pids.current")
		if err != nil {
			continue
		}
		events, _ := l.Values("pids.events")
		list = append(list, &Limit{Name: "processes", Used: used, Max: bound(l.Number("pids.max")), Of: l.Path, Refused: events["max"]})
	}
	r.addTightest(list)
}

func (r *Report) boundedMemory(groups []procfs.Group, mounts func() []procfs.Mount) {
	var list []*Limit
	for l := range cgroup.Levels(groups, "memory", mounts) {
		m := memory(l)
		if m == nil {
			continue
		}
		if len(list) == 0 {
			r.OOMKills = oomKills(l)
		}
		list = append(list, m)
	}
	r.addTightest(list)
}

// memory is what a group has of it; nil where that is not counted.
func memory(l cgroup.Level) *Limit {
	used, most, refused := "memory.current", "memory.max", uint64(0)
	if l.V1 {
		used, most = "memory.usage_in_bytes", "memory.limit_in_bytes"
		refused, _ = l.Number("memory.failcnt")
	} else {
		events, _ := l.Values("memory.events")
		refused = events["max"]
	}
	n, err := l.Number(used)
	if err != nil {
		return nil
	}
	stat, _ := l.Values("memory.stat")
	prefix := ""
	if l.V1 {
		prefix = "total_"
	}
	return &Limit{
		Name: "memory", Used: n, Reclaimable: stat[prefix+"inactive_file"] + stat[prefix+"active_file"],
		Max: bound(l.Number(most)), Of: l.Path, Refused: refused,
	}
}

// oomKills is how many processes were ended for want of memory, see cgroups(7).
// Version 1 counts those of the group alone, not of groups below.
func oomKills(l cgroup.Level) uint64 {
	file := "memory.events"
	if l.V1 {
		file = "memory.oom_control"
	}
	values, _ := l.Values(file)
	return values["oom_kill"]
}

// boundedCPU finds the group that was held back most.
func (r *Report) boundedCPU(groups []procfs.Group, mounts func() []procfs.Mount) {
	for l := range cgroup.Levels(groups, "cpu", mounts) {
		stat, err := l.Values("cpu.stat")
		if err != nil || stat["nr_periods"] == 0 {
			continue
		}
		c := &CPU{stat["nr_periods"], stat["nr_throttled"], l.Path}
		if r.CPU == nil || c.share() > r.CPU.share() {
			r.CPU = c
		}
	}
}

// share is the share of periods in which the CPU was used up.
func (c *CPU) share() float64 { return float64(c.Throttled) / max(float64(c.Periods), 1) }

// pressure reads the pressure of a group (PSI, 4.20).
func (r *Report) pressure(l cgroup.Level) {
	for _, name := range [...]string{"cpu", "memory", "io"} {
		if text, err := l.Read(name + ".pressure"); err == nil {
			some, full := parsePressure(text)
			r.Pressure = append(r.Pressure, Pressure{name, some, full})
		}
	}
}

// parsePressure parses a file of pressures: its averages of ten seconds.
func parsePressure(text string) (some, full float64) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		value, ok := strings.CutPrefix(f[1], "avg10=")
		n, err := strconv.ParseFloat(value, 64)
		if !ok || err != nil || !(n >= 0 && n <= 100) {
			continue
		}
		switch f[0] {
		case "some":
			some = n
		case "full":
			full = n
		}
	}
	return some, full
}
