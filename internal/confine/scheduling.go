// SPDX-License-Identifier: Apache-2.0

package confine

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/sys"
)

// Scheduling is how a process is scheduled (sched(7)), and what else of the
// kernel's treatment of it a child inherits.
type Scheduling struct {
	procfs.Scheduling
	IOPriority  int    // class << 13 | level, ioprio_set(2)
	CPUs        string // allowed, as status has them: hexadecimal words of 32 bits, the last first
	TimerSlack  uint64 // nanoseconds; 0 where the reader may not know
	Personality uint64 // personality(2)
}

// readScheduling reads it of the process whose directory, status and stat are
// given.
func readScheduling(dir *procfs.Dir, status procfs.Status, stat []byte) (s Scheduling, err error) {
	if s.Scheduling, err = procfs.ParseScheduling(stat); err != nil {
		return s, err
	}
	s.CPUs = status.CPUs
	priority, err := sys.IOPriority(status.NSpid[0])
	if err != nil {
		return s, err
	}
	s.IOPriority = ioPriority(priority)
	if s.TimerSlack, err = number(dir, "timerslack_ns", 10); err != nil {
		return s, err
	}
	s.Personality, err = number(dir, "personality", 16)
	return s, err
}

// ownScheduling asks it of the calling thread, whose status is given.
func ownScheduling(status procfs.Status) (s Scheduling, err error) {
	s.CPUs = status.CPUs
	attr, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		return s, err
	}
	s.Policy, s.Priority = int(attr.Policy), int(attr.Priority)
	if s.Nice, err = sys.Nice(); err != nil {
		return s, err
	}
	priority, err := sys.IOPriority(0)
	if err != nil {
		return s, err
	}
	s.IOPriority = ioPriority(priority)
	if s.TimerSlack, err = sys.TimerSlack(); err != nil {
		return s, err
	}
	s.Personality, err = sys.Personality()
	return s, err
}

// ioPriority is an I/O priority as ioprio_set(2) takes it: the class "none" has
// no levels. Linux 5.10 says level 4 of it for a process without one.
func ioPriority(n int) int {
	const classShift = 13
	if n>>classShift == 0 {
		return 0
	}
	return n
}

// number reads a file that holds one; 0 where the reader may not, or the kernel
// has no such file. Whoever may not read it may not enter either, or owns it.
func number(dir *procfs.Dir, file string, base int) (uint64, error) {
	b, err := dir.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(string(bytes.TrimSpace(b)), base, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w: %q", file, procfs.ErrFormat, b)
	}
	return n, nil
}

// compare returns in what p is scheduled otherwise than init.
func (s Scheduling) compare(p Scheduling, add func(field string, init, process any, more bool)) {
	add("policy", policyName(s.Policy), policyName(p.Policy), realTime(p.Policy) && !realTime(s.Policy))
	add("nice", s.Nice, p.Nice, p.Nice < s.Nice)
	add("realtime_priority", s.Priority, p.Priority, p.Priority > s.Priority)
	add("io_priority", s.IOPriority, p.IOPriority, false)
	add("cpus", s.CPUs, p.CPUs, false)
	if s.TimerSlack != 0 && p.TimerSlack != 0 {
		add("timer_slack", s.TimerSlack, p.TimerSlack, false)
	}
	add("personality", fmt.Sprintf("%08x", s.Personality), fmt.Sprintf("%08x", p.Personality), false)
}

// policyNames by SCHED_*.
var policyNames = map[int]string{
	unix.SCHED_NORMAL: "other", unix.SCHED_FIFO: "fifo", unix.SCHED_RR: "rr", unix.SCHED_BATCH: "batch",
	unix.SCHED_IDLE: "idle", unix.SCHED_DEADLINE: "deadline",
}

// policyName is the name of a scheduling policy, as chrt(1) has it.
func policyName(policy int) string {
	if name, ok := policyNames[policy]; ok {
		return name
	}
	return strconv.Itoa(policy)
}

func realTime(policy int) bool {
	return policy == unix.SCHED_FIFO || policy == unix.SCHED_RR || policy == unix.SCHED_DEADLINE
}

// PolicyName is the name of the policy, as chrt(1) has it.
func (s Scheduling) PolicyName() string { return policyName(s.Policy) }
