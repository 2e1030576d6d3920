// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// retry repeats a call that a signal interrupted.
func retry(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// openNoFollow opens one name below a directory. A planted symbolic link is an
// error (class A39).
func openNoFollow(dir int, name string, flags int) (fd int, err error) {
	flags |= unix.O_NOFOLLOW | unix.O_CLOEXEC
	err = retry(func() error {
		fd, err = unix.Openat(dir, name, flags, 0o600)
		return err
	})
	if errors.Is(err, unix.ELOOP) {
		err = unsafeError("a symbolic link")
	}
	return fd, err
}

// openFile opens a file of the registry that may exist, as whatever it may: so
// that neither a FIFO nor a terminal does anything to us before check.
func openFile(dir *os.File, name string, flags int) (fd int, err error) {
	defer runtime.KeepAlive(dir)
	flags |= unix.O_NONBLOCK | unix.O_NOCTTY
	fd, err = openNoFollow(int(dir.Fd()), name, flags)
	if errors.Is(err, unix.EACCES) {
		if err = makeAccessible(int(dir.Fd()), name, 0o600); err == nil {
			fd, err = openNoFollow(int(dir.Fd()), name, flags)
		}
	}
	return fd, err
}

// makeAccessible gives the owner a file or directory of ours that a umask took
// from everybody, and whose maker did not come to mend it. fchmod(2) refuses an
// O_PATH descriptor, hence the way through /proc, which leads to the very file
// that was checked.
func makeAccessible(dir int, name string, mode uint32) error {
	fd, err := openNoFollow(dir, name, unix.O_PATH)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFREG && kind != unix.S_IFDIR {
		return unsafeError("neither a file nor a directory") // chmod would follow a link
	}
	if err := checkOwner(&st); err != nil {
		return err
	}
	return os.NewSyscallError("chmod", unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), mode))
}

// checkOwner returns ErrUnsafe for what belongs to somebody else, who could
// change it at any time.
func checkOwner(st *unix.Stat_t) error {
	if euid := os.Geteuid(); int64(st.Uid) != int64(euid) {
		return unsafeError(fmt.Sprintf("owned by uid %d, not %d", st.Uid, euid))
	}
	return nil
}

// check returns ErrUnsafe for anything but a regular file of ours that has no
// second name, and gives it the mode 0600 whatever the umask was (class A40).
func check(fd int) (*unix.Stat_t, error) {
	st := new(unix.Stat_t)
	if err := unix.Fstat(fd, st); err != nil {
		return nil, os.NewSyscallError("fstat", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, unsafeError("not a regular file")
	}
	if err := checkOwner(st); err != nil {
		return nil, err
	}
	if st.Nlink > 1 { // a hard link: what is written would go elsewhere too
		return nil, unsafeError(fmt.Sprintf("a file with %d names", st.Nlink))
	}
	if st.Mode&0o7777 == 0o600 {
		return st, nil
	}
	return st, os.NewSyscallError("fchmod", unix.Fchmod(fd, 0o600))
}

// tryLock takes the lock of a file (LOCK_EX or LOCK_SH), or returns false.
func tryLock(fd, how int) (bool, error) {
	err := retry(func() error { return unix.Flock(fd, how|unix.LOCK_NB) })
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, os.NewSyscallError("flock", err)
}

// lockWithin takes the exclusive lock of a file, or returns false after some
// time. Such locks are held for microseconds, but the holder may be stopped.
func lockWithin(fd int, limit time.Duration) (bool, error) {
	deadline := time.Now().Add(limit)
	for pause := 50 * time.Microsecond; ; pause = min(2*pause, time.Millisecond) {
		locked, err := tryLock(fd, unix.LOCK_EX)
		if locked || err != nil || time.Now().After(deadline) {
			return locked, err
		}
		time.Sleep(pause)
	}
}

// appendLine appends line to a file in one write, or not at all: where a full
// disk takes a part, that is cut off again. The caller holds the file's lock,
// under which it has this size; without the lock, size is negative.
func appendLine(fd int, line []byte, size int64) error {
	text := make([]byte, 0, len(line)+2)
	if torn(fd, size) {
		var err error
		if size, text, err = mend(fd, text); err != nil {
			return err
		}
	}
	text = append(append(text, line...), '\n')
	var n int
	err := retry(func() (err error) {
		n, err = unix.Write(fd, text)
		return err
	})
	if err == nil && n < len(text) {
		err = io.ErrShortWrite
	}
	if n > 0 && n < len(text) && size >= 0 {
		err = errors.Join(err, os.NewSyscallError("ftruncate", unix.Ftruncate(fd, size)))
	}
	return os.NewSyscallError("write", err)
}

// torn tells whether a file of this size lacks the end of its last line. A
// process that is killed may have written a part: the kernel looks for SIGKILL
// at each page.
func torn(fd int, size int64) bool {
	if size <= 0 {
		return false
	}
	last := []byte{'\n'}
	_, _ = unix.Pread(fd, last, size-1) // unreadable counts as whole
	return last[0] != '\n'
}

// mend cuts off the part of a line at the end of a file: the session that it
// is of has its record still, from which it is written again. Whole lines lack
// their end only by somebody's hand, and are given it: what has to go before
// the next line is appended to text.
func mend(fd int, text []byte) (size int64, mended []byte, err error) {
	data, err := readAll(fd)
	if err != nil {
		return 0, nil, err
	}
	start := bytes.LastIndexByte(data, '\n') + 1
	if json.Valid(data[start:]) {
		return int64(len(data)), append(text, '\n'), nil
	}
	return int64(start), text, os.NewSyscallError("ftruncate", unix.Ftruncate(fd, int64(start)))
}

// readAll returns what is in a file from its beginning, and leaves it open: to
// close a descriptor is to drop its lock.
func readAll(fd int) ([]byte, error) {
	return io.ReadAll(io.NewSectionReader(preader(fd), 0, 1<<62))
}

// preader reads a file by its number.
type preader int

func (p preader) ReadAt(b []byte, off int64) (n int, err error) {
	err = retry(func() (err error) {
		n, err = unix.Pread(int(p), b, off)
		return err
	})
	if err == nil && n == 0 && len(b) > 0 {
		err = io.EOF
	}
	return max(n, 0), err
}
