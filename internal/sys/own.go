// SPDX-License-Identifier: Apache-2.0

package sys

import (
	"os"

	"golang.org/x/sys/unix"
)

// Nice returns the nice value of the calling thread (getpriority(2)).
func Nice() (int, error) {
	const highest = 20 // the system call returns 20 - nice, which is never negative
	n, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		return 0, os.NewSyscallError("getpriority", err)
	}
	return highest - n, nil
}

// TimerSlack returns the timer slack of the calling thread, nanoseconds
// (PR_GET_TIMERSLACK, prctl(2)).
func TimerSlack() (uint64, error) {
	n, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	return uint64(n), os.NewSyscallError("prctl timerslack", err)
}

// Personality returns the personality of the calling thread (personality(2)).
func Personality() (uint64, error) {
	const ask = 0xffffffff
	n, _, errno := unix.RawSyscall(unix.SYS_PERSONALITY, ask, 0, 0)
	if errno != 0 {
		return 0, os.NewSyscallError("personality", errno)
	}
	return uint64(n), nil
}
