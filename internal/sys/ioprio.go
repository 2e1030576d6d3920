// SPDX-License-Identifier: Apache-2.0

package sys

import (
	"os"

	"golang.org/x/sys/unix"
)

// IOPriority returns the I/O priority of process pid, class << 13 | level
// (ioprio_get(2)); ESRCH if there is none.
func IOPriority(pid int) (int, error) {
	const process = 1 // IOPRIO_WHO_PROCESS
	n, _, errno := unix.Syscall(unix.SYS_IOPRIO_GET, process, uintptr(pid), 0)
	if errno != 0 {
		return 0, os.NewSyscallError("ioprio_get", errno)
	}
	return int(n), nil
}
