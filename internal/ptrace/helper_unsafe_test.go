// SPDX-License-Identifier: Apache-2.0

package ptrace

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// setFilter installs f in every thread of the process.
func setFilter(f Filter) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	program := unix.SockFprog{Len: uint16(len(f.Program) / instructionSize), Filter: (*unix.SockFilter)(unsafe.Pointer(&f.Program[0]))}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		uintptr(f.Flags|unix.SECCOMP_FILTER_FLAG_TSYNC), uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return errno
	}
	return nil
}

// onThread calls f on a thread that ends when let is closed, and returns what
// it said before.
func onThread(f func() error, let chan struct{}) error {
	said := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocks: the thread ends with the goroutine
		said <- f()
		<-let
	}()
	return <-said
}
