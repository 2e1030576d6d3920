// SPDX-License-Identifier: Apache-2.0

package forkexec

import (
	"os"

	"golang.org/x/sys/unix"
)

// Descriptors that every session has, in all its processes.
const (
	fdExec  = 3 + iota // the pipe on which a failure before the exec is told, and its end by end of file
	fdLink             // the socket between caller and warden
	fdTool             // a pidfd of the caller
	fdFirst            // whatever else a Spec brings
)

// noFD is -1 in the 32 bits of a descriptor, which is all of a word that Linux
// writes, and all that may be set where a word becomes a struct pollfd. (0 is a
// descriptor like any other in the warden.)
const noFD = uint64(^uint32(0))

// Messages of a warden to its caller on fdLink: a word of these, then
// started: what was learned (learnedUnattended), and the pidfd of the command as
// ancillary data;
// ended: flags (endedLeft) and a status (struct siginfo or struct pidfd_info);
// lost: errno and step, after the session was ended.
const (
	messageStarted = 1 + iota
	messageEnded
	messageLost
)

// learnedUnattended says that a filter of the command's hands system calls to
// somebody who is not there.
const learnedUnattended = 1

// endedLeft says that something of the session would not go.
const endedLeft = 1

// statusSize is that of siginfo_t, the larger of the two forms of a status.
const statusSize = 128

// builder turns a Spec into a program and the files it wants.
type builder struct {
	*program
	spec  *Spec
	files []*os.File // by descriptor

	target, root, cwd, proc, nullFile, groupParent, groupDir word
	v1, hold                                                 []word

	link          [2]variable // the sockets between warden (0) and joiner (1)
	joiner        variable    // pidfd, in the warden
	child         variable    // pidfd of the process inside: command or shepherd
	command       variable    // pidfd of the command
	status        word        // statusSize bytes
	scratch       variable
	joinerL       label
	tracerL       label
	filters       []filter    // in the joiner
	event, signal variable    // of the last stop that was waited for
	learned       variable    // flags of messageStarted, from the joiner to the warden
	tellL         label       // where a process inside, or on its way in, tells the caller what failed
	tracerFD      variable    // pidfd of the tracer, in the warden
	joinerPID     variable    // for the tracer
	begun         variable    // 1 when the caller has been given the command
	left          variable    // flags of messageEnded
	failure       [2]variable // errno and step of messageLost
	tries         variable    // how many pauses the end of the session took
	patience      word        // struct timespec: how much longer a shepherd is waited for
}

// compile builds the program of a session and tells which files become its
// descriptors. It makes no system call.
func compile(spec *Spec, exec, link, tool *os.File) (data []byte, files []*os.File, err error) {
	b := assemble(spec, exec, link, tool)
	data, err = b.program.link()
	return data, b.files, err
}

func assemble(spec *Spec, exec, link, tool *os.File) *builder {
	b := &builder{
		program: newProgram(spec.Faults),
		spec:    spec,
		files:   []*os.File{spec.Stdin, spec.Stdout, spec.Stderr, exec, link, tool},
	}
	for i, f := range b.files[:fdExec] {
		if f == nil { // until it is the null device
			b.files[i] = spec.Target
		}
	}
	b.makeRoom()
	b.target = b.file(spec.Target)
	b.root = b.file(spec.Root)
	b.cwd = b.file(spec.Cwd)
	b.proc = b.file(spec.Proc)
	b.nullFile = num(noFD)
	if spec.Null != nil && spec.Null.Root != spec.Root {
		b.nullFile = b.file(spec.Null.Root)
	}
	b.groupParent, b.groupDir = b.file(nil), b.file(nil)
	if spec.Groups != nil {
		b.groupParent = b.file(spec.Groups.Parent)
		b.groupDir = b.file(spec.Groups.Dir)
	}
	for _, f := range spec.V1 {
		b.v1 = append(b.v1, b.file(f))
	}
	for _, f := range spec.Hold {
		b.hold = append(b.hold, b.file(f))
	}
	for i := range b.link {
		b.link[i] = b.variable(0)
	}
	b.joiner, b.child, b.command, b.tracerFD = b.variable(noFD), b.variable(noFD), b.variable(noFD), b.variable(noFD)
	b.left, b.scratch, b.begun, b.tries = b.variable(0), b.variable(0), b.variable(0), b.variable(0)
	b.event, b.signal, b.learned = b.variable(0), b.variable(0), b.variable(0)
	failure := b.words(num(0), num(0))
	b.failure = [2]variable{{failure.n}, {failure.n + 8}}
	b.status = b.reserve(statusSize)
	b.patience = b.timespec(endBudgetMS)
	b.warden()
	b.joining()
	b.tracer()
	if spec.alter != nil {
		spec.alter(b.program)
	}
	return b
}

// file gives f the next free descriptor.
func (b *builder) file(f *os.File) word {
	if f == nil {
		return num(noFD)
	}
	b.files = append(b.files, f)
	return num(len(b.files) - 1)
}

// Small system calls that several processes need.

func (b *builder) close(s Step, fds ...word) {
	for _, fd := range fds {
		if fd.n != noFD || fd.indirect {
			b.call(s, unix.SYS_CLOSE, fd).tolerate()
		}
	}
}

func (b *builder) prctl(s Step, option int, args ...word) *pendingOp {
	return b.call(s, unix.SYS_PRCTL, append([]word{num(option)}, args...)...)
}

// cloneArgsSize is that of struct clone_args with the cgroup (5.7).
const cloneArgsSize = 88

// cloneArgs is a struct clone_args (flags, pidfd, child_tid, parent_tid,
// exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup).
func (b *builder) cloneArgs(flags uint64, pidfd variable, exit unix.Signal) word {
	return b.words(num(flags), pidfd.address(), num(0), num(0), num(int(exit)),
		num(0), num(0), num(0), num(0), num(0), b.cloneGroup(flags))
}

// cloneGroup is the cgroup that a child is born in, where flags say so.
func (b *builder) cloneGroup(flags uint64) word {
	if flags&unix.CLONE_INTO_CGROUP == 0 {
		return num(0)
	}
	return b.groupDir
}

// kill sends SIGKILL to the process that pidfd refers to.
func (b *builder) kill(s Step, pidfd word) {
	b.call(s, unix.SYS_PIDFD_SEND_SIGNAL, pidfd, num(int(unix.SIGKILL)), num(0), num(0)).tolerate()
}

func (b *builder) exit(code int) { b.call(StepNone, unix.SYS_EXIT_GROUP, num(code)) }

// polls are entries of one ppoll(2): struct pollfd (descriptor, events,
// revents), one word each.
type polls []variable

// polls makes entries that lie one after the other, all empty.
func (b *builder) polls(n int) polls {
	start := b.words(make([]word, n)...)
	ps := make(polls, n)
	for i := range ps {
		ps[i] = variable{start.n + uint64(8*i)}
	}
	return ps
}

// watch makes an entry poll the descriptor fd.
func (b *builder) watch(entry variable, fd word, events int16) {
	b.compute(opAdd, fd, num(uint64(uint16(events))<<32)).into(entry)
}

// ifReady continues at l if the last poll found something at entry.
func (b *builder) ifReady(entry variable, l label) {
	b.compute(opAnd, entry.value(), num(uint64(0xffff)<<48)).into(b.scratch)
	b.unless(b.scratch.value(), num(0), l)
}

// poll waits for one of the entries; a timeout is the address of a struct
// timespec, which Linux counts down, or num(0) to wait for ever.
func (b *builder) poll(s Step, ps polls, timeout word) *pendingOp {
	if len(ps) == 0 {
		return b.call(s, unix.SYS_PPOLL, num(0), num(0), timeout, num(0), num(0))
	}
	return b.call(s, unix.SYS_PPOLL, ps[0].address(), num(len(ps)), timeout, num(0), num(0))
}

// timespec is a struct timespec of so many milliseconds.
func (b *builder) timespec(ms int) word {
	return b.words(num(ms/1000), num(ms%1000*1_000_000))
}

// message is a struct msghdr for one iovec list and room for one descriptor.
type message struct {
	header word
	fd     variable // the descriptor in the ancillary data
}

// lastErrno and lastStep are the number of the last error and the step that
// had it, from the header.
func lastErrno() word { return word{n: dataBase, indirect: true} }
func lastStep() word  { return word{n: dataBase + 8, indirect: true} }

// controlLength is CMSG_LEN(sizeof(int)); controlSpace CMSG_SPACE of it.
const (
	controlLength = 20
	controlSpace  = 24
)

// message makes a struct msghdr; without a descriptor where withFD is false.
func (b *builder) message(withFD bool, iovecs ...word) message {
	m := message{}
	list, control, space := b.words(iovecs...), num(0), num(0)
	if withFD {
		control = b.words(num(controlLength), num(unix.SOL_SOCKET|unix.SCM_RIGHTS<<32), num(0))
		space = num(controlSpace)
		m.fd = variable{control.n + 16}
	}
	m.header = b.words(num(0), num(0), list, num(len(iovecs)/2), control, space, num(0))
	return m
}

// takeFD stores the descriptor that a received message carried in v.
func (b *builder) takeFD(m message, v variable) {
	b.compute(opAnd, m.fd.value(), num(uint64(0xffffffff))).into(v)
}
