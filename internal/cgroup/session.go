// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/sys"
)

// Names of session groups. What follows the prefix is random; a group whose
// session left something running on purpose is told by its name, so that
// nobody ends it later.
const (
	Prefix     = "outband-"
	leftPrefix = Prefix + "left-"
)

// Session is the group of one session, a child of the group of its target. The
// lock on Dir says that the session lives: it belongs to the open file, which
// the warden inherits and nobody else keeps.
type Session struct {
	Parent, Dir *os.File
	Name        string
}

// NewSession makes a group below path and locks it. leave says that what is in
// it may outlive the session.
//
// Errors are those of mkdir(2) in a cgroup; EOPNOTSUPP (threaded), EAGAIN
// (cgroup.max.descendants) and EACCES mean that the session has to be kept
// together otherwise.
func (t *Tree) NewSession(path string, leave bool) (*Session, error) {
	parent, err := t.open(path)
	if err != nil {
		return nil, err
	}
	prefix := Prefix
	if leave {
		prefix = leftPrefix
	}
	const attempts = 3 // a sweep may take a group that is not locked yet
	for range attempts {
		var s *Session
		if s, err = newSession(parent, prefix+random()); err == nil {
			return s, nil
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) && !errors.Is(err, unix.EWOULDBLOCK) {
			break
		}
	}
	parent.Close()
	return nil, err
}

// ours tells whether a group has a name that NewSession gives: an administrator
// may have called another one outband-something.
func ours(name string) bool {
	rest, ok := strings.CutPrefix(name, leftPrefix)
	if !ok {
		rest, ok = strings.CutPrefix(name, Prefix)
	}
	b, err := hex.DecodeString(rest)
	return ok && err == nil && len(b) == nameSize
}

// nameSize is the number of random bytes in a name.
const nameSize = 5

// random returns a name that nobody has yet. It is no secret: crypto/rand would
// cost a tenth of a millisecond at every start of the program.
func random() string {
	var b [nameSize]byte
	_, _ = unix.Getrandom(b[:], unix.GRND_NONBLOCK) // a name that is taken is tried again
	return hex.EncodeToString(b[:])
}

func newSession(parent *os.File, name string) (*Session, error) {
	var err error
	cerr := sys.Control(parent, func(at int) { err = unix.Mkdirat(at, name, 0o755) })
	if err = errors.Join(cerr, err); err != nil {
		return nil, &os.PathError{Op: "mkdir", Path: parent.Name() + "/" + name, Err: err}
	}
	dir, err := openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	err = lock(dir)
	if err == nil { // a sweep may have removed it before
		var st unix.Stat_t
		cerr = sys.Control(dir, func(at int) { err = unix.Fstatat(at, "cgroup.procs", &st, 0) })
		err = errors.Join(cerr, err)
	}
	if err != nil {
		dir.Close()
		return nil, err
	}
	return &Session{Parent: parent, Dir: dir, Name: name}, nil
}

func lock(dir *os.File) (err error) {
	cerr := sys.Control(dir, func(fd int) { err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
	return errors.Join(cerr, err)
}

// Release closes the files of the session, which goes on.
func (s *Session) Release() {
	s.Dir.Close()
	s.Parent.Close()
}

// endBudget is how long End waits for what it has killed, momentBudget how long
// who has something else to do. What waits for a file system that does not
// answer dies when that ends, and must not keep the next session out (A13).
const (
	endBudget    = 2 * time.Second
	momentBudget = 500 * time.Millisecond
)

// End ends everything in the group and removes it. It is for a session whose
// warden cannot: it never began, or was killed. EBUSY if something in it would
// not die.
func (s *Session) End() error { return s.end(time.Now().Add(endBudget)) }

// GiveUp is End for what is known to hang, perhaps: it kills and waits for a
// moment. What is still there is left to a sweep.
func (s *Session) GiveUp() error { return s.end(time.Now().Add(momentBudget)) }

func (s *Session) end(deadline time.Time) error {
	for {
		var err error
		cerr := sys.Control(s.Parent, func(at int) { err = unix.Unlinkat(at, s.Name, unix.AT_REMOVEDIR) })
		if err = errors.Join(cerr, err); err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		failed := &os.PathError{Op: "rmdir", Path: s.Parent.Name() + "/" + s.Name, Err: err}
		if !errors.Is(err, unix.EBUSY) {
			return failed
		}
		if err := s.kill(); err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return failed
		}
		time.Sleep(time.Millisecond)
	}
}

// kill ends all processes in the group (cgroup.kill, 5.14).
func (s *Session) kill() error {
	f, err := openat(s.Dir, "cgroup.kill", unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString("1")
	return err
}

// Sweep ends the sessions below path whose warden is gone and returns how many
// it removed. A group left on purpose is removed only when it is empty.
func (t *Tree) Sweep(path string) int {
	parent, err := t.open(path)
	if err != nil {
		return 0
	}
	defer parent.Close()
	names, err := parent.Readdirnames(-1)
	if err != nil {
		return 0
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !ours(name) })
	// Killed first, all of them, and waited for together.
	left := sweepAll(parent, names, 0)
	if len(left) > 0 {
		left = sweepAll(parent, left, momentBudget)
	}
	return len(names) - len(left)
}

// sweepAll ends sessions that nobody holds, within budget for all of them, and
// returns the names of those that are still there.
func sweepAll(parent *os.File, names []string, budget time.Duration) (left []string) {
	deadline := time.Now().Add(budget)
	for _, name := range names {
		if !sweep(parent, name, deadline) {
			left = append(left, name)
		}
	}
	return left
}

// SweepDir ends the session whose group is the directory dir, if nobody holds
// it; there is no error if it is gone.
func SweepDir(dir string) {
	parent, err := sys.Open(filepath.Dir(dir), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return
	}
	defer parent.Close()
	if name := filepath.Base(dir); ours(name) && kind(parent) == unix.CGROUP2_SUPER_MAGIC {
		sweep(parent, name, time.Now().Add(momentBudget))
	}
}

// sweep ends one session if nobody holds it.
func sweep(parent *os.File, name string, deadline time.Time) bool {
	dir, err := openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return false
	}
	defer dir.Close()
	if lock(dir) != nil {
		return false
	}
	s := &Session{Parent: parent, Dir: dir, Name: name}
	if strings.HasPrefix(name, leftPrefix) {
		var err error
		cerr := sys.Control(parent, func(at int) { err = unix.Unlinkat(at, name, unix.AT_REMOVEDIR) })
		return errors.Join(cerr, err) == nil
	}
	return s.end(deadline) == nil
}
