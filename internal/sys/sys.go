// SPDX-License-Identifier: Apache-2.0

// Package sys has one Go function per system call that the standard packages
// and golang.org/x/sys lack, or whose result they leave untyped. It decides
// nothing.
package sys

import (
	"errors"
	"io"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Self returns a pidfd of the calling process (pidfd_open(2), 5.3).
func Self() (*os.File, error) { return OpenPid(os.Getpid()) }

// OpenPid returns a pidfd of process pid; ESRCH if there is none.
func OpenPid(pid int) (*os.File, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	return os.NewFile(uintptr(fd), "pidfd:"+strconv.Itoa(pid)), nil
}

// signalProcessGroup is PIDFD_SIGNAL_PROCESS_GROUP (6.9).
const signalProcessGroup = 1 << 2

// Signal sends sig to the process that pidfd refers to (pidfd_send_signal(2),
// 5.1), or to its process group (6.9), or, where the kernel cannot do that, to
// the process alone. ESRCH if it is gone; signal 0 asks just that.
func Signal(pidfd *os.File, sig unix.Signal, group bool) error {
	flags := 0
	if group {
		flags = signalProcessGroup
	}
	var err error
	cerr := Control(pidfd, func(fd int) {
		err = unix.PidfdSendSignal(fd, sig, nil, flags)
		if group && errors.Is(err, unix.EINVAL) {
			err = unix.PidfdSendSignal(fd, sig, nil, 0)
		}
	})
	return errors.Join(cerr, os.NewSyscallError("pidfd_send_signal", err))
}

// Control calls f with the descriptor of file, which stays open meanwhile and
// keeps its blocking mode.
func Control(file *os.File, f func(fd int)) error {
	rc, err := file.SyscallConn()
	if err != nil {
		return err
	}
	return rc.Control(func(fd uintptr) { f(int(fd)) })
}

// Open opens path as a file that Go's poller has nothing to do with: os.OpenFile
// asks it for every kind of file, which takes four calls more.
func Open(path string, flags int) (*os.File, error) {
	for {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), path), nil
		case !errors.Is(err, unix.EINTR):
			return nil, &os.PathError{Op: "open", Path: path, Err: err}
		}
	}
}

// Socketpair returns two ends of a SOCK_SEQPACKET connection, which block.
func Socketpair() (near, far *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	return os.NewFile(uintptr(fds[0]), "link"), os.NewFile(uintptr(fds[1]), "link"), nil
}

// Pipe returns a pipe whose ends block, unlike those of os.Pipe.
func Pipe() (r, w *os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, os.NewSyscallError("pipe2", err)
	}
	return os.NewFile(uintptr(fds[0]), "pipe"), os.NewFile(uintptr(fds[1]), "pipe"), nil
}

// Await waits until f can be read or is at its end, or other, if it is not nil,
// is at its end; false when deadline comes first. A zero deadline never comes.
func Await(deadline time.Time, f, other *os.File) bool {
	polls := []unix.PollFd{{Fd: -1, Events: unix.POLLIN}, {Fd: -1}}
	for i, file := range [...]*os.File{f, other} {
		if file != nil && Control(file, func(fd int) { polls[i].Fd = int32(fd) }) != nil {
			return true // closed: whoever reads it is told
		}
	}
	for {
		timeout := -1
		if !deadline.IsZero() {
			timeout = int(max(time.Until(deadline), 0)/time.Millisecond) + 1
		}
		n, err := unix.Poll(polls, timeout)
		if !errors.Is(err, unix.EINTR) {
			return n > 0 || err != nil
		}
	}
}

// Receive reads one message of a seqpacket connection, with the descriptor
// that came along or nil. It returns io.EOF at the end.
func Receive(link *os.File, buf []byte) (n int, fd *os.File, err error) {
	oob := make([]byte, unix.CmsgSpace(4))
	var oobn int
	var errno error
	cerr := Control(link, func(s int) {
		for {
			n, oobn, _, _, errno = unix.Recvmsg(s, buf, oob, unix.MSG_CMSG_CLOEXEC)
			if !errors.Is(errno, unix.EINTR) {
				return
			}
		}
	})
	switch {
	case cerr != nil:
		return 0, nil, cerr
	case errno != nil:
		return 0, nil, os.NewSyscallError("recvmsg", errno)
	case n == 0:
		return 0, nil, io.EOF
	}
	return n, rights(oob[:oobn]), nil
}

// rights returns the first descriptor in ancillary data, or nil. Others, for
// which alignment leaves room, are closed.
func rights(oob []byte) (first *os.File) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for _, m := range messages {
		fds, _ := unix.ParseUnixRights(&m) // of another kind: none
		for _, fd := range fds {
			if first == nil {
				first = os.NewFile(uintptr(fd), "pidfd")
			} else {
				unix.Close(fd)
			}
		}
	}
	return first
}

// Release returns the running kernel's version, major and minor (uname(2)).
func Release() (major, minor int) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return 0, 0
	}
	numbers := [2]int{}
	at := 0
	for _, c := range u.Release { // "6.18.1-something"; fmt would cost more than the call
		switch {
		case '0' <= c && c <= '9':
			numbers[at] = 10*numbers[at] + int(c-'0')
		case c == '.' && at == 0:
			at = 1
		default:
			return numbers[0], numbers[1]
		}
	}
	return numbers[0], numbers[1]
}

// ReapsByPidfd tells whether PIDFD_GET_INFO gives the exit status of a process
// that is reaped already (PIDFD_INFO_EXIT, 6.15). Asking the kernel needs a dead
// child; since pidfs cannot be configured away, the version is as good.
func ReapsByPidfd() bool {
	major, minor := Release()
	return major > 6 || major == 6 && minor >= 15
}

// OpenPeer opens the other end of a pseudo-terminal by its master (TIOCGPTPEER,
// 4.13), whose name would be looked up in the caller's mounts.
func OpenPeer(master *os.File) (*os.File, error) {
	var fd uintptr
	var errno unix.Errno
	err := Control(master, func(m int) {
		fd, _, errno = unix.Syscall(unix.SYS_IOCTL, uintptr(m), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	})
	switch {
	case err != nil:
		return nil, err
	case errno != 0:
		return nil, os.NewSyscallError("tiocgptpeer", errno)
	}
	return os.NewFile(fd, "terminal"), nil
}
