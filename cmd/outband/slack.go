// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// monitorSlack is how much later than it wants to the monitor may wake up,
// nanoseconds.
const monitorSlack = 1_000_000

// slack makes the monitor of Go's runtime sleep for longer. For the first
// milliseconds of a program it wakes up as often as the kernel lets it, every 70
// µs, on the processor that does the work, and takes 3 to 4 % of an entry. All
// that it is late for here is to see that a thread sits in a system call while a
// goroutine waits, for which there are other threads.
//
// The monitor is the first thread that the runtime makes, and the kernel lists
// threads in that order. Without CAP_SYS_NICE it stays as it is.
func slack() {
	tasks, err := unix.Open("/proc/self/task", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(tasks)
	var buf [512]byte
	n, err := unix.ReadDirent(tasks, buf[:])
	if err != nil {
		return
	}
	_, _, names := unix.ParseDirent(buf[:n], 2, nil)
	if len(names) != 2 || names[0] != strconv.Itoa(os.Getpid()) {
		return
	}
	fd, err := unix.Open("/proc/"+names[1]+"/timerslack_ns", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	_, _ = unix.Write(fd, []byte(strconv.Itoa(monitorSlack)))
}
