// SPDX-License-Identifier: Apache-2.0

package forkexec

import (
	"encoding/binary"
	"os"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/sys"
)

// Terminal says that the command gets a terminal of its target's own, as its
// controlling terminal and as descriptors 0, 1 and, unless there is a Stderr,
// 2. Stdin and Stdout of the Spec are not used then.
type Terminal struct {
	Rows, Cols uint16
	Modes      *unix.Termios // nil: as Linux makes them
	// Owner and Group get the terminal, as numbered where Join leads; NoID
	// leaves them as they are.
	Owner, Group uint32
}

// NoID is the number that no user or group has, see chown(2).
const NoID = 1<<32 - 1

// fdDesk is the socket on which the joiner hands the terminal to the caller. It
// has the place of the command's input and output, which the terminal then
// takes: nobody needs a descriptor more.
const fdDesk = 1

// A terminal is handed over with a word that says where it is from.
const (
	terminalOfTarget = 1 + iota
	terminalOfOurs   // an instance of devpts that is mounted nowhere
)

// What devpts (Documentation/filesystems/devpts.rst) always has: its magic
// number, and the inode and the device of its ptmx.
const (
	devptsMagic = 0x1cd1
	ptmxInode   = 2
	ptmxDevice  = 5 | 2<<32 // major and minor as statx(2) has them, in one word
)

// terminal opens a terminal and makes it the descriptors of what follows. It is
// called when namespaces and root are the target's and nothing is given up
// yet.
//
// What is opened is the target's, so it may hang: in the joiner, which is
// outside of the target's pid namespace and is killed at the deadline.
//
// A10 (docs/threat-model.md): a terminal is never opened by a path. The
// directory is one without links on the way, it must be a devpts, and what is
// opened in it must be its own: nothing can be made or put there but a mount,
// which RESOLVE_NO_XDEV refuses. The other end comes from the kernel
// (TIOCGPTPEER, 4.13).
func (b *builder) terminal() {
	t := b.spec.Terminal
	if t == nil {
		return
	}
	master, peer, whose := b.variable(noFD), b.variable(noFD), b.variable(terminalOfTarget)
	own, open := b.label(), b.label()
	b.ownFiles()
	if b.spec.Root != nil {
		dir := b.variable(noFD)
		b.terminalOfTarget(dir, master, own)
		b.jump(open)
		b.place(own)
		b.close(StepCloseFiles, dir.value(), master.value())
	}
	b.set(whose, num(terminalOfOurs))
	b.ownTerminal(master)

	b.place(open)
	step := StepTerminal
	b.call(step, unix.SYS_IOCTL, master.value(), num(unix.TIOCSPTLCK), b.words(num(0)))
	b.call(step, unix.SYS_IOCTL, master.value(), num(unix.TIOCGPTPEER), num(unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)).into(peer)
	size := b.words(num(uint64(t.Rows) | uint64(t.Cols)<<16)) // struct winsize
	b.call(step, unix.SYS_IOCTL, master.value(), num(unix.TIOCSWINSZ), size)
	if t.Modes != nil {
		b.call(step, unix.SYS_IOCTL, peer.value(), num(unix.TCSETS), b.text(string(termios(t.Modes))))
	}
	b.giveTerminal(peer)
	b.handTerminal(master, whose)
	b.close(StepCloseFiles, master.value())
	b.call(step, unix.SYS_DUP3, peer.value(), num(0), num(0))
	b.call(step, unix.SYS_DUP3, peer.value(), num(1), num(0)) // closes fdDesk
	if b.spec.Stderr == b.spec.Stdout {                       // see openDesk
		b.call(step, unix.SYS_DUP3, peer.value(), num(2), num(0))
	}
	b.close(StepCloseFiles, peer.value())
}

// ownFiles makes the joiner one who has a number inside, as far as files go: a
// new terminal belongs to whoever makes it, and what belongs to nobody who is
// mapped cannot be opened (inode_permission). Root is tried last, which keeps
// the capabilities that go with files (capabilities(7)).
func (b *builder) ownFiles() {
	id := b.spec.User
	if id == nil {
		return
	}
	for _, n := range [...]uint32{id.UID[1], 0} {
		b.call(StepTerminal, unix.SYS_SETFSUID, num(n)) // no error tells of an unmapped one
	}
	for _, n := range [...]uint32{id.GID[1], 0} {
		b.call(StepTerminal, unix.SYS_SETFSGID, num(n))
	}
	b.prctl(StepHarden, unix.PR_SET_DUMPABLE, num(0)) // A1: see become
	b.tieToWarden()                                   // a change of credentials undoes it
}

// terminalOfTarget opens one in the target's devpts, or continues at own where
// the target has none. A devpts without a free terminal is a failure: one of our
// own would take what its owner has limited.
func (b *builder) terminalOfTarget(dir, master variable, own label) {
	const links = unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS
	step, full := StepTerminal, b.label()
	stat, statx := b.reserve(256), b.reserve(256) // struct statfs is 120 bytes
	how := b.words(num(unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC), num(0), num(unix.RESOLVE_IN_ROOT|links))
	b.call(step, unix.SYS_OPENAT2, num(unix.AT_FDCWD), b.text("dev/pts"), how, num(24)).into(dir).orElse(own)
	b.call(step, unix.SYS_FSTATFS, dir.value(), stat).orElse(own)
	b.unless(variable{stat.n}.value(), num(devptsMagic), own) // f_type comes first
	how = b.words(num(unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC), num(0), num(unix.RESOLVE_BENEATH|unix.RESOLVE_NO_XDEV|links))
	b.call(step, unix.SYS_OPENAT2, dir.value(), b.text("ptmx"), how, num(24)).into(master).orElse(full)
	b.call(step, unix.SYS_STATX, master.value(), b.text(""), num(unix.AT_EMPTY_PATH), num(unix.STATX_BASIC_STATS), statx).orElse(own)
	b.unless(variable{statx.n + 32}.value(), num(ptmxInode), own)
	b.unless(variable{statx.n + 128}.value(), num(uint64(ptmxDevice)), own)
	open := b.label()
	b.jump(open)
	b.place(full)
	b.unless(lastErrno(), num(int(unix.ENOSPC)), own)
	b.jump(b.failed)
	b.place(open)
	b.close(StepCloseFiles, dir.value())
}

// ownTerminal opens one in a devpts of the joiner's own, which belongs to the
// user namespace that was joined and is mounted nowhere: never the host's.
func (b *builder) ownTerminal(master variable) {
	step, fs, mount := StepTerminal, b.variable(0), b.variable(0)
	const attributes = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC
	b.call(step, unix.SYS_FSOPEN, b.text("devpts"), num(unix.FSOPEN_CLOEXEC)).into(fs)
	b.call(step, unix.SYS_FSCONFIG, fs.value(), num(unix.FSCONFIG_CMD_CREATE), num(0), num(0), num(0))
	b.call(step, unix.SYS_FSMOUNT, fs.value(), num(unix.FSMOUNT_CLOEXEC), num(attributes)).into(mount)
	b.call(step, unix.SYS_OPENAT, mount.value(), b.text("ptmx"), num(unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC), num(0)).into(master)
	b.close(StepCloseFiles, fs.value(), mount.value())
}

// giveTerminal makes the terminal the user's, so that it can be opened again
// and login(1) and mesg(1) find what they expect. Where the user or the group
// has no number here it stays as devpts made it.
func (b *builder) giveTerminal(peer variable) {
	t, step, alone, done := b.spec.Terminal, StepTerminal, b.label(), b.label()
	if t.Group != NoID {
		b.call(step, unix.SYS_FCHOWN, peer.value(), num(t.Owner), num(t.Group)).orElse(alone)
		b.call(step, unix.SYS_FCHMOD, peer.value(), num(0o620)).then(done).orElse(done)
	}
	b.place(alone)
	if t.Owner != NoID {
		b.call(step, unix.SYS_FCHOWN, peer.value(), num(t.Owner), num(uint64(NoID))).tolerate()
	}
	b.call(step, unix.SYS_FCHMOD, peer.value(), num(0o600)).tolerate()
	b.place(done)
}

// handTerminal sends the terminal to the caller.
func (b *builder) handTerminal(master, whose variable) {
	m := b.message(true, whose.address(), num(8))
	b.set(m.fd, master.value())
	b.call(StepTerminal, unix.SYS_SENDMSG, num(fdDesk), m.header, num(unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL))
}

// control makes the terminal the command's controlling one: a session of its
// own comes first (A16), in which nobody else's terminal can be reached.
func (b *builder) control() {
	if b.spec.Terminal != nil {
		b.call(StepControl, unix.SYS_IOCTL, num(0), num(unix.TIOCSCTTY), num(0))
	}
}

// termios is struct termios of the kernel, which is the first 36 bytes of
// everybody else's.
func termios(t *unix.Termios) []byte {
	le := binary.LittleEndian
	var b []byte
	for _, flags := range [...]uint32{t.Iflag, t.Oflag, t.Cflag, t.Lflag} {
		b = le.AppendUint32(b, flags)
	}
	return append(append(b, t.Line), t.Cc[:]...)
}

// desk is where a caller takes a terminal. Without one all is nil.
type desk struct{ near, far *os.File }

// openDesk makes the desk and puts its far end where the terminal will be.
func openDesk(spec *Spec) (d desk, err error) {
	if spec.Terminal == nil {
		return d, nil
	}
	if d.near, d.far, err = sys.Socketpair(); err != nil {
		return d, &Error{StepStartWarden, err}
	}
	spec.Stdin, spec.Stdout = d.far, d.far
	if spec.Stderr == nil {
		spec.Stderr = d.far
	}
	return d, nil
}

// close closes both ends.
func (d desk) close() {
	if d.near != nil {
		d.near.Close()
		d.far.Close()
	}
}

// take returns the terminal, which is there once the command is, and tells
// whether it is of an instance of our own.
func (d desk) take() (master *os.File, ours bool, err error) {
	if d.near == nil {
		return nil, false, nil
	}
	d.far.Close() // or a joiner that sent nothing would be waited for
	word := make([]byte, 8)
	n, master, err := sys.Receive(d.near, word)
	if err != nil || n != len(word) || master == nil {
		return master, false, ErrKilled
	}
	return master, binary.LittleEndian.Uint64(word) == terminalOfOurs, nil
}
