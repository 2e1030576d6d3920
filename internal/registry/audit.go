// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"errors"
	"io/fs"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// auditWait is how long an append waits for the log's lock, whose holder may
// have been stopped. Then it goes on without: O_APPEND keeps lines whole, the
// lock guards rotation and repair.
const auditWait = time.Second

// audit appends line, given without its end, to the log. The goroutines of a
// process queue for it here, since asking for a file lock again and again is
// not fair: among dozens, one could ask for longer than auditWait.
func (r *Registry) audit(line []byte) error {
	r.auditMu.Lock()
	defer r.auditMu.Unlock()
	for {
		done, err := r.auditOnce(line)
		if err != nil {
			return &Error{Op: "write audit log", Path: filepath.Join(r.path, auditName), Err: err}
		}
		if done {
			return nil
		}
	}
}

// auditOnce appends line, or makes place for it and returns false. The log is
// opened each time, for it may have been moved since the last. Its lock goes
// with the descriptor; it is asked for before the file is looked at, since only
// then does what is seen stay so.
func (r *Registry) auditOnce(line []byte) (done bool, err error) {
	fd, err := openFile(r.dir, auditName, unix.O_RDWR|unix.O_APPEND|unix.O_CREAT)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	locked, err := lockWithin(fd, auditWait)
	if err != nil {
		return false, err
	}
	st, err := check(fd)
	if err != nil {
		return false, err
	}
	if !locked {
		return true, appendLine(fd, line, -1)
	}
	if st.Nlink == 0 { // rotated twice while we waited: the line would be lost
		return false, nil
	}
	if st.Size > 0 && st.Size+int64(len(line)) > r.auditMax && r.rotate(st) {
		return false, nil
	}
	return true, appendLine(fd, line, st.Size)
}

// rotate moves the log st, whose lock the caller holds, out of the way. It
// returns false where that fails: a long log is better than a lost line.
func (r *Registry) rotate(st *unix.Stat_t) bool {
	defer runtime.KeepAlive(r)
	dir := int(r.dir.Fd())
	var now unix.Stat_t
	if err := unix.Fstatat(dir, auditName, &now, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return errors.Is(err, unix.ENOENT)
	}
	if now.Dev != st.Dev || now.Ino != st.Ino {
		return true // somebody else has done it while we waited for the lock
	}
	return unix.Renameat(dir, auditName, dir, auditOldName) == nil
}

// audited tells whether the log has this line, and all of it. Whoever wrote it
// may have moved the log afterwards, once: hence both. It reads up to 32 MiB,
// but only after a process was killed within the microseconds of an End.
func (r *Registry) audited(line []byte) (bool, error) {
	whole := append(append([]byte{'\n'}, line...), '\n')
	for _, name := range []string{auditName, auditOldName} {
		log, err := r.readLog(name)
		if err != nil {
			return false, &Error{Op: "read audit log", Path: filepath.Join(r.path, name), Err: err}
		}
		if bytes.HasPrefix(log, whole[1:]) || bytes.Contains(log, whole) {
			return true, nil
		}
	}
	return false, nil
}

// readLog returns what is in a log, which need not exist.
func (r *Registry) readLog(name string) ([]byte, error) {
	fd, err := openFile(r.dir, name, unix.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	if _, err := check(fd); err != nil {
		return nil, err
	}
	return readAll(fd)
}
