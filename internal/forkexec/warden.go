// SPDX-License-Identifier: Apache-2.0

package forkexec

import "golang.org/x/sys/unix"

// How long a warden waits for what it has killed, and how often it looks.
const (
	endBudgetMS = 2000
	endStepMS   = 1
)

// warden emits the process that stays outside the target for as long as the
// session lasts: it forks the joiner, watches caller and command, reaps, ends
// the session, hands the status back. All it holds is this program.
func (b *builder) warden() {
	b.joinerL, b.tracerL, b.tellL = b.named("joiner"), b.named("tracer"), b.named("failed")
	lost, abort, end, gone := b.named("lost"), b.named("abort"), b.named("end"), b.named("gone")
	b.onFailure(lost)

	b.harden("outband-warden")
	b.forkJoiner()
	b.expect(b.joiner, b.child, abort)
	b.reapJoiner()
	if b.spec.Groups == nil {
		b.word() // the shepherd goes on: its words must not overtake the joiner's
		b.expect(b.child, b.command, abort)
	} else {
		b.set(b.command, b.child.value())
	}
	b.begin()
	b.awaitCommand(end)
	b.jump(gone)
	b.giveUp(lost, abort, end)
	b.place(gone)
	b.endSession()
	b.report()
}

// harden makes the process unreadable, deaf and alone, and calls it name.
func (b *builder) harden(name string) {
	// A1: nothing of a process on its way in can be read or traced (prctl(2),
	// PR_SET_DUMPABLE); children inherit it until they execute.
	b.prctl(StepHarden, unix.PR_SET_DUMPABLE, num(0))
	b.prctl(StepHarden, unix.PR_SET_NAME, b.text(name))
	b.blockSignals(^uint64(0))
	b.resetSignals()
	// A2, A4: whatever the caller or its parents left open is closed for good,
	// not merely on exec.
	b.call(StepCloseFiles, unix.SYS_CLOSE_RANGE, num(len(b.files)), num(uint64(^uint32(0))), num(0))
	b.call(StepHostDirectory, unix.SYS_CHDIR, b.text("/"))
	// A21: a crash on the way leaves no core, soft limit only, so that the
	// target's own can be set before the exec.
	limit := b.words(num(0), num(0))
	b.call(StepLimits, unix.SYS_PRLIMIT64, num(0), num(unix.RLIMIT_CORE), num(0), limit)
	b.set(variable{limit.n}, num(0))
	b.call(StepLimits, unix.SYS_PRLIMIT64, num(0), num(unix.RLIMIT_CORE), limit, num(0))
}

// blockSignals sets the signal mask.
func (b *builder) blockSignals(mask uint64) {
	b.call(StepSignals, unix.SYS_RT_SIGPROCMASK, num(2), b.words(num(mask)), num(0), num(8)) // SIG_SETMASK
}

// lastSignal is SIGRTMAX.
const lastSignal = 64

// resetSignals gives every signal its default disposition (A34): what the
// caller ignored would stay ignored through an exec.
func (b *builder) resetSignals() {
	action := b.reserve(32) // struct sigaction, all zero: SIG_DFL
	signal := b.variable(1)
	loop, done := b.here(), b.label()
	b.ifSame(signal.value(), num(lastSignal+1), done)
	b.call(StepSignals, unix.SYS_RT_SIGACTION, signal.value(), action, num(0), num(8)).tolerate() // not KILL and STOP
	b.compute(opAdd, signal.value(), num(1)).into(signal).then(loop)
	b.place(done)
}

// forkJoiner makes the joiner, born in the session's cgroup, and lets go of all
// that only the joiner needs.
func (b *builder) forkJoiner() {
	pair := b.reserve(16) // int[2], read a word at a time
	b.call(StepSocket, unix.SYS_SOCKETPAIR, num(unix.AF_UNIX), num(unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC), num(0), pair)
	for i, v := range b.link {
		b.compute(opLoad, at(pair, 4*i)).into(v)
		b.compute(opAnd, v.value(), num(uint64(0xffffffff))).into(v)
	}
	if b.spec.Modern {
		// Ruling 5: children are reaped by the kernel, so that even a stopped
		// warden cannot hold the container.
		b.childSignal(1) // SIG_IGN
	}
	flags := uint64(unix.CLONE_PIDFD)
	if b.spec.Groups != nil {
		flags |= unix.CLONE_INTO_CGROUP
	}
	pid := b.variable(0)
	b.call(StepForkJoiner, unix.SYS_CLONE3, b.cloneArgs(flags, b.joiner, unix.SIGCHLD), num(cloneArgsSize)).into(pid)
	b.ifSame(pid.value(), num(0), b.joinerL)
	b.forkTracer(pid)
	b.close(StepCloseFiles, num(0), num(1), num(2), num(fdExec), b.root, b.cwd, b.proc, b.nullFile, b.link[1].value())
	b.close(StepCloseFiles, b.v1...)
}

// childSignal sets the disposition of SIGCHLD: 0 default, 1 ignored.
func (b *builder) childSignal(handler uint64) {
	action := b.words(num(handler), num(0), num(0), num(0))
	b.call(StepSignals, unix.SYS_RT_SIGACTION, num(int(unix.SIGCHLD)), action, num(0), num(8))
}

// watchCaller makes two entries wait for the end of the caller: by its socket,
// which it shuts down to give up and which closes with it, and by its pidfd.
func (b *builder) watchCaller(link, tool variable) {
	b.watch(link, num(fdLink), unix.POLLRDHUP)
	b.watch(tool, num(fdTool), unix.POLLIN)
}

// expect waits until sender (joiner or shepherd, a pidfd) hands over a process,
// whose pidfd goes to v; at abort, where sender or caller are gone before (A30).
// A session that has not begun is not detached yet either.
func (b *builder) expect(sender, v variable, abort label) {
	ps, received, dry := b.polls(5), b.label(), b.label()
	b.watch(ps[0], b.link[0].value(), unix.POLLIN)
	b.watch(ps[1], sender.value(), b.exitEvent())
	b.watchCaller(ps[2], ps[3])
	b.watch(ps[4], b.tracerFD.value(), b.exitEvent()) // it stays until an exec; noFD where there is none
	wait := b.here()
	b.poll(StepWatch, ps, num(0))
	b.ifReady(ps[0], received)
	b.ifReady(ps[1], received) // its last word may be there nevertheless
	b.ifReady(ps[2], abort)
	b.ifReady(ps[3], abort)
	b.ifReady(ps[4], abort)
	b.jump(wait)

	b.place(received)
	hand, n, done := b.message(true, b.learned.address(), num(8)), b.variable(0), b.label()
	b.call(StepHandOver, unix.SYS_RECVMSG, b.link[0].value(), hand.header, num(unix.MSG_CMSG_CLOEXEC|unix.MSG_DONTWAIT)).into(n).orElse(dry)
	b.ifSame(n.value(), num(0), abort)
	b.takeFD(hand, v)
	b.jump(done)
	b.place(dry)
	b.ifSame(lastErrno(), num(int(unix.EAGAIN)), abort)
	b.jump(b.failed)
	b.place(done)
}

// reapJoiner reaps the joiner, which has nothing left to do but exit, and kills
// it, lest it is stopped or frozen before it does.
func (b *builder) reapJoiner() {
	if b.spec.Modern {
		return
	}
	ps := b.polls(1)
	b.watch(ps[0], b.joiner.value(), unix.POLLIN)
	b.kill(StepReap, b.joiner.value())
	b.poll(StepReap, ps, b.timespec(endBudgetMS)).tolerate()
	b.reap(b.joiner.value(), num(0))
}

// word lets the process go on that waits in awaitWord. EPIPE says that it was
// killed meanwhile, which its pidfd tells as well.
func (b *builder) word() {
	said := b.label()
	b.call(StepReport, unix.SYS_WRITE, b.link[0].value(), b.words(num(1)), num(8)).then(said).orElse(next)
	b.unless(lastErrno(), num(int(unix.EPIPE)), b.failed)
	b.place(said)
}

// begin tells the caller that the session has begun, gives it the command, and
// only then lets that one execute: where Start fails nothing was executed.
func (b *builder) begin() {
	m := b.message(true, b.words(num(messageStarted)), num(8), b.learned.address(), num(8))
	b.set(m.fd, b.command.value())
	b.call(StepReport, unix.SYS_SENDMSG, num(fdLink), m.header, num(unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL))
	b.set(b.begun, num(1))
	b.word()
}

// reap reaps the child that pidfd refers to if it is dead; its siginfo_t goes
// to info.
func (b *builder) reap(pidfd, info word) {
	b.call(StepReap, unix.SYS_WAITID, num(unix.P_PIDFD), pidfd, info, num(unix.WEXITED|unix.WNOHANG), num(0)).tolerate()
}

// awaitCommand waits for the end of the command and stores its status. At end
// the command is made to end first; there goes whatever no longer can wait.
func (b *builder) awaitCommand(end label) {
	over := b.label()
	ps := b.polls(4)
	for _, unused := range ps {
		b.watch(unused, num(noFD), 0)
	}
	b.watch(ps[0], b.command.value(), b.deathOfCommand())
	if b.spec.Groups == nil {
		b.watch(ps[1], b.child.value(), b.exitEvent()) // its shepherd
	}
	if !b.spec.Detach {
		b.watchCaller(ps[2], ps[3])
	}
	loop := b.here()
	b.poll(StepWatch, ps, num(0))
	b.ifReady(ps[0], over)
	b.ifReady(ps[1], over)
	b.ifReady(ps[2], end)
	b.ifReady(ps[3], end)
	b.jump(loop)

	b.place(end)
	if b.spec.Groups != nil {
		b.endTracer() // a tracee that is dead is not reaped before
	}
	dead := b.polls(1)
	b.watch(dead[0], b.command.value(), b.deathOfCommand())
	b.kill(StepEndSession, b.command.value())
	b.poll(StepEndSession, dead, b.timespec(endBudgetMS)).tolerate()
	b.place(over)
	b.takeStatus()
}

// giveUp is what the warden does that has failed (lost), which is reported at
// the end, or whose joiner or caller is gone before the session began (abort).
func (b *builder) giveUp(lost, abort, end label) {
	b.place(lost)
	b.set(b.failure[0], lastErrno())
	b.set(b.failure[1], lastStep())
	b.unless(b.begun.value(), num(0), end)
	b.place(abort)
	b.endTracer()
	b.kill(StepEndSession, b.child.value())
}

// deathOfCommand is what tells the end of the command on its pidfd. A shepherd
// is not relied on for it: what runs inside may have stopped it.
func (b *builder) deathOfCommand() int16 {
	if b.spec.Groups == nil {
		return unix.POLLIN
	}
	return b.exitEvent()
}

// exitEvent is what tells the end on a pidfd: of a child that is reaped by the
// kernel its being reaped (POLLHUP, always reported), else its being a zombie.
func (b *builder) exitEvent() int16 {
	if b.spec.Modern {
		return 0
	}
	return unix.POLLIN
}

// PIDFD_GET_INFO for the first version of struct pidfd_info (6.13), and the
// bit that asks for the exit status (6.15).
const (
	pidfdGetInfo  = 0xc040ff0b
	pidfdInfoExit = 1 << 3
)

// takeStatus stores how the process inside ended. A status that cannot be had
// stays zero, which the caller can tell from every real one.
func (b *builder) takeStatus() {
	if b.spec.Groups == nil {
		b.shepherdStatus()
		return
	}
	if !b.spec.Modern {
		b.reap(b.child.value(), b.status)
		return
	}
	mask, known := variable{b.status.n}, b.label()
	b.set(mask, num(pidfdInfoExit))
	b.call(StepReap, unix.SYS_IOCTL, b.child.value(), num(pidfdGetInfo), b.status).then(known).orElse(next)
	b.set(mask, num(0))
	b.place(known)
}

// endSession ends whatever is left of the session. Nothing in it goes to lost:
// a step that fails makes the session one of which something is left.
func (b *builder) endSession() {
	b.kill(StepEndSession, b.joiner.value()) // gone, unless it was stopped at its last step
	if b.spec.Groups == nil {
		b.endFlock()
	} else {
		b.close(StepEndSession, b.link[0].value()) // who waits for a word leaves
		b.endGroup()
	}
	b.endTracer()
	b.reapAll()
}

// endGroup removes the session's cgroup; while it is not empty, what is in it
// is killed, unless it may stay.
func (b *builder) endGroup() {
	remove, kill, done, stuck := b.label(), b.label(), b.label(), b.label()
	name, one := b.text(b.spec.Groups.Name), b.text("1")

	b.place(remove)
	b.call(StepEndSession, unix.SYS_UNLINKAT, b.groupParent, name, num(unix.AT_REMOVEDIR)).then(done).orElse(next)
	if b.spec.Leave {
		b.unless(b.begun.value(), num(0), done)
	}
	b.unless(lastErrno(), num(int(unix.EBUSY)), stuck)
	b.ifSame(b.tries.value(), num(0), kill)
	again := b.here()
	b.retry(remove, stuck)

	b.place(kill)
	file := b.variable(0)
	b.call(StepEndSession, unix.SYS_OPENAT, b.groupDir, b.text("cgroup.kill"), num(unix.O_WRONLY|unix.O_CLOEXEC), num(0)).into(file).orElse(stuck)
	b.call(StepEndSession, unix.SYS_WRITE, file.value(), one, num(1)).then(again).orElse(stuck)

	b.place(stuck)
	b.set(b.left, num(endedLeft))
	b.place(done)
}

// retry continues at l after a pause, or at stuck when the session's budget of
// pauses is spent.
func (b *builder) retry(l, stuck label) {
	b.ifSame(b.tries.value(), num(endBudgetMS/endStepMS), stuck)
	b.compute(opAdd, b.tries.value(), num(1)).into(b.tries)
	b.pause(StepEndSession, l)
}

// pause continues at l after endStepMS.
func (b *builder) pause(s Step, l label) {
	pause := b.words(num(0), num(0))
	b.set(variable{pause.n + 8}, num(endStepMS*1_000_000)) // Linux has counted it down
	b.poll(s, nil, pause).then(l).orElse(l)
}

// reapAll waits for the warden's last children, such as a process inside that
// was never handed over: none is to be left to the caller's init or subreaper.
func (b *builder) reapAll() {
	again, done, stuck := b.here(), b.label(), b.label()
	b.call(StepReap, unix.SYS_WAITID, num(unix.P_ALL), num(0), num(0), num(unix.WEXITED|unix.WNOHANG), num(0)).orElse(done) // ECHILD
	b.retry(again, stuck)
	b.place(stuck)
	b.set(b.left, num(endedLeft))
	b.place(done)
}

// report hands back the status, or what made the warden fail, and ends it.
func (b *builder) report() {
	failed := b.label()
	b.unless(b.failure[0].value(), num(0), failed)
	m := b.message(false, b.words(num(messageEnded)), num(8), b.left.address(), num(8), b.status, num(statusSize))
	b.call(StepReport, unix.SYS_SENDMSG, num(fdLink), m.header, num(unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)).tolerate()
	b.exit(0)

	b.place(failed)
	m = b.message(false, b.words(num(messageLost)), num(8), b.failure[0].address(), num(headerSize))
	b.call(StepNone, unix.SYS_SENDMSG, num(fdLink), m.header, num(unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)).tolerate()
	b.exit(1)
}
