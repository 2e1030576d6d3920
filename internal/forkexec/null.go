// SPDX-License-Identifier: Apache-2.0

package forkexec

import (
	"os"

	"golang.org/x/sys/unix"
)

// Null says that Stdin, Stdout and Stderr, where they are nil, are to be the null
// device of the target's own. A target without one is a failure at StepNull. It
// needs Proc.
type Null struct {
	Root *os.File // O_PATH: the directory below which it is dev/null
}

// nullDevice as statx(2) has it: major and minor in one word.
const nullDevice = 1 | 3<<32

// null opens the null device for those of the descriptors that are to be it.
//
// A9 (docs/threat-model.md): what the target calls /dev/null is opened only when
// it is the null device. A13: it may never answer; the joiner is outside of the
// target's pid namespace and is given up at the deadline.
func (b *builder) null() {
	n := b.spec.Null
	if n == nil {
		return
	}
	const resolve = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS
	step, stat, mode := StepNull, b.reserve(256), b.variable(0) // struct statx
	seen, device := b.variable(noFD), b.variable(noFD)
	root := b.nullFile
	if n.Root == b.spec.Root {
		root = b.root
	}
	how := b.words(num(unix.O_PATH|unix.O_CLOEXEC), num(0), num(resolve))
	b.call(step, unix.SYS_OPENAT2, root, b.text("dev/null"), how, num(24)).into(seen)
	b.call(step, unix.SYS_STATX, seen.value(), b.text(""), num(unix.AT_EMPTY_PATH), num(unix.STATX_TYPE), stat)
	other, open := b.label(), b.label()
	b.compute(opLoad, at(stat, 24)).into(mode) // stx_gid and stx_mode
	b.compute(opAnd, mode.value(), num(uint64(unix.S_IFMT)<<32)).into(mode)
	b.unless(mode.value(), num(uint64(unix.S_IFCHR)<<32), other)
	b.ifSame(variable{stat.n + 128}.value(), num(uint64(nullDevice)), open) // stx_rdev
	b.place(other)
	b.emit(step, opFail, []word{num(-int(unix.ENXIO))})
	b.place(open)
	// The joiner's lowest free descriptor is the one that it has closed first.
	b.call(step, unix.SYS_OPENAT, b.proc, b.text("self/fd/"+itoa(fdLink)), num(unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC), num(0)).into(device)
	for fd, f := range [...]*os.File{b.spec.Stdin, b.spec.Stdout, b.spec.Stderr} {
		if f == nil {
			b.call(step, unix.SYS_DUP3, device.value(), num(fd), num(0))
		}
	}
	b.close(StepCloseFiles, seen.value(), device.value(), b.nullFile)
}
