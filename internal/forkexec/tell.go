// SPDX-License-Identifier: Apache-2.0

package forkexec

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Telling says what a target's init is to be told by way of a file: a record in
// a FIFO that it reads, or the modes of files that it looks at. Like a Reading it
// is done by a process that can be given up, and that process has the rights to
// files of the init, and none besides.
type Telling struct {
	Root *os.File // O_PATH: nothing outside of it is reached, through links neither
	Proc *os.File // a procfs of the caller's pid namespace
	Init *os.File // the directory of the init in it

	FIFO   string // path from Root, not a link; "": none is written to
	Held   []int  // descriptors of the init: one of them has to be of this very FIFO
	Record string // what is written, at once or not at all; PIPE_BUF bytes at most
	// Others are files that processes outside hold open, "1/fd/10" below Proc: where
	// one of them is this very FIFO it is not the target's own.
	Others []string

	Modes []Mode // what is set, in order, until one cannot be

	UID, GID uint32 // of the init, as the caller counts
	// Deadline bounds it, as the context of Tell does; zero: half an hour.
	Deadline time.Time
	// alter changes the program before it is linked, for tests.
	alter func(*program)
}

// Mode is a regular file that exists, by its path from the root, and the mode
// that it is to have. One that is to have none may be missing.
type Mode struct {
	Path string
	Mode uint32
}

// Errors of Tell that are told apart; all are a unix.Errno.
const (
	ErrNoFIFO    = unix.ENXIO      // it is no FIFO, nor a regular file, or nobody reads it
	ErrNotHeld   = unix.ENOTCONN   // the FIFO is none that the init holds open
	ErrElsewhere = unix.EADDRINUSE // somebody outside holds the FIFO open as well
	ErrMounted   = unix.EXDEV      // the file is a mount of its own, perhaps of the host's
)

// maxRecord is PIPE_BUF: what a FIFO takes at once.
const maxRecord = 4096

// Tell tells an init something. The error is why it was not told, a unix.Errno;
// or ErrDeadline, where it is not known whether it was.
func Tell(ctx context.Context, t *Telling) error {
	if len(t.Record) > maxRecord || t.FIFO != "" && t.Record == "" {
		return unix.EMSGSIZE
	}
	said, err := apart(ctx, t.Deadline, 1, func(timeout time.Duration, out, link, self *os.File) *builder {
		return assembleTeller(t, timeout, out, link, self)
	})
	if err != nil {
		return err
	}
	return said[0].Err
}

// tellInit is the descriptor of a teller beyond those of a reader.
const tellInit = readFiles

// assembleTeller builds the program of a guard and a teller, see assembleReader.
func assembleTeller(t *Telling, timeout time.Duration, out, link, tool *os.File) *builder {
	b := &builder{program: newProgram(nil), spec: &Spec{}, files: []*os.File{t.Root, t.Proc, out, link, tool, t.Init}}
	b.scratch = b.variable(0)
	b.guard(timeout)
	b.teller(t)
	if t.alter != nil {
		t.alter(b.program)
	}
	return b
}

// identity of a file, from struct statx: its number, and that of its device.
type identity struct{ inode, device variable }

// teller emits the process that tells.
func (b *builder) teller(t *Telling) {
	b.place(b.joinerL)
	bad, told, done := b.named("bad"), b.label(), b.named("done")
	b.onFailure(bad)
	stat, errno := b.reserve(256), b.variable(0)
	// What is held open is looked at while that is allowed.
	var held, others []identity
	for _, fd := range t.Held {
		held = append(held, b.seen(tellInit, "fd/"+itoa(fd), stat))
	}
	for _, path := range t.Others {
		others = append(others, b.seen(readProc, path, stat))
	}
	b.takeRights(t.UID, t.GID)
	b.close(StepCloseFiles, num(tellInit), num(readLink), num(readTool))
	for _, m := range t.Modes {
		b.setMode(m, stat)
	}
	if t.FIFO != "" {
		b.writeFIFO(t, held, others, stat)
	}
	b.jump(told)
	b.place(bad)
	b.set(errno, lastErrno())
	b.place(told)
	frame := b.words(num(frameEnd), num(0))
	b.set(variable{frame.n + 8}, errno.value())
	b.call(StepReport, unix.SYS_WRITE, num(readOut), frame, num(frameSize)).orElse(done)
	b.place(done)
	b.exit(0)
}

// identify takes the identity of a file from what statx(2) said of it.
func (b *builder) identify(stat word, id identity) {
	b.compute(opLoad, at(stat, 32)).into(id.inode)   // stx_ino
	b.compute(opLoad, at(stat, 136)).into(id.device) // stx_dev_major and stx_dev_minor
}

// seen emits a look at an open file, by its link below a directory: no identity
// where it is gone.
func (b *builder) seen(dir int, link string, stat word) identity {
	id, gone := identity{b.variable(0), b.variable(0)}, b.label()
	b.call(StepTell, unix.SYS_STATX, num(dir), b.text(link), num(0), num(unix.STATX_INO), stat).orElse(gone)
	b.identify(stat, id)
	b.place(gone)
	return id
}

// takeRights takes the rights to files that the init has: a FIFO or a file of the
// host's that is mounted in is not reached with more (A32). Where that cannot be
// had, nothing is told.
func (b *builder) takeRights(uid, gid uint32) {
	b.call(StepTell, unix.SYS_SETGROUPS, num(0), num(0)).tolerate() // without the right to it there are only one's own
	for _, id := range []struct {
		call uintptr
		n    uint32
	}{{unix.SYS_SETFSGID, gid}, {unix.SYS_SETFSUID, uid}} {
		now, same := b.variable(0), b.label()
		b.call(StepTell, id.call, num(id.n)).tolerate() // it never tells an error
		b.call(StepTell, id.call, num(noFD)).into(now)  // but what it is
		b.ifSame(now.value(), num(id.n), same)
		b.emit(StepTell, opFail, []word{num(-int(unix.EPERM))})
		b.place(same)
	}
	b.capset(StepTell, 0, 0, 0)
	b.prctl(StepParentDeath, unix.PR_SET_PDEATHSIG, num(int(unix.SIGKILL))) // which a change of ids takes back
}

// look emits the opening of a file, as O_PATH, and statx(2) of it. It becomes
// the lowest descriptor that is free.
func (b *builder) look(path string, flags, mask int, stat word, missing label) variable {
	seen, open, retry := b.variable(noFD), b.label(), b.label()
	how := b.words(num(unix.O_PATH|unix.O_CLOEXEC|flags), num(0), num(unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS))
	b.place(open)
	b.call(StepTell, unix.SYS_OPENAT2, num(readRoot), b.text(path), how, num(24)).into(seen).orElse(retry)
	b.call(StepTell, unix.SYS_STATX, seen.value(), b.text(""), num(unix.AT_EMPTY_PATH), num(mask), stat)
	over := b.label()
	b.jump(over)
	b.place(retry)
	b.ifSame(lastErrno(), num(int(unix.EAGAIN)), open) // renamed meanwhile
	b.ifSame(lastErrno(), num(int(unix.ENOENT)), missing)
	b.jump(b.failed)
	b.place(over)
	return seen
}

// require fails with errno unless a word of stat, masked, is want.
func (b *builder) require(stat word, offset int, mask, want uint64, errno unix.Errno) {
	ok := b.label()
	b.compute(opLoad, at(stat, offset)).into(b.scratch)
	b.compute(opAnd, b.scratch.value(), num(mask)).into(b.scratch)
	b.ifSame(b.scratch.value(), num(want), ok)
	b.emit(StepTell, opFail, []word{num(-int(errno))})
	b.place(ok)
}

// Words of struct statx: stx_attributes; stx_gid and stx_mode.
const (
	statAttributes, statMode = 8, 24

	maskFormat = uint64(unix.S_IFMT) << 32
)

// writeFIFO emits the writing of a record.
//
// A32 (docs/threat-model.md): a FIFO at the path may be the host's, bind-mounted
// in. It is written to only if the init holds the same one open, and nobody
// outside does: an init opens what it finds at the path, the host's too. What is
// opened is the file that was compared, through its own descriptor.
func (b *builder) writeFIFO(t *Telling, held, others []identity, stat word) {
	seen := b.look(t.FIFO, unix.O_NOFOLLOW, unix.STATX_TYPE|unix.STATX_INO, stat, b.failed)
	b.require(stat, statMode, maskFormat, uint64(unix.S_IFIFO)<<32, ErrNoFIFO)
	found, elsewhere, alone, file, n := b.label(), b.label(), b.label(), b.variable(noFD), b.variable(0)
	this := identity{b.variable(0), b.variable(0)}
	b.identify(stat, this)
	b.ifAmong(this, held, found)
	b.emit(StepTell, opFail, []word{num(-int(ErrNotHeld))})
	b.place(found)
	b.ifAmong(this, others, elsewhere)
	b.jump(alone)
	b.place(elsewhere)
	b.emit(StepTell, opFail, []word{num(-int(ErrElsewhere))})
	b.place(alone)
	b.call(StepTell, unix.SYS_OPENAT, num(readProc), b.text("self/fd/"+itoa(readLink)),
		num(unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC), num(0)).into(file)
	b.call(StepTell, unix.SYS_WRITE, file.value(), b.text(t.Record), num(len(t.Record))).into(n)
	whole := b.label()
	b.ifSame(n.value(), num(len(t.Record)), whole)
	b.emit(StepTell, opFail, []word{num(-int(unix.EIO))})
	b.place(whole)
	b.close(StepCloseFiles, seen.value(), file.value())
}

// ifAmong jumps where a file is one of those.
func (b *builder) ifAmong(this identity, those []identity, to label) {
	for _, id := range those {
		other := b.label()
		b.unless(this.inode.value(), id.inode.value(), other)
		b.ifSame(this.device.value(), id.device.value(), to)
		b.place(other)
	}
}

// setMode emits the setting of a file's mode: of a regular file, and none that is
// mounted there on its own (A32).
func (b *builder) setMode(m Mode, stat word) {
	missing := b.failed
	if m.Mode == 0 {
		missing = b.label()
	}
	seen := b.look(m.Path, 0, unix.STATX_TYPE, stat, missing)
	b.require(stat, statMode, maskFormat, uint64(unix.S_IFREG)<<32, ErrNoFIFO)
	b.require(stat, statAttributes, unix.STATX_ATTR_MOUNT_ROOT, 0, ErrMounted)
	b.call(StepTell, unix.SYS_FCHMODAT, num(readProc), b.text("self/fd/"+itoa(readLink)), num(m.Mode))
	b.close(StepCloseFiles, seen.value())
	if m.Mode == 0 {
		b.place(missing)
	}
}
