// SPDX-License-Identifier: Apache-2.0

package forkexec

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"
)

// Status is how a command ended.
type Status struct {
	Code   int         // the exit code; -1 where a signal ended it
	Signal unix.Signal // the signal that ended it, or 0
	Core   bool        // a core was dumped
	Left   bool        // something the command left behind would not go, see D state
}

// errNoStatus is a status that the warden could not get.
var errNoStatus = errors.New("how the command ended is not known")

// decodeStatus reads struct pidfd_info (modern) or siginfo_t.
func decodeStatus(b []byte, modern, left bool) (Status, error) {
	le := binary.LittleEndian
	if code := int32(le.Uint32(b[8:])); code != 0 && le.Uint32(b) == uint32(unix.SIGCHLD) {
		return infoStatus(code, int(le.Uint32(b[24:])), left)
	}
	if !modern || le.Uint64(b)&pidfdInfoExit == 0 {
		return Status{Left: left}, errNoStatus
	}
	w := unix.WaitStatus(le.Uint32(b[60:])) // exit_code
	if w.Signaled() {
		return Status{Code: -1, Signal: w.Signal(), Core: w.CoreDump(), Left: left}, nil
	}
	return Status{Code: w.ExitStatus(), Left: left}, nil
}

// infoStatus decodes si_code and si_status, see waitid(2).
func infoStatus(code int32, status int, left bool) (Status, error) {
	const exited, killed, dumped = 1, 2, 3
	switch code {
	case exited:
		return Status{Code: status, Left: left}, nil
	case killed, dumped:
		return Status{Code: -1, Signal: unix.Signal(status), Core: code == dumped, Left: left}, nil
	}
	return Status{Left: left}, errNoStatus
}
