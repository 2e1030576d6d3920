// SPDX-License-Identifier: Apache-2.0

package sys

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// instructionSize is that of struct sock_filter, bytes.
const instructionSize = 8

// SetFilter installs a system call filter (seccomp(2), 3.17), instructions of 8
// bytes each, in the calling thread or, with SECCOMP_FILTER_FLAG_TSYNC, in all
// of them. It needs CAP_SYS_ADMIN or no_new_privs, else EACCES.
func SetFilter(program []byte, flags uint32) error {
	if len(program) < instructionSize {
		return os.NewSyscallError("seccomp", unix.EINVAL)
	}
	p := unix.SockFprog{Len: uint16(len(program) / instructionSize), Filter: (*unix.SockFilter)(unsafe.Pointer(&program[0]))}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(flags), uintptr(unsafe.Pointer(&p)))
	if errno != 0 {
		return os.NewSyscallError("seccomp", errno)
	}
	return nil
}
