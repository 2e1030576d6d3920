// SPDX-License-Identifier: Apache-2.0

package forkexec

import "golang.org/x/sys/unix"

// Filter is one system call filter, see seccomp(2).
type Filter struct {
	Program []byte // its instructions, 8 bytes each (struct sock_filter)
	Flags   uint32 // of seccomp(2)
}

// Filters may forbid the very calls by which a process gives up what it holds,
// clones and executes. So they are installed first, by the joiner, while it has
// the right to, and suspended (PTRACE_O_SUSPEND_SECCOMP) until the command is
// executed. That takes a tracer, which is a process of its own: whoever waits
// for a tracee can wait for nothing else.
//
//	warden ──clone3──▶ joiner            tracer ◀──clone3── warden
//	          joins …    │  ◀──seize──────  │
//	          awaits ◀───┼────a word────────┤
//	          installs   │                  │
//	          clones     ├─ event ────────▶ │ goes on with both
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
	if len(b.spec.Filters) == 0 {
		return
	}
	b.joinerPID = pid
	child := b.variable(0)
	b.call(StepTrace, unix.SYS_CLONE3, b.cloneArgs(unix.CLONE_PIDFD, b.tracerFD, unix.SIGCHLD), num(cloneArgsSize)).into(child)
	b.ifSame(child.value(), num(0), b.tracerL)
}

// endTracer lets go of whatever is traced. Warden code.
func (b *builder) endTracer() {
	if len(b.spec.Filters) > 0 {
		b.kill(StepEndSession, b.tracerFD.value())
	}
}

// tracer emits the process under which filters are suspended.
func (b *builder) tracer() {
	if len(b.spec.Filters) == 0 {
		return
	}
	status, event, sig, pid := b.variable(0), b.variable(0), b.variable(0), b.variable(0)
	wait, goOn, exec, over := b.label(), b.label(), b.label(), b.label()

	b.place(b.tracerL)
	b.onFailure(b.tellL)
	b.close(StepCloseFiles, num(0), num(1), num(2), num(fdLink), num(fdTool), b.groupParent, b.groupDir, b.link[1].value(),
		b.target, b.root, b.cwd, b.proc)
	b.close(StepCloseFiles, append(b.v1, b.hold...)...)
	b.prctl(StepTrace, unix.PR_SET_PDEATHSIG, num(int(unix.SIGKILL)))
	b.ptrace(unix.PTRACE_SEIZE, b.joinerPID.value(), num(traceOptions))
	// A19: while the pidfd says that the joiner lives, the number was its own.
	ps := b.polls(1)
	b.watch(ps[0], b.joiner.value(), unix.POLLIN)
	b.poll(StepTrace, ps, b.words(num(0), num(0)))
	b.ifReady(ps[0], over)
	b.call(StepTrace, unix.SYS_WRITE, b.link[0].value(), b.words(num(1)), num(8))
	b.close(StepCloseFiles, num(fdExec), b.link[0].value())

	b.place(wait)
	b.call(StepTrace, unix.SYS_WAIT4, num(-1), status.address(), num(unix.WALL), num(0)).into(pid).orElse(over) // ECHILD
	b.compute(opAnd, status.value(), num(0xff)).into(event)
	b.unless(event.value(), num(stopped), wait) // that one has ended
	b.compute(opAnd, status.value(), num(0xff0000)).into(event)
	b.set(sig, num(0))
	b.ifSame(event.value(), num(unix.PTRACE_EVENT_EXEC<<16), exec)
	b.unless(event.value(), num(0), goOn)
	b.compute(opLoad, at(status.address(), 1)).into(sig) // without an event a signal is to be delivered
	b.compute(opAnd, sig.value(), num(0xff)).into(sig)
	b.place(goOn)
	b.ptrace(unix.PTRACE_CONT, pid.value(), sig.value()).then(wait).orElse(over) // killed meanwhile: all is over
	b.place(exec)
	b.ptrace(unix.PTRACE_DETACH, pid.value(), num(0)).then(wait).orElse(over)
	b.place(over)
	b.exit(0)
}

// stopped is the low byte of a wait status that says so, wait(2).
const stopped = 0x7f

func (b *builder) ptrace(request int, pid, data word) *pendingOp {
	return b.call(StepTrace, unix.SYS_PTRACE, num(request), pid, num(0), data)
}

// install installs the filters of the target's init, the oldest first, so that
// the chain is the same. Joiner code.
func (b *builder) install() {
	if len(b.spec.Filters) == 0 {
		return
	}
	b.hear() // the tracer: they are suspended
	const setModeFilter = 1
	for _, f := range b.spec.Filters {
		program := b.words(num(len(f.Program)/8), b.bytes(f.Program)) // struct sock_fprog
		b.call(StepFilters, unix.SYS_SECCOMP, num(setModeFilter), num(f.Flags), program)
	}
}
