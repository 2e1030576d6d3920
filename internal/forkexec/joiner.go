// SPDX-License-Identifier: Apache-2.0

package forkexec

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// joining emits the joiner, which does everything that needs privilege and then
// makes the process inside, and that process.
//
// Ruling 2: what is numbered inside never holds more than the target's init
// does. So all is given up before the clone that gives a number inside, and
// whatever may hang on the target's files happens before it as well.
func (b *builder) joining() {
	b.place(b.joinerL)
	b.onFailure(b.tellL)

	// A2: nothing of the host stays open but streams and report lines.
	b.close(StepCloseFiles, num(fdLink), num(fdTool), b.groupParent, b.groupDir, b.link[0].value())
	b.close(StepCloseFiles, b.hold...)
	if b.spec.Modern {
		b.childSignal(0)
	}
	b.tieToWarden()
	b.null()
	b.read()
	b.settle()
	b.takeIdentity(StepHostIdentity, StepHostIdentity, StepHostIdentity, b.spec.Before)
	b.enter()
	b.terminal()
	b.install()
	b.become()
	b.tieToWarden() // a change of credentials undoes it
	b.directory()
	b.touchCommand()
	b.cloneInside()

	b.place(b.tellL)
	b.call(StepNone, unix.SYS_WRITE, num(fdExec), num(dataBase), num(headerSize)).tolerate()
	b.exit(1)
}

// settle takes over what is not part of a namespace: cgroup v1, keyring, oom
// score, limits.
func (b *builder) settle() {
	zero := b.text("0")
	for _, fd := range b.v1 {
		b.call(StepCgroup, unix.SYS_WRITE, fd, zero, num(1))
	}
	b.close(StepCloseFiles, b.v1...)
	// A33: the caller's session keyring stays outside; without keyrings in the
	// kernel there is nothing to keep.
	keyring, after := b.label(), b.label()
	b.call(StepKeyring, unix.SYS_KEYCTL, num(unix.KEYCTL_JOIN_SESSION_KEYRING), num(0)).then(after).orElse(keyring)
	b.place(keyring)
	b.ifSame(lastErrno(), num(int(unix.ENOSYS)), after)
	b.jump(b.failed)
	b.place(after)
	if b.spec.OOM != nil {
		b.writeProc(StepOOMScore, "self/oom_score_adj", itoa(*b.spec.OOM), b.failed)
	}
	if l := b.spec.Label; l != nil {
		refused := b.failed
		if l.Optional {
			refused = next
		}
		b.writeProc(StepLabel, "thread-self/"+l.File, l.Text, refused)
	}
	b.close(StepCloseFiles, b.proc)
	b.schedule()
	for _, l := range b.spec.Limits {
		if l.Resource != unix.RLIMIT_CORE { // the command's last act: A21
			b.limit(l)
		}
	}
}

// writeProc writes text to a file of the process's own in procfs; at refused
// where that fails.
func (b *builder) writeProc(s Step, path, text string, refused label) {
	fd := b.variable(noFD)
	b.call(s, unix.SYS_OPENAT, b.proc, b.text(path), num(unix.O_WRONLY|unix.O_CLOEXEC), num(0)).into(fd).orElse(refused)
	b.call(s, unix.SYS_WRITE, fd.value(), b.text(text), num(len(text))).orElse(refused)
	b.close(StepCloseFiles, fd.value())
}

// schedule takes over how the target's init is scheduled, once the cgroups are
// joined, which decide on CPUs as well.
func (b *builder) schedule() {
	s := b.spec.Sched
	if len(s.Affinity) > 0 {
		mask := make([]word, len(s.Affinity))
		for i, cpus := range s.Affinity {
			mask[i] = num(cpus)
		}
		b.call(StepScheduling, unix.SYS_SCHED_SETAFFINITY, num(0), num(8*len(mask)), b.words(mask...))
	}
	if a := s.Policy; a != nil {
		const size = 48                                         // of the first version of struct sched_attr
		attr := b.words(num(size|uint64(a.Policy)<<32), num(0), // flags
			num(uint64(uint32(a.Nice))|uint64(a.Priority)<<32), num(0), num(0), num(0))
		b.call(StepScheduling, unix.SYS_SCHED_SETATTR, num(0), attr, num(0))
	}
	if s.IOPriority != nil {
		const process = 1 // IOPRIO_WHO_PROCESS
		b.call(StepScheduling, unix.SYS_IOPRIO_SET, num(process), num(0), num(*s.IOPriority))
	}
	if s.TimerSlack != nil {
		b.prctl(StepScheduling, unix.PR_SET_TIMERSLACK, num(*s.TimerSlack), num(0), num(0), num(0))
	}
	if s.Personality != nil {
		b.call(StepScheduling, unix.SYS_PERSONALITY, num(*s.Personality))
	}
}

func (b *builder) limit(l Limit) {
	b.call(StepLimits, unix.SYS_PRLIMIT64, num(0), num(l.Resource), b.words(num(l.Cur), num(l.Max)), num(0))
}

// enter joins the namespaces and takes the root directory of the target.
func (b *builder) enter() {
	if b.spec.Join != 0 {
		b.call(StepJoin, unix.SYS_SETNS, b.target, num(b.spec.Join))
	}
	b.close(StepCloseFiles, b.target)
	if b.spec.Root != nil {
		b.call(StepRoot, unix.SYS_FCHDIR, b.root)
		b.call(StepRoot, unix.SYS_CHROOT, b.text("."))
		b.close(StepCloseFiles, b.root)
	}
	b.call(StepUmask, unix.SYS_UMASK, num(b.spec.Umask))
}

// become gives up whatever the target's init does not hold, in the order in
// which each step still may.
func (b *builder) become() {
	if c := b.spec.Caps; c != nil {
		for n := range 64 {
			if c.Drop&(1<<n) != 0 {
				b.prctl(StepBounding, unix.PR_CAPBSET_DROP, num(n))
			}
		}
		if c.Securebits != 0 {
			b.prctl(StepSecurebits, unix.PR_SET_SECUREBITS, num(c.Securebits))
		}
	}
	b.takeIdentity(StepGroups, StepGroup, StepUser, b.spec.User)
	if c := b.spec.Caps; c != nil {
		b.capset(StepCapabilities, c.Permitted, c.Effective, c.Inheritable)
		b.prctl(StepCapabilities, unix.PR_CAP_AMBIENT, num(unix.PR_CAP_AMBIENT_CLEAR_ALL), num(0), num(0), num(0))
		for n := range 64 {
			if c.Ambient&(1<<n) != 0 {
				b.prctl(StepCapabilities, unix.PR_CAP_AMBIENT, num(unix.PR_CAP_AMBIENT_RAISE), num(n), num(0), num(0))
			}
		}
	}
	if b.spec.NoPrivs {
		b.prctl(StepNoNewPrivs, unix.PR_SET_NO_NEW_PRIVS, num(1), num(0), num(0), num(0))
	}
	// A1: a change of credentials may have made the process readable again.
	b.prctl(StepHarden, unix.PR_SET_DUMPABLE, num(0))
}

// takeIdentity changes groups, then group, then user (A37), keeping permitted
// capabilities over the change.
func (b *builder) takeIdentity(groups, group, user Step, id *Identity) {
	if id == nil {
		return
	}
	if id.SetGroups {
		var list bytes.Buffer
		_ = binary.Write(&list, binary.LittleEndian, id.Groups)
		b.call(groups, unix.SYS_SETGROUPS, num(len(id.Groups)), b.text(list.String()))
	}
	b.call(group, unix.SYS_SETRESGID, num(id.GID[0]), num(id.GID[1]), num(id.GID[2]))
	b.prctl(user, unix.PR_SET_KEEPCAPS, num(1))
	b.call(user, unix.SYS_SETRESUID, num(id.UID[0]), num(id.UID[1]), num(id.UID[2]))
	if id.Keep != 0 {
		b.capset(user, id.Keep, id.Keep, 0)
	}
}

// capset sets three of the capability sets, see capset(2).
func (b *builder) capset(s Step, permitted, effective, inheritable uint64) {
	const version3, low = 0x20080522, 0xffffffff
	b.call(s, unix.SYS_CAPSET, b.words(num(version3)), b.words(
		num(effective&low|permitted<<32), num(inheritable&low|effective>>32<<32),
		num(permitted>>32|inheritable>>32<<32)))
}

// directory takes the working directory: the one asked for, or that of the
// target's init, or the root where that one cannot be had.
func (b *builder) directory() {
	const pathMax = 4096
	buffer, first, check, done := b.reserve(pathMax), b.variable(0), b.label(), b.label()
	if b.spec.Dir != "" {
		b.call(StepDirectory, unix.SYS_CHDIR, b.text(b.spec.Dir)).then(check)
	} else {
		root := b.label()
		if b.spec.Cwd != nil {
			b.call(StepDirectory, unix.SYS_FCHDIR, b.cwd).then(check).orElse(root)
		}
		b.place(root)
		b.call(StepDirectory, unix.SYS_CHDIR, b.text("/")).then(done)
	}
	// A4: a directory that has no path from the root is outside of it;
	// getcwd(2) then starts with "(unreachable)".
	b.place(check)
	b.call(StepDirectory, unix.SYS_GETCWD, buffer, num(pathMax))
	b.compute(opLoad, buffer).into(first)
	b.compute(opAnd, first.value(), num(0xff)).into(first)
	b.ifSame(first.value(), num('/'), done)
	if b.spec.Dir == "" {
		b.call(StepDirectory, unix.SYS_CHDIR, b.text("/")).then(done)
	}
	b.emit(StepDirectory, opFail, []word{num(-int(unix.EXDEV))})
	b.place(done)
	b.close(StepCloseFiles, b.cwd)
}

// touchCommand looks for the command where the process inside will look, so
// that a file system that does not answer hangs the joiner, which is outside
// the target's pid namespace (ruling 21).
func (b *builder) touchCommand() {
	found := b.label()
	for _, path := range b.spec.Paths {
		b.call(StepNone, unix.SYS_OPENAT, num(unix.AT_FDCWD), b.text(path), num(unix.O_PATH|unix.O_CLOEXEC), num(0)).then(found).orElse(next)
	}
	b.place(found)
}

// cloneInside makes the process that is numbered inside, a sibling of the
// joiner, hands it over to the warden and ends the joiner.
func (b *builder) cloneInside() {
	inside, step := b.named("inside"), StepForkCommand
	pidfd, pid := b.variable(0), b.variable(0)
	b.call(step, unix.SYS_CLONE3, b.cloneArgs(unix.CLONE_PARENT|unix.CLONE_PIDFD, pidfd, 0), num(cloneArgsSize)).into(pid)
	b.ifSame(pid.value(), num(0), inside)
	b.handOver(pidfd)
	b.exit(0)

	b.place(inside)
	b.awaitWord()
	if b.spec.Groups == nil {
		b.shepherd()
	}
	b.run()
}

// handOver sends a pidfd to the warden, with what was learned on the way.
func (b *builder) handOver(pidfd variable) {
	m := b.message(true, b.learned.address(), num(8))
	b.set(m.fd, pidfd.value())
	b.call(StepHandOver, unix.SYS_SENDMSG, b.link[1].value(), m.header, num(unix.MSG_NOSIGNAL))
}

// tieToWarden makes the joiner die with its parent, also while a file system of
// the target does not answer it. The parent may be dead already: then its end
// of the socket is closed.
func (b *builder) tieToWarden() {
	b.prctl(StepParentDeath, unix.PR_SET_PDEATHSIG, num(int(unix.SIGKILL)))
	ps, alive := b.polls(1), b.label()
	b.watch(ps[0], b.link[1].value(), 0)
	b.poll(StepOrphaned, ps, b.words(num(0), num(0)))
	b.compute(opAnd, ps[0].value(), num(uint64(unix.POLLHUP)<<48)).into(b.scratch)
	b.ifSame(b.scratch.value(), num(0), alive)
	b.exit(1)
	b.place(alive)
}

// awaitWord makes a process inside die with its parent and waits until the
// warden knows it. End of file, or ECONNRESET where the warden left something
// unread, says that there is no warden any more; getppid(2) cannot, it is 0
// either way across pid namespaces.
func (b *builder) awaitWord() {
	b.prctl(StepParentDeath, unix.PR_SET_PDEATHSIG, num(int(unix.SIGKILL)))
	b.hear()
}

// hear waits for a word on the link and exits where there is nobody any more to
// say one.
func (b *builder) hear() {
	word, n := b.variable(0), b.variable(0)
	told, dead, broken := b.label(), b.label(), b.label()
	b.call(StepOrphaned, unix.SYS_READ, b.link[1].value(), word.address(), num(8)).into(n).orElse(broken)
	b.unless(n.value(), num(0), told)
	b.place(dead)
	b.exit(1)
	b.place(broken)
	b.ifSame(lastErrno(), num(int(unix.ECONNRESET)), dead)
	b.jump(b.failed)
	b.place(told)
}

// run executes the command.
func (b *builder) run() {
	denied, missing := b.label(), b.label()
	b.call(StepSession, unix.SYS_SETSID)
	b.control()
	b.call(StepExec, unix.SYS_FCNTL, num(fdExec), num(unix.F_SETFD), num(unix.FD_CLOEXEC))
	b.call(StepCloseFiles, unix.SYS_CLOSE_RANGE, num(fdExec+1), num(uint64(^uint32(0))), num(0))
	for _, l := range b.spec.Limits {
		if l.Resource == unix.RLIMIT_CORE {
			b.limit(l)
		}
	}
	b.blockSignals(0)
	// As execvp(3): where nothing can be executed, "permission denied" of any
	// candidate says more than "not found" of the last.
	args, env, result := b.texts(b.spec.Args), b.texts(b.spec.Env), b.variable(uint64(unix.ENOENT))
	for _, path := range b.spec.Paths {
		other := b.label()
		b.call(StepExec, unix.SYS_EXECVE, b.text(path), args, env).orElse(next)
		b.ifSame(lastErrno(), num(int(unix.ENOENT)), other)
		b.ifSame(lastErrno(), num(int(unix.ENOTDIR)), other)
		b.unless(lastErrno(), num(int(unix.EACCES)), b.failed)
		b.set(result, num(int(unix.EACCES)))
		b.place(other)
	}
	b.ifSame(result.value(), num(int(unix.EACCES)), denied)
	b.jump(missing)
	b.place(denied)
	b.emit(StepExec, opFail, []word{num(-int(unix.EACCES))})
	b.place(missing)
	b.emit(StepExec, opFail, []word{num(-int(unix.ENOENT))})
}

// itoa formats n as procfs reads it.
func itoa(n int) string {
	if n < 0 {
		return "-" + itoa(-n)
	}
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + itoa(n%10)
}
