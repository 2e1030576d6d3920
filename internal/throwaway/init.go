// SPDX-License-Identifier: Apache-2.0

package throwaway

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// runInit is the smallest useful init: it reaps, ends on SIGTERM with status
// 0, and takes no notice of any other signal.
func runInit(*call) int {
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)
	ready()
	for {
		reap()
		if <-signals == unix.SIGTERM {
			return 0
		}
	}
}

// ready closes the control socket if this init was executed by a stage. Nothing
// else leaves such a socket at that number: without a stage it is free, or one
// of the runtime's own, which are no sockets.
func ready() {
	kind, err := unix.GetsockoptInt(controlFD, unix.SOL_SOCKET, unix.SO_TYPE)
	if err == nil && kind == unix.SOCK_SEQPACKET {
		unix.Close(controlFD)
	}
}

// reap collects every child that has ended. Further SIGCHLDs may be merged into
// the one that led here.
func reap() {
	for {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		if pid <= 0 && err != unix.EINTR {
			return
		}
	}
}
