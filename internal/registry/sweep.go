// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// List returns the records of the sessions that are alive, oldest first. With
// an error it returns those that could be read.
func (r *Registry) List() ([]Record, error) {
	ids, err := r.ids()
	if err != nil {
		return nil, err
	}
	var live []Record
	var failed []error
	for _, id := range ids {
		p, err := r.look(id)
		if err != nil {
			failed = append(failed, &Error{Op: "read session record", Path: r.recordPath(id), Err: err})
		} else if p != nil {
			live = append(live, p.Record)
		}
	}
	return live, errors.Join(failed...)
}

// look reads the record of a session that is alive; for another it returns
// nil. A lock that can be had tells that the session is dead. It is a shared
// one, so that two who look do not take each other for the session's owner.
func (r *Registry) look(id string) (*parsed, error) {
	fd, err := openFile(r.sessions, id+recordSuffix, unix.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // ended meanwhile
	}
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	if _, err := check(fd); err != nil {
		return nil, err
	}
	if dead, err := tryLock(fd, unix.LOCK_SH); dead || err != nil {
		return nil, err
	}
	data, err := readAll(fd)
	if err != nil {
		return nil, err
	}
	p, err := parse(id, data)
	if p != nil && !p.Ended.IsZero() { // it is being removed
		return nil, err
	}
	return p, err
}

// Sweep is SweepFunc without anything to clean.
func (r *Registry) Sweep() (n int, err error) { return r.SweepFunc(nil) }

// SweepFunc ends the sessions whose owners are all dead: each gets its line in
// the log, and its record is removed. It returns for how many it did that. If
// clean is not nil it is called before, with what the session may have left; a
// session for which it fails is kept for the next time. Of several sweepers at
// once, one gets each session.
func (r *Registry) SweepFunc(clean func(Record) error) (n int, err error) {
	ids, err := r.ids()
	if err != nil {
		return 0, err
	}
	var failed []error
	for _, id := range ids {
		swept, err := r.sweep(id, clean)
		if err != nil {
			failed = append(failed, &Error{Op: "sweep session record", Path: r.recordPath(id), Err: err})
		}
		if swept {
			n++
		}
	}
	return n, errors.Join(failed...)
}

// sweep ends one session, if it is dead.
func (r *Registry) sweep(id string, clean func(Record) error) (swept bool, err error) {
	fd, err := openFile(r.sessions, id+recordSuffix, unix.O_RDWR|unix.O_APPEND)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	return r.sweepFile(fd, id, clean)
}

// sweepFile is sweep for an open record. The lock that it takes keeps other
// sweepers away, and goes with the descriptor.
func (r *Registry) sweepFile(fd int, id string, clean func(Record) error) (swept bool, err error) {
	st, err := check(fd)
	if err != nil || st.Size == 0 && beginning(st) {
		return false, err
	}
	if locked, err := tryLock(fd, unix.LOCK_EX); !locked {
		return false, err
	}
	st, err = check(fd)
	if err != nil || st.Nlink == 0 { // swept or ended by somebody else meanwhile
		return false, err
	}
	data, err := readAll(fd)
	if err != nil {
		return false, err
	}
	p, err := parse(id, data)
	switch {
	case err != nil: // by hand, or by a file system that broke
		p, err = damaged(id, st)
	case p == nil: // killed in Begin: nobody was let in
		return false, r.remove(id + recordSuffix)
	}
	if err != nil {
		return false, err
	}
	if clean != nil {
		if err := clean(p.Record); err != nil {
			return false, err
		}
	}
	return r.bury(fd, st.Size, p)
}

// beginning tells whether a record without a line may be in the hands of Begin,
// which has to lock it yet. A wrong answer, after a step of the clock or a stop
// of the process, makes Begin start again.
func beginning(st *unix.Stat_t) bool {
	age := time.Since(time.Unix(st.Mtim.Unix()))
	return -beginAge < age && age < beginAge
}

// bury does what is left of a session's end; see the package comment. A session
// that is in the log already was ended by its owner, and is not counted.
func (r *Registry) bury(fd int, size int64, p *parsed) (counted bool, err error) {
	if !p.Ended.IsZero() {
		done, err := r.audited(p.line)
		if err != nil {
			return false, err
		}
		if done {
			return false, r.remove(p.ID + recordSuffix)
		}
		err = r.finish(p.ID, p.line)
		return err == nil, err
	}
	if p.How == "" {
		p.How = HowLost
		if p.Detached {
			p.How = HowUnseen
		}
	}
	line, err := join(p.line, p.Outcome)
	if err != nil {
		return false, err
	}
	_ = appendLine(fd, line, size) // as in End: sweepers may be killed too
	err = r.finish(p.ID, line)
	return err == nil, err
}

// damaged stands for a record that cannot be read: that somebody was there is
// told in any case, since when as well as the file knows.
func damaged(id string, st *unix.Stat_t) (*parsed, error) {
	rec := Record{ID: id, Started: time.Unix(st.Mtim.Unix()).UTC()}
	line, err := encode(rec)
	return &parsed{Record: rec, Outcome: Outcome{How: HowLost, Error: errorDamage}, line: line}, err
}

// ids returns the ids of all records, in order. The directory is opened anew,
// for the offset of an open one is shared.
func (r *Registry) ids() ([]string, error) {
	fd, err := openNoFollow(int(r.sessions.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, &Error{Op: "read registry", Path: r.sessions.Name(), Err: err}
	}
	dir := os.NewFile(uintptr(fd), r.sessions.Name())
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, name := range names {
		if id, ok := recordID(name); ok {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}
