// SPDX-License-Identifier: Apache-2.0

package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// What follows is for reading thousands of small files: paths are bytes with a
// NUL at their end, buffers are the caller's, nothing is allocated.

// beneath keeps a lookup in one file system and away from links.
const beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_SYMLINKS

// errPath is a path without its NUL, which would be read on behind its end.
const errPath = unix.EINVAL

func ended(path []byte) bool { return len(path) > 0 && path[len(path)-1] == 0 }

// ReadAt reads a file below dir with a single read, at most len(buf) bytes: for
// files of procfs, which give all they have at once (openat2(2), 5.6). No link
// and no mount is followed.
func ReadAt(dir int, path, buf []byte) (n int, err error) {
	if !ended(path) || len(buf) == 0 {
		return 0, errPath
	}
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC, Resolve: beneath}
	fd, _, errno := unix.Syscall6(unix.SYS_OPENAT2, uintptr(dir), uintptr(unsafe.Pointer(&path[0])),
		uintptr(unsafe.Pointer(&how)), unsafe.Sizeof(how), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	n, err = unix.Read(int(fd), buf)
	unix.Close(int(fd))
	return max(n, 0), err
}

// ReadlinkAt reads a link below dir.
func ReadlinkAt(dir int, path, buf []byte) (n int, err error) {
	if !ended(path) || len(buf) == 0 {
		return 0, errPath
	}
	r, _, errno := unix.Syscall6(unix.SYS_READLINKAT, uintptr(dir), uintptr(unsafe.Pointer(&path[0])),
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
	_, _, errno := unix.Syscall6(unix.SYS_STATX, uintptr(dir), uintptr(unsafe.Pointer(&path[0])),
		unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_UID, uintptr(unsafe.Pointer(&st)), 0)
	if errno != 0 {
		return 0, errno
	}
	return st.Uid, nil
}

// OpenDirAt opens a directory below dir, for looking up what is in it.
func OpenDirAt(dir int, path []byte) (fd int, err error) {
	if !ended(path) {
		return -1, errPath
	}
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: beneath}
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
