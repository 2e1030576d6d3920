// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// filtersJob prints the system call filters of a process, one a line, as the
// kernel tells them to a tracer. It is a process of its own: a test's wait for
// its child would take the stop of that.
func filtersJob(args []string) int {
	runtime.LockOSThread()
	pid, err := strconv.Atoi(args[0])
	for until := untilPatience(); err == nil; time.Sleep(time.Millisecond) {
		// A command that has just been executed is let go of a moment later.
		if err = unix.PtraceSeize(pid); err == nil {
			break
		}
		if errors.Is(err, unix.EPERM) && time.Now().Before(until) {
			err = nil
		}
	}
	if err == nil {
		err = unix.PtraceInterrupt(pid)
	}
	if err == nil {
		_, err = unix.Wait4(pid, nil, unix.WALL, nil)
	}
	for i := 0; err == nil; i++ {
		program := make([]byte, 4096*8)
		metadata := [2]uint64{uint64(i), 0}
		n, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SECCOMP_GET_FILTER, uintptr(pid), uintptr(i), uintptr(unsafe.Pointer(&program[0])), 0, 0)
		if errno == unix.ENOENT {
			return 0
		}
		if err = error(errno); errno == 0 {
			_, _, errno = unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SECCOMP_GET_METADATA, uintptr(pid), 16, uintptr(unsafe.Pointer(&metadata[0])), 0, 0)
			err = nil
			fmt.Printf("%x %x %v\n", program[:8*n], metadata[1], errno)
		}
	}
	fmt.Println(err)
	return 1
}
