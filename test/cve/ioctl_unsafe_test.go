// SPDX-License-Identifier: Apache-2.0

package cve

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// ioctlBytes is an ioctl(2) on bytes.
func ioctlBytes(fd int, request uintptr, b []byte) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(&b[0]))); errno != 0 {
		return errno
	}
	return nil
}
