// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/sys"
)

// Caller returns who the calling process is. What cannot be read is left out:
// a missing fact about the admin is no reason to refuse a rescue. The terminal
// is the controlling one, since the standard streams may be pipes; and what the
// environment says is only written down, as anybody can set it.
func Caller(getenv func(string) string) By {
	by := By{UID: os.Getuid(), PID: os.Getpid(), SSH: getenv("SSH_CONNECTION")}
	by.LoginUID = parseLoginUID(head("/proc/self/loginuid"))
	by.TTY = ttyName(parseTTY(head("/proc/self/stat")))
	by.Cwd, _ = syscall.Getwd() // not os.Getwd, which believes $PWD
	return by
}

// head returns the first kilobyte of a file of procfs, "" where there is none.
func head(path string) string {
	f, err := sys.Open(path, unix.O_RDONLY)
	if err != nil {
		return ""
	}
	defer f.Close()
	var b [1024]byte
	n, _ := f.Read(b[:]) // one line that is shorter, in one read
	return string(b[:max(n, 0)])
}

// parseLoginUID reads /proc/PID/loginuid; nil where nobody logged in.
func parseLoginUID(s string) *uint32 {
	n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 32)
	if err != nil || n == math.MaxUint32 { // AUDIT_UID_UNSET, (uid_t)-1
		return nil
	}
	uid := uint32(n)
	return &uid
}

// parseTTY returns the device of the controlling terminal from /proc/PID/stat,
// or 0, 0. The fields are counted from the last parenthesis, as comm may hold
// anything.
func parseTTY(stat string) (major, minor uint32) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 5 { // state ppid pgrp session tty_nr
		return 0, 0
	}
	n, err := strconv.ParseInt(fields[4], 10, 32)
	if err != nil {
		return 0, 0
	}
	dev := uint32(n) // the kernel's new_encode_dev, printed as a signed number
	return dev >> 8 & 0xfff, dev&0xff | dev>>12&0xfff00
}

// ptsMajor is UNIX98_PTY_SLAVE_MAJOR, whose devices sysfs does not list.
const ptsMajor = 136

// ttyName returns the name of a terminal without /dev/, or "".
func ttyName(major, minor uint32) string {
	switch major {
	case 0:
		return ""
	case ptsMajor:
		return "pts/" + strconv.FormatUint(uint64(minor), 10)
	}
	link, err := os.Readlink("/sys/dev/char/" + strconv.Itoa(int(major)) + ":" + strconv.Itoa(int(minor)))
	if err != nil {
		return ""
	}
	return filepath.Base(link)
}
