// SPDX-License-Identifier: Apache-2.0

package forkexec

import "golang.org/x/sys/unix"

// System call filters (seccomp(2)) are in no file. The joiner reads them of the
// target's init, which it stops for that (ptrace(2)), some ten microseconds long,
// before it joins anything. The same process of ours installs them, while it
// may: without no_new_privs that takes CAP_SYS_ADMIN.
//
// Filters may forbid the very calls by which a process gives up what it holds,
// clones and executes. So they are suspended (PTRACE_O_SUSPEND_SECCOMP) until
// the command is executed. That takes a tracer, which is a process of its own:
// whoever waits for a tracee can wait for nothing else.
//
//	warden ──clone3──▶ joiner            tracer ◀──clone3── warden
//	          reads      │ ◀── seize ────── │
//	          joins …    │                  │
//	          awaits ◀───┼──── a word ──────┤
//	          installs   │                  │
//	          clones     ├── event ───────▶ │ goes on with both
//	                  command ─ exec ─────▶ │ lets go of it: the filters are in force
//
// Where the tracer is killed, the filters are in force from there on: less may
// succeed then, nothing more. With a shepherd, which never executes anything,
// the tracer stays for as long as that does.

// traceOptions of the tracer: filters are suspended, and whatever a tracee
// makes is traced as well. ptrace(2); PTRACE_O_SUSPEND_SECCOMP needs
// CAP_SYS_ADMIN in the initial user namespace and a tracer without filters (4.3).
const traceOptions = unix.PTRACE_O_SUSPEND_SECCOMP | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEEXEC

// forkTracer makes the tracer of the joiner with the number pid. Warden code.
func (b *builder) forkTracer(pid variable) {
	if b.spec.Filters == 0 {
		return
	}
	b.joinerPID = pid
	child := b.variable(0)
	b.call(StepTrace, unix.SYS_CLONE3, b.cloneArgs(unix.CLONE_PIDFD, b.tracerFD, unix.SIGCHLD), num(cloneArgsSize)).into(child)
	b.ifSame(child.value(), num(0), b.tracerL)
}

// endTracer lets go of whatever is traced. Warden code.
func (b *builder) endTracer() {
	if b.spec.Filters > 0 {
		b.kill(StepEndSession, b.tracerFD.value())
	}
}

// tracer emits the process under which filters are suspended.
func (b *builder) tracer() {
	if b.spec.Filters == 0 {
		return
	}
	status, pid := b.variable(0), b.variable(0)
	wait, exec, over := b.label(), b.label(), b.label()

	b.place(b.tracerL)
	b.onFailure(b.tellL)
	b.close(StepCloseFiles, num(0), num(1), num(2), num(fdLink), num(fdTool), b.groupParent, b.groupDir, b.link[1].value(),
		b.target, b.root, b.cwd, b.proc, b.nullFile)
	b.close(StepCloseFiles, append(b.v1, b.hold...)...)
	b.prctl(StepTrace, unix.PR_SET_PDEATHSIG, num(int(unix.SIGKILL)))
	b.ptrace(StepTrace, unix.PTRACE_SEIZE, b.joinerPID.value(), num(0), num(traceOptions))
	// A19: while the pidfd says that the joiner lives, the number was its own.
	ps := b.polls(1)
	b.watch(ps[0], b.joiner.value(), unix.POLLIN)
	b.poll(StepTrace, ps, b.words(num(0), num(0)))
	b.ifReady(ps[0], over)
	b.call(StepTrace, unix.SYS_WRITE, b.link[0].value(), b.words(num(1)), num(8))
	b.close(StepCloseFiles, num(fdExec), b.link[0].value())

	b.place(wait)
	b.call(StepTrace, unix.SYS_WAIT4, num(-1), status.address(), num(unix.WALL), num(0)).into(pid).orElse(over) // ECHILD
	b.decode(status)
	b.ifSame(b.event.value(), num(ended), wait)
	b.ifSame(b.event.value(), num(unix.PTRACE_EVENT_EXEC<<16), exec)
	b.ptrace(StepTrace, unix.PTRACE_CONT, pid.value(), num(0), b.signal.value()).then(wait).orElse(over) // killed meanwhile: all is over
	b.place(exec)
	b.ptrace(StepTrace, unix.PTRACE_DETACH, pid.value(), num(0), num(0)).then(wait).orElse(over)
	b.place(over)
	b.exit(0)
}

func (b *builder) ptrace(s Step, request int, pid, addr, data word) *pendingOp {
	return b.call(s, unix.SYS_PTRACE, num(request), pid, addr, data)
}

// Sizes of what is read: the longest filter (BPF_MAXINSNS instructions of 8
// bytes), and how often one is asked for who has another tracer, about once a
// millisecond.
const (
	filterSize = 4096 * 8
	seizeTries = 1000
)

// read reads the filters of the target's init, the oldest first. Joiner code.
//
// That a process has but one tracer is the lock among those who read at the
// same time. Errors: EPERM without the right to trace, or where somebody else
// traces it all the time; EACCES without CAP_SYS_ADMIN in the initial user
// namespace, or under filters of one's own; ESRCH where it is gone; ESTALE where
// it has other filters than it was said to have.
func (b *builder) read() {
	if b.spec.Filters == 0 {
		return
	}
	b.seizeInit()
	pid, memory := num(b.spec.TargetPID), b.variable(0)
	b.call(StepReadFilters, unix.SYS_MMAP, num(0), num(b.spec.Filters*filterSize), num(unix.PROT_READ|unix.PROT_WRITE),
		num(unix.MAP_PRIVATE|unix.MAP_ANONYMOUS), num(-1), num(0)).into(memory)
	for i := range b.spec.Filters {
		f := filter{b.variable(0), b.variable(0), b.words(num(i), num(0))}
		b.compute(opAdd, memory.value(), num(i*filterSize)).into(f.program)
		b.ptrace(StepReadFilters, unix.PTRACE_SECCOMP_GET_FILTER, pid, num(i), f.program.value()).into(f.length)
		b.ptrace(StepReadFilters, unix.PTRACE_SECCOMP_GET_METADATA, pid, num(16), f.metadata)
		b.filters = append(b.filters, f)
		b.attend(f)
	}
	last, stale := b.label(), b.label()
	b.ptrace(StepReadFilters, unix.PTRACE_SECCOMP_GET_FILTER, pid, num(b.spec.Filters), num(0)).then(stale).orElse(next)
	b.ifSame(lastErrno(), num(int(unix.ENOENT)), last)
	b.jump(b.failed)
	b.place(stale)
	b.emit(StepReadFilters, opFail, []word{num(-int(unix.ESTALE))})
	b.place(last)
	b.ptrace(StepReadFilters, unix.PTRACE_DETACH, pid, num(0), b.signal.value())
}

// attend looks through a filter for instructions that hand a system call to a
// listener (SECCOMP_RET_USER_NOTIF) or a tracer (SECCOMP_RET_TRACE), which the
// command has not: such a call fails with ENOSYS.
func (b *builder) attend(f filter) {
	const (
		size   = 8                         // of struct sock_filter: code, jt, jf, k
		mask   = 0xffff0000<<32 | 0xffff   // the action in k, and code
		ret    = unix.BPF_RET | unix.BPF_K // code
		notify = unix.SECCOMP_RET_USER_NOTIF<<32 | ret
		trace  = unix.SECCOMP_RET_TRACE<<32 | ret
	)
	instruction, end, word := b.variable(0), b.variable(0), b.variable(0)
	found, done := b.label(), b.label()
	b.set(instruction, f.program.value())
	b.compute(opMultiply, f.length.value(), num(size)).into(end)
	b.compute(opAdd, end.value(), f.program.value()).into(end)
	loop := b.here()
	b.ifSame(instruction.value(), end.value(), done)
	b.compute(opLoad, instruction.value()).into(word)
	b.compute(opAnd, word.value(), num(uint64(mask))).into(word)
	b.compute(opAdd, instruction.value(), num(size)).into(instruction)
	b.ifSame(word.value(), num(uint64(notify)), found)
	b.unless(word.value(), num(uint64(trace)), loop)
	b.place(found)
	b.set(b.learned, num(learnedUnattended))
	b.place(done)
}

// A filter is where one of the target's is kept.
type filter struct {
	length, program variable // struct sock_fprog, one word each
	metadata        word     // struct seccomp_metadata: its number and its flags
}

// seizeInit makes the joiner the tracer of the target's init, and waits until
// that has stopped.
func (b *builder) seizeInit() {
	pid, tries, status := num(b.spec.TargetPID), b.variable(0), b.variable(0)
	seized, refused, gone, alive := b.label(), b.label(), b.label(), b.label()
	again := b.here()
	b.ptrace(StepReadFilters, unix.PTRACE_SEIZE, pid, num(0), num(0)).then(seized).orElse(refused)
	b.place(refused)
	b.unless(lastErrno(), num(int(unix.EPERM)), b.failed)
	b.ifSame(tries.value(), num(seizeTries), b.failed)
	b.compute(opAdd, tries.value(), num(1)).into(tries)
	b.pause(StepReadFilters, again)

	b.place(seized)
	// A19: while the pidfd says that init lives, the number was its own.
	ps := b.polls(1)
	b.watch(ps[0], b.target, unix.POLLIN)
	b.poll(StepReadFilters, ps, b.words(num(0), num(0)))
	b.ifReady(ps[0], gone)
	b.ptrace(StepReadFilters, unix.PTRACE_INTERRUPT, pid, num(0), num(0))
	b.call(StepReadFilters, unix.SYS_WAIT4, pid, status.address(), num(unix.WALL), num(0))
	b.decode(status)
	b.ifSame(b.event.value(), num(ended), gone)
	b.jump(alive)
	b.place(gone)
	b.emit(StepReadFilters, opFail, []word{num(-int(unix.ESRCH))})
	b.place(alive)
}

// install installs what was read, so that the chain is the same. Joiner code.
func (b *builder) install() {
	if b.spec.Filters == 0 {
		return
	}
	b.hear() // the tracer: they are suspended
	const setModeFilter = 1
	for _, f := range b.filters {
		b.call(StepFilters, unix.SYS_SECCOMP, num(setModeFilter), variable{f.metadata.n + 8}.value(), f.length.address())
	}
}

// What decode makes of a wait status, wait(2): the event of a stop, which is 0
// where a signal is to be delivered; or that the process has ended.
const ended = 1 << 24

// decode takes a wait status apart: the event, and the signal to go on with.
func (b *builder) decode(status variable) {
	const stopped = 0x7f // the low byte
	over, known := b.label(), b.label()
	b.set(b.signal, num(0))
	b.compute(opAnd, status.value(), num(0xff)).into(b.event)
	b.unless(b.event.value(), num(stopped), over)
	b.compute(opAnd, status.value(), num(0xff0000)).into(b.event)
	b.unless(b.event.value(), num(0), known)
	b.compute(opLoad, at(status.address(), 1)).into(b.signal)
	b.compute(opAnd, b.signal.value(), num(0xff)).into(b.signal)
	b.jump(known)
	b.place(over)
	b.set(b.event, num(ended))
	b.place(known)
}
