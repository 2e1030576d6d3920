// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Entry is a session that has begun. It is alive as long as its file is open
// in some process.
type Entry struct {
	r    *Registry
	id   string
	file *os.File

	mu   sync.Mutex
	line []byte // the record as it was last written
	rec  Record
	size int64 // of the file
	done bool
}

const (
	// beginTries bounds how often Begin takes a new id. A second is rarely
	// needed.
	beginTries = 16
	// beginAge is how long sweepers leave a record alone that has no line yet.
	beginAge = 10 * time.Second
	// beginWait is how long Begin waits for the lock of its new record, at which
	// List may be having a look.
	beginWait = 100 * time.Millisecond
)

// Begin writes the record of a session, which is alive from then on. It gives
// it an id, and a start unless there is one. It is called before anything is
// done to the target, so that nobody gets in without a trace; what is not
// known yet follows with Update.
func (r *Registry) Begin(rec Record) (*Entry, error) {
	if rec.Started.IsZero() {
		rec.Started = time.Now()
	}
	rec.Started = rec.Started.UTC()
	var err error
	for range beginTries {
		rec.ID = r.newID()
		var e *Entry
		e, err = r.begin(rec)
		if err == nil {
			return e, nil
		}
		if !errors.Is(err, unix.EEXIST) && !errors.Is(err, errSwept) {
			break
		}
	}
	return nil, &Error{Op: "write session record", Path: r.recordPath(rec.ID), Err: err}
}

// errSwept says that somebody swept the record before it was locked.
var errSwept = errors.New("the record was removed while it was written")

// begin makes the record's file and locks it. Between the two it has no lock,
// as that of a dead session; but it has no line either, for which it is left
// alone. Should it be removed nevertheless, the lock is of a file without a
// name.
func (r *Registry) begin(rec Record) (*Entry, error) {
	line, err := encode(rec)
	if err != nil {
		return nil, err
	}
	name := rec.ID + recordSuffix
	fd, err := openNoFollow(int(r.sessions.Fd()), name, unix.O_RDWR|unix.O_APPEND|unix.O_CREAT|unix.O_EXCL)
	if err != nil {
		return nil, err
	}
	if err := fill(fd, line); err != nil {
		if !errors.Is(err, errSwept) {
			err = errors.Join(err, r.remove(name))
		}
		unix.Close(fd)
		return nil, err
	}
	f := os.NewFile(uintptr(fd), r.recordPath(rec.ID))
	return &Entry{r: r, id: rec.ID, file: f, line: line, rec: rec, size: int64(len(line)) + 1}, nil
}

// fill locks a new record and writes its first line. As records are removed
// under their lock only, one that still has a name keeps it from here on.
func fill(fd int, line []byte) error {
	locked, err := lockWithin(fd, beginWait)
	if err != nil {
		return err
	}
	st, err := check(fd)
	switch {
	case err != nil:
		return err
	case !locked || st.Nlink == 0:
		return errSwept
	}
	return appendLine(fd, line, 0)
}

// ID returns the session's id: ten characters, of which those of later
// sessions sort behind.
func (e *Entry) ID() string { return e.id }

// File returns the record's file. A process that inherits it, as one of
// exec.Cmd's ExtraFiles for instance, keeps the session alive; it need not
// know what it holds. The file is the entry's: it must not be closed.
func (e *Entry) File() *os.File { return e.file }

// Update changes the record. Readers see the old one or the new one.
func (e *Entry) Update(change func(*Record)) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.done {
		return ErrEnded
	}
	rec := e.rec
	change(&rec)
	rec.ID, rec.Started = e.rec.ID, e.rec.Started // what the session is known by
	line, err := encode(rec)
	if err != nil {
		return err
	}
	if err := e.append(line); err != nil {
		return &Error{Op: "write session record", Path: e.r.recordPath(e.id), Err: err}
	}
	e.rec, e.line = rec, line
	return nil
}

// End writes the session's line to the audit log and removes its record. After
// an error the session still has its record, and End can be called again.
func (e *Entry) End(o Outcome) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.done {
		return ErrEnded
	}
	line, err := join(e.line, o)
	if err != nil {
		return err
	}
	// First to the record, as the package comment has it. A disk that is too
	// full for it is no reason not to try the log.
	_ = e.append(line)
	if err := e.r.finish(e.id, line); err != nil {
		return err
	}
	e.done = true
	return e.file.Close()
}

// Release lets go of the session without ending it: it is left to those who
// inherited File, and without any, to Sweep.
func (e *Entry) Release() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.done {
		return ErrEnded
	}
	e.done = true
	return e.file.Close()
}

// append adds a line to the record, whose lock is ours alone: so is its size.
func (e *Entry) append(line []byte) error {
	err := appendLine(int(e.file.Fd()), line, e.size)
	if err == nil {
		e.size += int64(len(line)) + 1
	}
	return err
}

// finish writes the log's line of a session, and then removes its record.
func (r *Registry) finish(id string, line []byte) error {
	if err := r.audit(line); err != nil {
		return err
	}
	if err := r.remove(id + recordSuffix); err != nil {
		return &Error{Op: "remove session record", Path: r.recordPath(id), Err: err}
	}
	return nil
}

// remove removes a record, by whoever holds its lock. That it is gone is fine.
func (r *Registry) remove(name string) error {
	defer runtime.KeepAlive(r)
	err := retry(func() error { return unix.Unlinkat(int(r.sessions.Fd()), name, 0) })
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return os.NewSyscallError("unlinkat", err)
}

// recordPath is for messages.
func (r *Registry) recordPath(id string) string {
	return filepath.Join(r.path, sessionsName, id+recordSuffix)
}
