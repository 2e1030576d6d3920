// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"encoding/json"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Messages between the test and the host's init: one JSON value per packet of
// a SOCK_SEQPACKET socket, at most maxPacket long.

// maxPacket is below what the default of net.core.wmem_default lets through.
const maxPacket = 64 << 10

// order asks the init to start a command or, with Kill, to kill one.
type order struct {
	ID   int      `json:"id"`
	Kill bool     `json:"kill,omitempty"`
	Args []string `json:"args,omitempty"`
	Env  []string `json:"env,omitempty"`
	Dir  string   `json:"dir,omitempty"`
	User *User    `json:"user,omitempty"`
}

// report is what became of it; several come for one order.
type report struct {
	ID     int    `json:"id"`
	Pid    int    `json:"pid,omitempty"` // as the host counts
	Done   bool   `json:"done,omitempty"`
	Code   int    `json:"code"` // of exit, or 128 and the signal
	Failed string `json:"failed,omitempty"`
}

// send writes a value as one packet, with files along.
func send(link *os.File, value any, files ...*os.File) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if len(data) > maxPacket {
		return fmt.Errorf("a message of %d bytes is too long", len(data))
	}
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		rights = unix.UnixRights(fds...)
	}
	return retry(func() error { return unix.Sendmsg(int(link.Fd()), data, rights, nil, unix.MSG_NOSIGNAL) })
}

// receive reads one packet into value, and the files that came along. At the
// end of the stream ok is false.
func receive(link *os.File, value any) (files []*os.File, ok bool, err error) {
	data, rights := make([]byte, maxPacket), make([]byte, unix.CmsgSpace(8*4))
	var n, m int
	err = retry(func() (err error) {
		n, m, _, _, err = unix.Recvmsg(int(link.Fd()), data, rights, unix.MSG_CMSG_CLOEXEC)
		return err
	})
	if err != nil || n == 0 {
		return nil, false, err
	}
	messages, err := unix.ParseSocketControlMessage(rights[:m])
	if err != nil {
		return nil, false, err
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return nil, false, err
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, true, json.Unmarshal(data[:n], value)
}

// retry repeats what a signal has interrupted.
func retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR { //nolint:errorlint // as the kernel returns it
			return err
		}
	}
}
