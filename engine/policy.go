// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// minRealtime is SIGRTMIN as libraries and engines count: they keep two of the
// kernel's for themselves (signal(7)).
const minRealtime, maxRealtime = 34, 64

// SignalName returns the name of a signal that is given as engines allow it to be
// written: "SIGTERM", "term", "15", "RTMIN+3"; "" for what is none.
func SignalName(s string) string {
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if n, err := strconv.Atoi(name); err == nil {
		return signalName(n)
	}
	for base, n := range map[string]int{"RTMIN": minRealtime, "RTMAX": maxRealtime} {
		steps, ok := strings.CutPrefix(name, base)
		if !ok {
			continue
		}
		more, err := strconv.Atoi(steps) // its sign is a part of it
		if n += more; steps != "" && err != nil || n < minRealtime {
			return ""
		}
		return signalName(n)
	}
	return signalName(int(unix.SignalNum("SIG" + name)))
}

// signalName names a signal by its number.
func signalName(n int) string {
	switch {
	case n == minRealtime:
		return "SIGRTMIN"
	case n > minRealtime && n <= maxRealtime:
		return fmt.Sprintf("SIGRTMIN+%d", n-minRealtime)
	case n <= 0 || n > maxRealtime:
		return ""
	}
	return unix.SignalName(unix.Signal(n))
}

// Policy is a restart policy in the words of docker's and podman's command lines:
// its name and, where one is set, how often it is tried at most.
func Policy(name string, most int) string {
	switch {
	case name == "on-failure" && most > 0:
		return fmt.Sprintf("%s:%d", name, most)
	case name == "":
		return "no"
	}
	return name
}
