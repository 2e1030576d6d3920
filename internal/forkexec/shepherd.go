// SPDX-License-Identifier: Apache-2.0

package forkexec

import "golang.org/x/sys/unix"

// Where no cgroup can be made, a session is held together by a shepherd: a
// process inside, parent of the command and subreaper of whatever the command
// leaves behind. It holds no more than the target's init. Shepherd and warden
// talk over the link of the joiner:
//
//	warden → shepherd   a word: go on
//	shepherd → warden   the pidfd of the command (ancillary)
//	warden → command    a word: go on
//	shepherd → warden   siginfo_t of the command, when it has ended
//	warden → shepherd   a byte: reap what is dead
//	shepherd → warden   a byte: reapNone nothing is left, reapSome something lives
//	warden closes       the shepherd ends
//
// From the fourth line on the shepherd reaps only when told, so that the
// numbers of its children, which the warden reads from outside and kills, stay
// theirs in between.
const (
	reapSome = 1
	reapNone = 2
)

// shepherd emits the shepherd; what follows is the command.
func (b *builder) shepherd() {
	command, loop, over := b.named("command"), b.label(), b.label()
	b.prctl(StepForkShepherd, unix.PR_SET_CHILD_SUBREAPER, num(1))
	pidfd, pid := b.variable(0), b.variable(0)
	b.call(StepForkShepherd, unix.SYS_CLONE3, b.cloneArgs(unix.CLONE_PIDFD, pidfd, unix.SIGCHLD), num(cloneArgsSize)).into(pid)
	b.ifSame(pid.value(), num(0), command)
	b.prctl(StepForkShepherd, unix.PR_SET_NAME, b.text("outband")).tolerate()
	b.handOver(pidfd)
	b.close(StepCloseFiles, num(0), num(1), num(2), num(fdExec), pidfd.value())

	// Reap whoever dies until it is the command.
	info, who := b.reserve(statusSize), b.variable(0)
	b.place(loop)
	b.call(StepReap, unix.SYS_WAITID, num(unix.P_ALL), num(0), info, num(unix.WEXITED), num(0))
	b.compute(opLoad, at(info, 16)).into(who) // si_pid
	b.compute(opAnd, who.value(), num(uint64(0xffffffff))).into(who)
	b.unless(who.value(), pid.value(), loop)
	b.call(StepReap, unix.SYS_SENDTO, b.link[1].value(), info, num(statusSize), num(unix.MSG_NOSIGNAL), num(0), num(0))

	told, answer, n, reap := b.label(), b.variable(0), b.variable(0), b.label()
	b.place(told)
	b.call(StepEndSession, unix.SYS_READ, b.link[1].value(), answer.address(), num(8)).into(n)
	b.ifSame(n.value(), num(0), over)
	b.place(reap)
	b.set(variable{info.n + 16}, num(0))
	some, none := b.label(), b.label()
	b.call(StepReap, unix.SYS_WAITID, num(unix.P_ALL), num(0), info, num(unix.WEXITED|unix.WNOHANG), num(0)).orElse(none)
	b.compute(opLoad, at(info, 16)).into(who)
	b.compute(opAnd, who.value(), num(uint64(0xffffffff))).into(who)
	b.unless(who.value(), num(0), reap)
	b.place(some)
	b.set(answer, num(reapSome))
	b.call(StepReap, unix.SYS_WRITE, b.link[1].value(), answer.address(), num(8)).then(told)
	b.place(none)
	b.set(answer, num(reapNone))
	b.call(StepReap, unix.SYS_WRITE, b.link[1].value(), answer.address(), num(8)).then(told)
	b.place(over)
	b.exit(0)

	b.place(command)
	b.awaitWord()
}

// Sizes of what the warden reads of the shepherd's children.
const (
	childrenSize = 4096 // of the list, bytes; what does not fit comes in the next round
	pidSize      = 24   // of one number and a blank
)

// shepherdStatus reads the command's status from the shepherd. All waiting for
// it together has one budget, which Linux counts down: it may be stopped.
func (b *builder) shepherdStatus() {
	ps := b.polls(1)
	b.watch(ps[0], b.link[0].value(), unix.POLLIN)
	b.poll(StepReap, ps, b.patience).tolerate()
	b.call(StepReap, unix.SYS_RECVFROM, b.link[0].value(), b.status, num(statusSize), num(unix.MSG_DONTWAIT), num(0), num(0)).tolerate()
}

// endFlock ends what the command left behind and then the shepherd.
func (b *builder) endFlock() {
	over, stuck, done := b.label(), b.label(), b.label()
	if !b.spec.Leave {
		b.ifSame(b.begun.value(), num(0), over)
		b.killFlock(over, stuck)
		b.place(stuck)
		b.set(b.left, num(endedLeft))
	}
	b.place(over)
	b.close(StepEndSession, b.link[0].value())
	b.ifSame(b.child.value(), num(noFD), done)
	b.kill(StepEndSession, b.child.value())
	ps := b.polls(1)
	b.watch(ps[0], b.child.value(), b.exitEvent())
	b.poll(StepEndSession, ps, b.timespec(endBudgetMS)).tolerate()
	b.place(done)
}

// killFlock kills the children of the shepherd, and what they leave to it,
// until nothing is left (over) or the budget is spent (stuck).
func (b *builder) killFlock(over, stuck label) {
	list := b.openChildren(stuck)
	buffer := b.reserve(childrenSize + 8)
	n, end, answer := b.variable(0), b.variable(0), b.variable(0)
	round, told := b.here(), b.label()
	b.call(StepEndSession, unix.SYS_PREAD64, list.value(), buffer, num(childrenSize), num(0)).into(n).orElse(stuck)
	b.compute(opAdd, buffer, n.value()).into(end)
	b.compute(opPut, end.value(), num(0))
	b.killEach(buffer)

	// Let the shepherd reap, and hear whether anything lives.
	ps := b.polls(1)
	b.call(StepEndSession, unix.SYS_WRITE, b.link[0].value(), b.words(num(1)), num(8)).orElse(stuck)
	b.watch(ps[0], b.link[0].value(), unix.POLLIN)
	b.poll(StepEndSession, ps, b.patience).orElse(stuck)
	b.ifReady(ps[0], told)
	b.jump(stuck)
	b.place(told)
	b.call(StepEndSession, unix.SYS_READ, b.link[0].value(), answer.address(), num(8)).into(n).orElse(stuck)
	b.ifSame(n.value(), num(0), stuck)
	b.ifSame(answer.value(), num(reapNone), over)
	b.retry(round, stuck)
}

// openChildren opens /proc/PID/task/PID/children of the shepherd. Its number is
// read from the warden's own list, where it is the last one, since it is the
// youngest: the joiner is gone, a tracer is older.
func (b *builder) openChildren(stuck label) variable {
	b.words(num(uint64(' ') << 56)) // a blank before the first number
	list := b.reserve(2*pidSize + 8)
	number, n, char, dir := b.variable(0), b.variable(0), b.variable(0), b.variable(0)
	if b.spec.Modern {
		ps := b.polls(1)
		b.watch(ps[0], b.joiner.value(), b.exitEvent())
		b.poll(StepEndSession, ps, b.timespec(endBudgetMS)).tolerate()
	}
	open := func(at word, path word, flags int) {
		b.call(StepEndSession, unix.SYS_OPENAT, at, path, num(flags|unix.O_CLOEXEC), num(0)).into(dir).orElse(stuck)
	}
	open(num(unix.AT_FDCWD), b.text("/proc/thread-self/children"), unix.O_RDONLY)
	b.call(StepEndSession, unix.SYS_READ, dir.value(), list, num(2*pidSize)).into(n).orElse(stuck)
	b.ifSame(n.value(), num(0), stuck)
	b.compute(opAdd, list, n.value()).into(number)
	b.compute(opAdd, number.value(), num(-1)).into(number) // the blank behind it
	b.compute(opPut, number.value(), num(0))
	back := b.here()
	b.compute(opAdd, number.value(), num(-1)).into(number)
	b.compute(opLoad, number.value()).into(char)
	b.compute(opAnd, char.value(), num(0xff)).into(char)
	b.unless(char.value(), num(' '), back)
	b.compute(opAdd, number.value(), num(1)).into(number)
	open(num(unix.AT_FDCWD), b.text("/proc"), unix.O_PATH)
	open(dir.value(), number.value(), unix.O_PATH)
	open(dir.value(), b.text("task"), unix.O_PATH)
	open(dir.value(), number.value(), unix.O_PATH)
	open(dir.value(), b.text("children"), unix.O_RDONLY)
	return dir
}

// killEach kills every process whose number is in a list of decimal numbers,
// each followed by a blank, that a NUL ends. A number cut off at the end of the
// list is left for the next round.
func (b *builder) killEach(list word) {
	at, pid, char, fd := b.variable(0), b.variable(0), b.variable(0), b.variable(0)
	number, digit, whole, skip, done := b.label(), b.label(), b.label(), b.label(), b.label()
	b.set(at, list)
	b.place(number)
	b.set(pid, num(0))
	b.place(digit)
	b.compute(opLoad, at.value()).into(char)
	b.compute(opAnd, char.value(), num(0xff)).into(char)
	b.ifSame(char.value(), num(0), done)
	b.compute(opAdd, at.value(), num(1)).into(at)
	b.ifSame(char.value(), num(' '), whole)
	b.compute(opMultiply, pid.value(), num(10)).into(pid)
	b.compute(opAdd, char.value(), num(-'0')).into(char)
	b.compute(opAdd, pid.value(), char.value()).into(pid)
	b.jump(digit)
	b.place(whole)
	b.call(StepEndSession, unix.SYS_PIDFD_OPEN, pid.value(), num(0)).into(fd).orElse(skip)
	b.kill(StepEndSession, fd.value())
	b.close(StepEndSession, fd.value())
	b.place(skip)
	b.jump(number)
	b.place(done)
}
