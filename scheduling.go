// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/forkexec"
)

// SchedulingPlan is how a command will be scheduled (sched(7)).
type SchedulingPlan struct {
	Policy      string `json:"policy"` // other, fifo, rr, batch, idle; as chrt(1) has them
	Nice        int    `json:"nice"`
	Priority    int    `json:"priority"`    // of fifo and rr
	IOPriority  int    `json:"io_priority"` // class << 13 | level, ioprio_set(2)
	CPUs        string `json:"cpus"`        // hexadecimal mask
	TimerSlack  uint64 `json:"timer_slack"` // nanoseconds; 0: not known
	Personality uint64 `json:"personality"`
}

// scheduling decides how the command is scheduled: as init is, but never better
// than the caller can give.
func (p *planner) scheduling() error {
	want, own := p.t.state.Scheduling, p.t.ownState.Scheduling
	mayRaise := p.t.ownStatus.CapEff&(1<<unix.CAP_SYS_NICE) != 0 && p.initialUser()
	better := want.Nice < own.Nice || want.Priority > own.Priority
	switch {
	case want.Scheduling == own.Scheduling:
	case want.Policy == unix.SCHED_DEADLINE:
		p.note("init is scheduled by deadlines, which no child inherits")
		want.Scheduling = own.Scheduling
	case better && !mayRaise:
		p.note("scheduling stays the caller's: %s, nice %d, is not the caller's to give", want.PolicyName(), want.Nice)
		want.Scheduling = own.Scheduling
	default:
		p.sched.Policy = &forkexec.SchedAttr{Policy: uint32(want.Policy), Nice: int32(want.Nice), Priority: uint32(want.Priority)}
	}
	p.ioPriority(&want.IOPriority, own.IOPriority, mayRaise)
	if mask := cpuMask(want.CPUs); want.CPUs != own.CPUs && mask != nil {
		if p.c.Cgroup == CgroupNone { // where other CPUs may be allowed
			want.CPUs = own.CPUs
			p.note("CPUs stay the caller's, outside of the target's cgroup")
		} else {
			p.sched.Affinity = mask
		}
	}
	if want.TimerSlack != 0 && want.TimerSlack != own.TimerSlack {
		p.sched.TimerSlack = &want.TimerSlack
	}
	if want.Personality != own.Personality {
		p.sched.Personality = &want.Personality
	}
	p.Scheduling = SchedulingPlan{want.PolicyName(), want.Nice, want.Priority, want.IOPriority, want.CPUs, want.TimerSlack, want.Personality}
	return nil
}

// ioPriority decides the I/O priority; the class for real time is CAP_SYS_NICE's.
func (p *planner) ioPriority(want *int, own int, mayRaise bool) {
	const classShift, realTime = 13, 1
	switch {
	case *want == own:
	case *want>>classShift == realTime && !mayRaise:
		p.note("I/O priority stays the caller's: that of init is not the caller's to give")
		*want = own
	default:
		io := *want
		p.sched.IOPriority = &io
	}
}

// cpuMask reads hexadecimal words of 32 bits, the last first, with commas
// between them, as words of 64 bits, the first first; nil if they are none.
func cpuMask(list string) []uint64 {
	var mask []uint64
	words := strings.Split(list, ",")
	for i := range words {
		n, err := strconv.ParseUint(words[len(words)-1-i], 16, 32)
		if err != nil {
			return nil
		}
		if i%2 == 0 {
			mask = append(mask, n)
		} else {
			mask[i/2] |= n << 32
		}
	}
	return mask
}
