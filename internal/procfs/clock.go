// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"time"

	"golang.org/x/sys/unix"
)

// Tick is a clock tick of procfs (USER_HZ, time(7)), as long on every architecture
// that Outband knows.
const Tick = time.Second / 100

// Boot is when the machine was started, as far as its clock can be believed: to that
// start times are added. It is the zero time where that cannot be told.
func Boot() time.Time {
	up, err := Uptime()
	if err != nil {
		return time.Time{}
	}
	return time.Now().Add(-up)
}

// StartTime is when a process started on a machine with this Boot, in whole seconds;
// the zero time where that is.
func StartTime(boot time.Time, start uint64) time.Time {
	if boot.IsZero() {
		return boot
	}
	return boot.Add(time.Duration(start) * Tick).Truncate(time.Second).UTC()
}

// Uptime is the time since then, suspended ones included (CLOCK_BOOTTIME,
// clock_gettime(2)).
func Uptime() (time.Duration, error) {
	var t unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t)
	return time.Duration(t.Nano()), err
}
