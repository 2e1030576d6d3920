// SPDX-License-Identifier: Apache-2.0

package forkexec

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Reading says which files of a target are to be read, and which of its file
// systems asked. It is done by a process that can be given up, since a file
// system may never answer.
type Reading struct {
	Root  *os.File // O_PATH: nothing outside of it is reached, through links neither
	Proc  *os.File // a procfs of the caller's pid namespace
	Paths []string // from Root, also where they start with a slash
	// Mounts are mount points whose file systems are asked what they hold. They
	// are asked after the files are read, in this order.
	Mounts []string
	// Deadline bounds it, as the context of Read does; zero: half an hour.
	Deadline time.Time
	// alter changes the program before it is linked, for tests.
	alter func(*program)
}

// MaxFile is what a file that is read must be smaller than, bytes. It is a power
// of two: the program that counts can compare no better.
const MaxFile = 1 << 20

// Descriptors of a reader and its guard.
const (
	readRoot = iota
	readProc
	readOut  // the pipe to the caller
	readLink // a socket by which guard and caller see each other's end
	readTool // a pidfd of the caller
	readFiles
)

// What a reader says of a file: words of these, then a number: the bytes of
// content that follow, or at the end of the file an errno or 0.
const (
	frameData = iota + 1
	frameEnd
	frameSize = 16
)

const (
	readChunk   = 32 << 10 // bytes, of one read
	readLongest = 30 * time.Minute
	// How long a guard waits for the death of the reader that it has killed.
	abandonMS = 200
	// What a guard exits with that had to leave its reader.
	exitAbandoned = 2
)

// assembleReader builds the program of a guard and a reader:
//
//	caller ──vfork+exec──▶ guard ──clone3──▶ reader ──▶ pipe to the caller
//
// The reader alone touches the target's files. The guard kills it when the time
// is over or the caller has ended, waits a moment, and ends in any case: nobody
// ever waits for the reader (A13).
func assembleReader(r *Reading, timeout time.Duration, root, proc, out, link, tool *os.File) *builder {
	b := &builder{program: newProgram(nil), spec: &Spec{}, files: []*os.File{root, proc, out, link, tool}}
	b.scratch = b.variable(0)
	b.guard(timeout)
	b.reader(r.Paths, r.Mounts)
	if r.alter != nil {
		r.alter(b.program)
	}
	return b
}

// guard emits the process between the caller and the reader.
func (b *builder) guard(timeout time.Duration) {
	b.joinerL = b.named("reader")
	failed := b.named("failed")
	b.onFailure(failed)
	b.harden("outband-reader")
	b.childSignal(1) // the kernel reaps
	child, pid := b.variable(noFD), b.variable(0)
	args := b.words(num(unix.CLONE_PIDFD), child.address(), num(0), num(0), num(int(unix.SIGCHLD)),
		num(0), num(0), num(0), num(0), num(0), num(0))
	b.call(StepForkReader, unix.SYS_CLONE3, args, num(88)).into(pid)
	b.ifSame(pid.value(), num(0), b.joinerL)
	b.close(StepCloseFiles, num(readRoot), num(readProc), num(readOut))

	ps, dead, n, abandoned := b.polls(3), b.polls(1), b.variable(0), b.label()
	b.watch(ps[0], child.value(), unix.POLLIN)
	b.watch(ps[1], num(readLink), unix.POLLRDHUP)
	b.watch(ps[2], num(readTool), unix.POLLIN)
	b.poll(StepWatch, ps, b.timespec(int(timeout/time.Millisecond)))
	b.kill(StepRead, child.value())
	b.watch(dead[0], child.value(), unix.POLLIN)
	b.poll(StepWatch, dead, b.timespec(abandonMS)).into(n)
	b.ifSame(n.value(), num(0), abandoned)
	b.exit(0)
	b.place(abandoned)
	b.exit(exitAbandoned)
	b.place(failed)
	b.exit(1)
}

// reader emits the process that reads.
func (b *builder) reader(paths, mounts []string) {
	b.place(b.joinerL)
	done := b.named("done")
	b.onFailure(done)
	b.prctl(StepParentDeath, unix.PR_SET_PDEATHSIG, num(int(unix.SIGKILL)))
	b.close(StepCloseFiles, num(readLink), num(readTool))
	how := b.words(num(unix.O_PATH|unix.O_CLOEXEC), num(0), num(unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS))
	straight := b.words(num(unix.O_PATH|unix.O_CLOEXEC), num(0), num(unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_SYMLINKS))
	frame, buffer, stat := b.words(num(0), num(0)), b.reserve(readChunk), b.reserve(256) // struct statx
	for _, path := range paths {
		b.readFile(path, how, stat, frame, buffer, done)
	}
	for _, point := range mounts {
		b.askMount(point, straight, frame, buffer, done)
	}
	b.place(done)
	b.exit(0)
}

// readFile emits the reading of one file.
func (b *builder) readFile(path string, how, stat, frame, buffer word, done label) {
	kind, number := variable{frame.n}, variable{frame.n + 8}
	bad, end, told := b.label(), b.label(), b.label()
	b.onFailure(bad)
	seen, file, n, total := b.variable(noFD), b.variable(noFD), b.variable(0), b.variable(0)
	b.openRegular(path, how, stat, seen, file)
	more, small := b.here(), b.label()
	b.call(StepRead, unix.SYS_READ, file.value(), buffer, num(readChunk)).into(n)
	b.ifSame(n.value(), num(0), end)
	b.compute(opAdd, total.value(), n.value()).into(total)
	b.compute(opAnd, total.value(), num(^uint64(MaxFile-1))).into(b.scratch)
	b.ifSame(b.scratch.value(), num(0), small)
	b.emit(StepRead, opFail, []word{num(-int(unix.EFBIG))})
	b.place(small)
	b.set(kind, num(frameData))
	b.set(number, n.value())
	b.call(StepReport, unix.SYS_WRITE, num(readOut), frame, num(frameSize)).orElse(done)
	b.call(StepReport, unix.SYS_WRITE, num(readOut), buffer, n.value()).then(more).orElse(done)

	b.place(bad)
	b.set(number, lastErrno()).then(told)
	b.place(end)
	b.set(number, num(0))
	b.place(told)
	b.set(kind, num(frameEnd))
	b.call(StepReport, unix.SYS_WRITE, num(readOut), frame, num(frameSize)).orElse(done)
	b.close(StepCloseFiles, seen.value(), file.value())
}

// openRegular emits the opening of a file, as seen with O_PATH, then for reading.
//
// A13 (docs/threat-model.md): what is no regular file is never opened, only
// looked at; and nothing is found that lies outside of the root.
func (b *builder) openRegular(path string, how, stat word, seen, file variable) {
	regular, retry, mode := b.label(), b.label(), b.variable(0)
	open := b.here()
	b.call(StepRead, unix.SYS_OPENAT2, num(readRoot), b.text(path), how, num(24)).into(seen).orElse(retry)
	b.call(StepRead, unix.SYS_STATX, seen.value(), b.text(""), num(unix.AT_EMPTY_PATH), num(unix.STATX_TYPE), stat)
	b.compute(opLoad, at(stat, 24)).into(mode) // stx_gid and stx_mode
	b.compute(opAnd, mode.value(), num(uint64(unix.S_IFMT)<<32)).into(mode)
	b.ifSame(mode.value(), num(uint64(unix.S_IFREG)<<32), regular)
	b.emit(StepRead, opFail, []word{num(-int(unix.ENXIO))})
	b.place(retry)
	b.ifSame(lastErrno(), num(int(unix.EAGAIN)), open) // renamed meanwhile: until it works, or the guard ends it
	b.jump(b.failed)
	b.place(regular)
	// The first descriptor is the lowest that is free, and what is opened through
	// it is the very file that was looked at.
	b.call(StepRead, unix.SYS_OPENAT, num(readProc), b.text("self/fd/"+itoa(readLink)),
		num(unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC), num(0)).into(file)
}

// askMount emits the question to one file system: what the reader says of it is
// a struct statfs and a struct statx (statfs(2), statx(2)), see Mount.
//
// A27 (docs/threat-model.md): it is here that a dead file system keeps whoever
// asks, and nobody else.
func (b *builder) askMount(point string, how, frame, buffer word, done label) {
	kind, number, seen := variable{frame.n}, variable{frame.n + 8}, b.variable(noFD)
	bad, told := b.label(), b.label()
	b.onFailure(bad)
	b.call(StepAsk, unix.SYS_OPENAT2, num(readRoot), b.text(point), how, num(24)).into(seen)
	b.call(StepAsk, unix.SYS_STATX, seen.value(), b.text(""), num(unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC|unix.AT_NO_AUTOMOUNT),
		num(unix.STATX_MNT_ID), at(buffer, statfsSize))
	b.call(StepAsk, unix.SYS_FSTATFS, seen.value(), buffer)
	b.set(kind, num(frameData))
	b.set(number, num(mountSize))
	b.call(StepReport, unix.SYS_WRITE, num(readOut), frame, num(frameSize)).orElse(done)
	b.call(StepReport, unix.SYS_WRITE, num(readOut), buffer, num(mountSize)).orElse(done)
	b.set(number, num(0)).then(told)
	b.place(bad)
	b.set(number, lastErrno())
	b.place(told)
	b.set(kind, num(frameEnd))
	b.call(StepReport, unix.SYS_WRITE, num(readOut), frame, num(frameSize)).orElse(done)
	b.close(StepCloseFiles, seen.value())
}
