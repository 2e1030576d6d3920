// SPDX-License-Identifier: Apache-2.0

package forkexec

import (
	"encoding/binary"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Pressing says which pid namespace is pressed: reboot(2) is called from within,
// upon which the kernel ends the namespace's first process (3.4).
//
// In the initial pid namespace the same call reboots the machine. So Press looks
// itself at where a child would be, and calls nothing unless that is the one
// namespace meant, is neither the caller's own nor the initial one, and lies
// below the caller's.
type Pressing struct {
	PIDNS   *os.File // the pid namespace
	UserNS  *os.File // the user namespace that owns it; nil: the caller's own
	Inode   uint64   // of PIDNS
	Proc    *os.File // a procfs of the caller's pid namespace
	Command int      // LINUX_REBOOT_CMD_*
	// Deadline bounds it, as the context of Press does; zero: ten seconds.
	Deadline time.Time
	// Faults makes the named steps fail with the error given, for tests.
	Faults map[Step]unix.Errno
	// alter changes the program before it is linked, for tests.
	alter func(*program)
}

// initialPIDNS is the inode number of the initial pid namespace
// (PROC_PID_INIT_INO), whatever the procfs.
const initialPIDNS = 0xeffffffc

// Descriptors of a presser.
const (
	pressPIDNS = iota
	pressProc
	pressOut // the pipe to the caller, and the only one that is left in the end
	pressUserNS
	pressChild = pressPIDNS // what the pidfd of the child gets, once the others are closed
)

// exitLate is what a presser exits with whose time was over.
const exitLate = 2

// assemblePress builds the program of a presser and its child:
//
//	caller ──vfork+exec──▶ presser ──clone──▶ child, numbered inside: reboot(2)
//
// The child has to hold CAP_SYS_BOOT over the pid namespace, which its init need
// not hold: the exception to ruling that nothing inside holds more than init. So
// it can do nothing with it but this: a system call filter, which is in force
// before it has a number inside, leaves it this one reboot(2) and its end, with
// one descriptor, of a pipe (docs/adr/0008-pressing.md).
func assemblePress(r *Pressing, timeout time.Duration, out *os.File) *builder {
	b := &builder{program: newProgram(r.Faults), spec: &Spec{}, files: []*os.File{r.PIDNS, r.Proc, out}}
	if r.UserNS != nil {
		b.files = append(b.files, r.UserNS)
	}
	b.scratch = b.variable(0)
	b.joinerL, b.tellL = b.named("child"), b.named("tell")
	b.onFailure(b.tellL)
	b.harden("outband-press")
	b.childSignal(1) // A29: the kernel reaps
	if r.UserNS != nil {
		b.call(StepJoin, unix.SYS_SETNS, num(pressUserNS), num(unix.CLONE_NEWUSER))
	}
	b.call(StepJoin, unix.SYS_SETNS, num(pressPIDNS), num(unix.CLONE_NEWPID))
	b.compare(r.Inode)
	b.call(StepCloseFiles, unix.SYS_CLOSE, num(pressPIDNS))
	b.call(StepCloseFiles, unix.SYS_CLOSE, num(pressProc))
	b.call(StepCloseFiles, unix.SYS_CLOSE_RANGE, num(pressUserNS), num(uint64(^uint32(0))), num(0))
	b.onlyReboot(r.Command)
	b.forkPress(timeout)

	b.place(b.joinerL)
	b.prctl(StepParentDeath, unix.PR_SET_PDEATHSIG, num(int(unix.SIGKILL)))
	b.call(StepPress, unix.SYS_REBOOT, num(uint64(unix.LINUX_REBOOT_MAGIC1)), num(unix.LINUX_REBOOT_MAGIC2), num(uint64(r.Command)), num(0))
	b.exit(0) // not reached

	b.place(b.tellL)
	b.call(StepNone, unix.SYS_WRITE, num(pressOut), num(dataBase), num(headerSize)).tolerate()
	b.exit(1)
	if r.alter != nil {
		r.alter(b.program)
	}
	return b
}

// compare emits the look at the pid namespace that a child would be in.
//
// A32 (docs/threat-model.md): it fails with EPERM unless that is the one meant,
// neither the initial nor the own one, and has one above it that the caller sees:
// a child's NSpid would have two entries or more.
func (b *builder) compare(inode uint64) {
	same, refused := b.label(), b.label()
	child, childInode := b.namespace("self/ns/pid_for_children")
	_, own := b.namespace("self/ns/pid")
	b.ifSame(childInode.value(), num(uint64(initialPIDNS)), refused)
	b.ifSame(childInode.value(), own.value(), refused)
	b.ifSame(childInode.value(), num(inode), same)
	b.place(refused)
	b.emit(StepCompare, opFail, []word{num(-int(unix.EPERM))})
	b.place(same)
	b.call(StepCompare, unix.SYS_IOCTL, child.value(), num(unix.NS_GET_PARENT), num(0)) // 4.9; EPERM: there is none
}

// namespace opens a namespace of the process's own and stores its inode number.
func (b *builder) namespace(path string) (fd, inode variable) {
	const inodeAt = 32 // stx_ino in struct statx
	fd, inode = b.variable(noFD), b.variable(0)
	stat := b.reserve(256)
	b.call(StepCompare, unix.SYS_OPENAT, num(pressProc), b.text(path), num(unix.O_RDONLY|unix.O_CLOEXEC), num(0)).into(fd)
	b.call(StepCompare, unix.SYS_STATX, fd.value(), b.text(""), num(unix.AT_EMPTY_PATH), num(unix.STATX_INO), stat)
	b.compute(opLoad, at(stat, inodeAt)).into(inode)
	return fd, inode
}

// onlyReboot gives up all but the one capability and the few system calls that
// are left to do.
func (b *builder) onlyReboot(command int) {
	const boot = 1 << unix.CAP_SYS_BOOT
	b.capset(StepCapabilities, boot, boot, 0)
	b.prctl(StepCapabilities, unix.PR_CAP_AMBIENT, num(unix.PR_CAP_AMBIENT_CLEAR_ALL), num(0), num(0), num(0))
	// A1: a change of credentials may have made the process readable again.
	b.prctl(StepHarden, unix.PR_SET_DUMPABLE, num(0))
	b.prctl(StepNoNewPrivs, unix.PR_SET_NO_NEW_PRIVS, num(1), num(0), num(0), num(0))
	filter := pressFilter(command)
	program := b.reserve(len(filter))
	copy(b.data[program.n:], filter)
	fprog := b.words(num(len(filter)/8), program) // struct sock_fprog
	b.call(StepFilters, unix.SYS_SECCOMP, num(unix.SECCOMP_SET_MODE_FILTER), num(0), fprog)
}

// pressFlags are those of the clone(2) by which a presser makes its child.
const pressFlags = unix.CLONE_PIDFD | uint64(unix.SIGCHLD)

// forkPress makes the child and sees to its end: its own, or that of the time,
// or of the caller, whose end of the pipe is closed then.
func (b *builder) forkPress(timeout time.Duration) {
	pid, pidfd, n, late := b.variable(0), b.variable(noFD), b.variable(0), b.label()
	ps, dead := b.polls(2), b.polls(1)
	b.call(StepForkCommand, unix.SYS_CLONE, num(pressFlags), num(0), pidfd.address(), num(0), num(0)).into(pid)
	b.ifSame(pid.value(), num(0), b.joinerL)
	b.watch(ps[0], num(pressChild), unix.POLLIN)
	b.watch(ps[1], num(pressOut), 0)
	b.poll(StepWatch, ps, b.timespec(int(timeout/time.Millisecond))).into(n)
	b.kill(StepPress, num(pressChild))
	b.watch(dead[0], num(pressChild), unix.POLLIN)
	b.poll(StepWatch, dead, b.timespec(abandonMS)).tolerate()
	b.ifSame(n.value(), num(0), late)
	b.exit(0)
	b.place(late)
	b.exit(exitLate)
}

// allowed is a system call that a filter lets through, if its arguments are these
// (by position, 32 bits of each).
type allowed struct {
	nr   uint32
	args map[int]uint32
}

// pressFilter is the filter (seccomp(2)) of presser and child. Anything else
// kills the process.
func pressFilter(command int) []byte {
	calls := []allowed{
		{unix.SYS_REBOOT, map[int]uint32{0: unix.LINUX_REBOOT_MAGIC1, 1: unix.LINUX_REBOOT_MAGIC2, 2: uint32(command)}},
		{unix.SYS_CLONE, map[int]uint32{0: uint32(pressFlags), 1: 0}},
		{unix.SYS_PRCTL, map[int]uint32{0: unix.PR_SET_PDEATHSIG}},
		{unix.SYS_PPOLL, nil},
		{unix.SYS_PIDFD_SEND_SIGNAL, map[int]uint32{0: pressChild}}, // the child has no such descriptor
		{unix.SYS_WRITE, map[int]uint32{0: pressOut}},
		{unix.SYS_EXIT_GROUP, nil},
	}
	return filterOf(calls)
}

// filterOf compiles what is allowed: first the architecture is compared, then
// the call, then its arguments.
func filterOf(calls []allowed) []byte {
	const nrAt, archAt, argsAt = 0, 4, 16 // struct seccomp_data
	var f []unix.SockFilter
	load := func(at uint32) { f = append(f, unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}) }
	give := func(k uint32) { f = append(f, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k}) }
	// unless skips the next n instructions where the value loaded is another.
	unless := func(k uint32, n int) {
		f = append(f, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: uint8(n), K: k})
	}
	load(archAt)
	unless(0xc0000000|uint32(elfMachine), 1) // AUDIT_ARCH_*: 64 bits, the low byte first
	f = append(f, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: 1})
	give(unix.SECCOMP_RET_KILL_PROCESS)
	for _, c := range calls {
		load(nrAt)
		unless(c.nr, 2*len(c.args)+1)
		left := len(c.args)
		for i := range 6 {
			if k, ok := c.args[i]; ok {
				load(uint32(argsAt + 8*i))
				left--
				unless(k, 2*left+1)
			}
		}
		give(unix.SECCOMP_RET_ALLOW)
	}
	give(unix.SECCOMP_RET_KILL_PROCESS)
	var out []byte
	for _, i := range f {
		out = binary.LittleEndian.AppendUint16(out, i.Code)
		out = append(out, i.Jt, i.Jf)
		out = binary.LittleEndian.AppendUint32(out, i.K)
	}
	return out
}
