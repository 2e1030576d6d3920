// SPDX-License-Identifier: Apache-2.0

package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// What follows is for reading thousands of small files: paths are bytes with a
// NUL at their end, buffers are the caller's, nothing is allocated. Where the kernel
// waits for nobody meanwhile, Go's scheduler is not told of the call: on a machine
// with two CPUs its monitor would look every 20 µs whether the reader's place can be
// given to another, and take it away.

// beneath keeps a lookup in one file system and away from links.
const beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_SYMLINKS

// errPath is a path without its NUL, which would be read on behind its end.
const errPath = unix.EINVAL

func ended(path []byte) bool { return len(path) > 0 && path[len(path)-1] == 0 }

// ReadAt reads a file below dir with a single read, at most len(buf) bytes: for
// files of procfs, which give all they have at once (openat2(2), 5.6). No link
// and no mount is followed. The read may wait.
func ReadAt(dir int, path, buf []byte) (n int, err error) {
	return readAt(dir, path, buf, true)
}

// PeekAt is ReadAt for a file that the kernel makes without waiting for anybody.
func PeekAt(dir int, path, buf []byte) (n int, err error) {
	return readAt(dir, path, buf, false)
}

func readAt(dir int, path, buf []byte, waits bool) (n int, err error) {
	if !ended(path) || len(buf) == 0 {
		return 0, errPath
	}
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC, Resolve: beneath}
	fd, _, errno := unix.RawSyscall6(unix.SYS_OPENAT2, uintptr(dir), uintptr(unsafe.Pointer(&path[0])),
		uintptr(unsafe.Pointer(&how)), unsafe.Sizeof(how), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	var r uintptr
	if waits {
		r, _, errno = unix.Syscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)))
	} else {
		r, _, errno = unix.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)))
	}
	_, _, _ = unix.RawSyscall(unix.SYS_CLOSE, fd, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(r), nil
}

// ReadlinkAt reads a link below dir.
func ReadlinkAt(dir int, path, buf []byte) (n int, err error) {
	if !ended(path) || len(buf) == 0 {
		return 0, errPath
	}
	r, _, errno := unix.RawSyscall6(unix.SYS_READLINKAT, uintptr(dir), uintptr(unsafe.Pointer(&path[0])),
		uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(r), nil
}

// OwnerAt returns the user a file below dir belongs to, which for a link is the
// link's (statx(2), 4.11).
func OwnerAt(dir int, path []byte) (uid uint32, err error) {
	if !ended(path) {
		return 0, errPath
	}
	var st unix.Statx_t
	_, _, errno := unix.RawSyscall6(unix.SYS_STATX, uintptr(dir), uintptr(unsafe.Pointer(&path[0])),
		unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_UID, uintptr(unsafe.Pointer(&st)), 0)
	if errno != 0 {
		return 0, errno
	}
	return st.Uid, nil
}

// OpenAt opens a file below dir for reading, see ReadAt.
func OpenAt(dir int, path []byte) (fd int, err error) {
	if !ended(path) {
		return -1, errPath
	}
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC, Resolve: beneath}
	r, _, errno := unix.Syscall6(unix.SYS_OPENAT2, uintptr(dir), uintptr(unsafe.Pointer(&path[0])),
		uintptr(unsafe.Pointer(&how)), unsafe.Sizeof(how), 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(r), nil
}

// OpenLinkAt opens what a link of procfs below dir leads to.
func OpenLinkAt(dir int, path []byte) (fd int, err error) {
	if !ended(path) {
		return -1, errPath
	}
	r, _, errno := unix.Syscall6(unix.SYS_OPENAT, uintptr(dir), uintptr(unsafe.Pointer(&path[0])),
		unix.O_RDONLY|unix.O_CLOEXEC, 0, 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(r), nil
}

// Ioctl is ioctl(2) with a number for its argument, which it returns one for.
func Ioctl(fd int, request uint, arg int) (n int, err error) {
	r, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(arg))
	if errno != 0 {
		return 0, errno
	}
	return int(r), nil
}
