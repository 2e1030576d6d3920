// SPDX-License-Identifier: Apache-2.0

package sys

import (
	"encoding/binary"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ExitStatus returns how the process that pidfd refers to ended, as wait4(2) has
// it, child of the caller or not (PIDFD_INFO_EXIT, 6.15). ok is false where the
// kernel cannot tell it, and while the process is not reaped.
//
// Of a process that ended with others of its group the kernel may tell how its
// first thread ended.
func ExitStatus(pidfd *os.File) (status unix.WaitStatus, ok bool) {
	// PIDFD_GET_INFO for the first version of struct pidfd_info (6.13), of 64
	// bytes: the mask comes first, PIDFD_INFO_EXIT in it; exit_code is the last.
	const getInfo, infoExit, exitCode = 0xc040ff0b, 1 << 3, 60
	info := [64]byte{0: infoExit}
	var errno unix.Errno
	err := Control(pidfd, func(fd int) {
		_, _, errno = unix.Syscall(unix.SYS_IOCTL, uintptr(fd), getInfo, uintptr(unsafe.Pointer(&info)))
	})
	told := err == nil && errno == 0 && info[0]&infoExit != 0
	return unix.WaitStatus(binary.LittleEndian.Uint32(info[exitCode:])), told
}
