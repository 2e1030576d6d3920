// SPDX-License-Identifier: Apache-2.0

package forkexec

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/sys"
)

// injected is an error that no call of a session has by itself.
const injected = unix.EDOM

// A variant is one of the ways in which sessions are held together and reaped.
type variant struct{ grouped, modern, terminal bool }

func (v variant) String() string {
	name := "shepherd"
	if v.grouped {
		name = "cgroup"
	}
	if v.terminal {
		name += ", terminal"
	}
	if v.modern {
		return name + ", 6.15"
	}
	return name + ", before 6.15"
}

// variants are those that this kernel has.
func variants(t *testing.T) []variant {
	vs := []variant{{true, false, false}, {false, false, false}, {false, false, true}}
	if os.Getenv("OUTBAND_REQUIRE") == "all" || sys.ReapsByPidfd() {
		return append(vs, variant{true, true, false}, variant{false, true, false}, variant{true, true, true})
	}
	t.Log("without PIDFD_INFO_EXIT (6.15)")
	return vs
}

// thoroughSpec has every step that a Spec can have and leaves a process behind
// when its command ends, with the code 5.
func (x *target) thoroughSpec(v variant) (*Spec, func()) {
	x.t.Helper()
	s, release := x.spec(v.grouped, "trap '' HUP; sleep 1000 & exit 5")
	if v.terminal {
		s.Stdin, s.Stdout, s.Stderr = nil, nil, nil
		s.Terminal = &Terminal{Rows: 10, Cols: 40, Modes: &unix.Termios{}, Owner: 33, Group: 5}
	}
	open := func(path string) *os.File {
		f, err := os.OpenFile(path, unix.O_PATH, 0)
		if err != nil {
			x.t.Fatal(err)
		}
		return f
	}
	device := open("/")
	if !v.terminal {
		s.Stdin, s.Null = nil, &Null{Root: device}
	}
	root, cwd, proc := open(fmt.Sprintf("/proc/%d/root", x.pid)), open(fmt.Sprintf("/proc/%d/cwd", x.pid)), open("/proc")
	oom := 7
	s.Root, s.Cwd, s.Proc, s.OOM, s.V1 = root, cwd, proc, &oom, []*os.File{x.null}
	s.Limits = []Limit{
		{unix.RLIMIT_NOFILE, unix.Rlimit{Cur: 512, Max: 512}},
		{unix.RLIMIT_CORE, unix.Rlimit{Cur: 0, Max: 0}},
	}
	const some = 1<<unix.CAP_CHOWN | 1<<unix.CAP_KILL
	s.Before = &Identity{SetGroups: true, Keep: permitted(x.t)}
	s.User = &Identity{UID: [3]uint32{33, 33, 33}, GID: [3]uint32{33, 33, 33}, SetGroups: true, Groups: []uint32{1, 2}, Keep: permitted(x.t)}
	s.Caps = &Caps{Permitted: some, Effective: some, Inheritable: some, Ambient: some, Drop: 1 << unix.CAP_SYS_BOOT, Securebits: 1}
	s.NoPrivs = true
	s.Label = &Label{File: "comm", Text: "labelled"} // for want of one: any file of the process's own
	io, slack, persona := 2<<13|7, uint64(70000), uint64(0x0040000)
	s.Sched = Scheduling{Affinity: []uint64{1}, Policy: &SchedAttr{0, 3, 0}, IOPriority: &io, TimerSlack: &slack, Personality: &persona}
	s.Filters, s.TargetPID = len(filters()), x.pid
	return s, func() {
		device.Close()
		root.Close()
		cwd.Close()
		proc.Close()
		release()
	}
}

// stepsInside are calls that processes on their way in make once filters are
// installed, and that a filter of a container may forbid.
var stepsInside = []int{
	unix.SYS_CAPSET, unix.SYS_CLONE3, unix.SYS_CLOSE_RANGE, unix.SYS_SENDMSG, unix.SYS_SETGROUPS,
	unix.SYS_SETRESGID, unix.SYS_SETRESUID, unix.SYS_SETSID, unix.SYS_WAITID,
}

// filters are those of a target's init.
func filters() [][]byte {
	return [][]byte{refuse(unix.SECCOMP_RET_ERRNO|uint32(unix.EPERM), unix.SYS_ACCT), refuse(unix.SECCOMP_RET_KILL_PROCESS, stepsInside...)}
}

// refuse is a filter under which calls have a certain result.
func refuse(result uint32, calls ...int) (program []byte) {
	add := func(code uint16, jt, jf byte, k uint32) {
		program = binary.LittleEndian.AppendUint32(append(program, byte(code), byte(code>>8), jt, jf), k)
	}
	add(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, 0, 0, 0)
	for _, nr := range calls {
		add(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, 0, 1, uint32(nr))
		add(unix.BPF_RET|unix.BPF_K, 0, 0, result)
	}
	add(unix.BPF_RET|unix.BPF_K, 0, 0, unix.SECCOMP_RET_ALLOW)
	return program
}

// permitted is the capabilities of the test.
func permitted(t testing.TB) uint64 {
	t.Helper()
	header, data := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, [2]unix.CapUserData{}
	if err := unix.Capget(&header, &data[0]); err != nil {
		t.Fatal(err)
	}
	return uint64(data[0].Permitted) | uint64(data[1].Permitted)<<32
}

// result is how a session went.
type result struct {
	Status
	err error
}

func (r result) String() string { return fmt.Sprintf("%+v, %v", r.Status, r.err) }

// normal tells whether nothing is wrong.
func (r result) normal() bool { return r.err == nil && r.Status == Status{Code: 5} }

// tells tells whether the session says that step failed with the injected error.
func (r result) tells(step Step) bool {
	var e *Error
	return errors.As(r.err, &e) && *e == Error{step, injected}
}

// stepsOf are the steps of a program.
func stepsOf(spec Spec, modern bool) []Step {
	var steps []Step
	spec.Modern = modern
	for _, o := range assemble(&spec, nil, nil, nil).ops {
		if s := Step(o.step); s != StepNone && !slices.Contains(steps, s) {
			steps = append(steps, s)
		}
	}
	slices.Sort(steps)
	return steps
}

// TestEachStepFails makes every step fail as a whole.
func TestEachStepFails(t *testing.T) {
	x := newTarget(t)
	for _, v := range variants(t) {
		t.Run(v.String(), func(t *testing.T) {
			spec, release := x.thoroughSpec(v)
			steps := stepsOf(*spec, v.modern)
			release()
			for _, step := range steps {
				x.in(t).failStep(t, v, step)
			}
		})
	}
}

// failStep runs a session in which step fails.
func (x *target) failStep(t *testing.T, v variant, step Step) {
	t.Helper()
	before := takeCensus()
	spec, release := x.thoroughSpec(v)
	spec.Faults = map[Step]unix.Errno{step: injected}
	var r result
	r.Status, r.err = x.run(spec, v.modern)
	switch step {
	case StepEndSession: // nothing could be killed: that is told, and the caller's to end
		if r.err != nil || !r.Left || r.Code != 5 {
			t.Errorf("%q: %v", step, r)
		}
		before.adopt(t)
	case StepReap: // neither is a status to be had nor a child to be reaped
		if !errors.Is(r.err, errNoStatus) {
			t.Errorf("%q: %v", step, r)
		}
		before.adopt(t)
	default:
		if !r.tells(step) {
			t.Errorf("%q: %v", step, r)
		}
		x.checkNothingLeft(step.String(), spec)
	}
	release()
	x.clearVisitors()
	before.check(t)
	if t.Failed() {
		t.Fatalf("%q", step)
	}
}

// checkNothingLeft finds nothing of the session in the target, and no cgroup.
func (x *target) checkNothingLeft(after string, spec *Spec) {
	x.t.Helper()
	if g := spec.Groups; g != nil && g.exists() {
		x.t.Errorf("%s: the cgroup is left", after)
	}
	x.empty(after)
}

// A sabotage replaces one op.
type sabotage struct {
	name string
	code int64
	arg  word
}

var (
	failing = sabotage{"fails", opFail, num(-int(injected))}
	dying   = sabotage{"is where the process is killed", unix.SYS_EXIT_GROUP, num(77)}
	hanging = sabotage{"does not return", unix.SYS_PPOLL, num(0)} // no descriptor, no timeout
)

// at makes a program suffer s at op i.
func (s sabotage) at(i int) func(*program) {
	return func(p *program) {
		o := &p.ops[i]
		o.code, o.words = s.code, [6]word{s.arg}
	}
}

// impatient makes the end of a session that cannot be ended come sooner.
func (p *program) impatient() {
	for i := range p.ops {
		if o := &p.ops[i]; o.code == opSame && o.words[1] == num(endBudgetMS/endStepMS) {
			o.words[1] = num(20)
		}
	}
}

// placeOf is the index of the op that the label of that name is at.
func (p *program) placeOf(name string) int {
	for l, n := range p.names {
		if n == name {
			return p.labels[l]
		}
	}
	return len(p.ops)
}

// TestEachOpFails kills the process at every single op, then makes every op
// fail, of sessions that leave something behind. Ops whose failure goes to the
// process's report must be told, the others must do no harm. In between, where
// a process computes or closes something, it is killed in the soak only.
func TestEachOpFails(t *testing.T) {
	x := newTarget(t)
	for _, v := range variants(t) {
		t.Run(v.String(), func(t *testing.T) {
			spec, release := x.thoroughSpec(v)
			spec.Modern = v.modern
			p := assemble(spec, nil, nil, nil).program
			release()
			for i, o := range p.ops {
				if dull := o.code < 0 || o.code == unix.SYS_CLOSE; dull && !soak() {
					continue
				}
				died := x.in(t).sabotaged(t, v, p, i, dying)
				if o.code < 0 {
					continue
				}
				r := x.in(t).sabotaged(t, v, p, i, failing)
				checkFailure(t, p, i, !died.normal(), r)
			}
		})
	}
}

// sabotaged runs a session that suffers s at op i and checks that it leaves
// nothing that it does not tell.
func (x *target) sabotaged(t *testing.T, v variant, p *program, i int, s sabotage) result {
	t.Helper()
	before := takeCensus()
	spec, release := x.thoroughSpec(v)
	spec.alter = s.at(i)
	if s == failing && Step(p.ops[i].step) == StepEndSession {
		spec.alter = func(p *program) { s.at(i)(p); p.impatient() }
	}
	var r result
	r.Status, r.err = x.run(spec, v.modern)
	step, inWarden := Step(p.ops[i].step), i < p.placeOf("joiner")
	what := fmt.Sprintf("op %d, %s, %s: %v", i, step, s.name, r)
	switch {
	case s == dying && inWarden: // what is left of it is the caller's to end
		before.adopt(t)
		release()
	case step == StepReap || step == StepEndSession:
		before.adopt(t)
		if r.normal() {
			x.checkNothingLeft(what, spec)
		}
		release()
	case r.Left:
		if v.grouped {
			t.Error(what)
		}
		release()
	default:
		x.checkNothingLeft(what, spec)
		release()
	}
	if v.grouped {
		x.empty(what)
	}
	x.clearVisitors()
	before.check(t)
	if t.Failed() {
		t.Fatal(what)
	}
	return r
}

// checkFailure judges how a session went whose op i failed.
func checkFailure(t *testing.T, p *program, i int, reached bool, r result) {
	t.Helper()
	o := p.ops[i]
	step := Step(o.step)
	mustTell := reached && (p.names[o.err] == "lost" || p.names[o.err] == "failed") &&
		step != StepReap && step != StepEndSession // of a shepherd, who has nobody to tell
	switch {
	case r.tells(step):
		return
	case mustTell:
	case r.normal():
		return
	case step == StepReap && (errors.Is(r.err, errNoStatus) || r.Left),
		step == StepEndSession && r.Left && (r.err == nil && r.Code == 5 || errors.Is(r.err, errNoStatus)),
		step == StepReport && errors.Is(r.err, ErrWardenLost),
		// A filter in force too early has killed who is on the way in, or a shepherd.
		step == StepTrace && (errors.Is(r.err, ErrKilled) || r.Left):
		return
	}
	t.Fatalf("op %d, %s, fails: %v", i, step, r)
}

// TestEachOpHangs has joiner, shepherd and command stop for ever at every op:
// Start and Wait return all the same (A30), and nothing is left but what is
// told. (The warden is outside of the target; SECURITY.md on stopping it.)
func TestEachOpHangs(t *testing.T) {
	x := newTarget(t)
	before := takeCensus()
	places := make(chan struct{}, 32) // they wait most of the time
	var all sync.WaitGroup
	for _, v := range variants(t) {
		spec, release := x.thoroughSpec(v)
		spec.Modern = v.modern
		p := assemble(spec, nil, nil, nil).program
		release()
		for i := p.placeOf("joiner"); i < len(p.ops); i++ {
			if o := p.ops[i]; (o.code < 0 || o.code == unix.SYS_CLOSE) && !soak() || letsGo(o) {
				continue
			}
			places <- struct{}{}
			spec, release := x.thoroughSpec(v)
			spec.alter = hanging.at(i)
			all.Go(func() {
				r := x.hung(spec, v.modern)
				what := fmt.Sprintf("%s, op %d, %s: %v", v, i, Step(p.ops[i].step), r)
				checkHung(t, spec, what, r)
				release()
				<-places
			})
		}
	}
	all.Wait()
	x.clearVisitors()
	before.check(t)
}

// letsGo tells whether o is where a tracer lets go of a command that is executed
// and stopped: it is outside, as the warden is.
func letsGo(o pendingOp) bool {
	return o.code == unix.SYS_PTRACE && o.words[0] == num(unix.PTRACE_DETACH)
}

// hung is a session that may take no longer than a moment to begin.
func (x *target) hung(spec *Spec, modern bool) result {
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	s, err := start(ctx, *spec, modern)
	if err != nil {
		return result{err: err}
	}
	defer hangUp(s)
	var r result
	r.Status, r.err = wait(x.t, s)
	return r
}

// checkHung judges how a session went of which one process hung.
func checkHung(t *testing.T, spec *Spec, what string, r result) {
	t.Helper()
	switch {
	case r.normal(), errors.Is(r.err, ErrDeadline):
	case spec.Groups == nil && r.Left && (r.err == nil || errors.Is(r.err, errNoStatus)): // the shepherd hung
	default:
		t.Error(what)
	}
	if g := spec.Groups; g != nil && g.exists() {
		t.Errorf("%s: the cgroup is left", what)
	}
}
