// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	sessionsName = "sessions"
	auditName    = "audit.jsonl"
	auditOldName = "audit.jsonl.1"
	auditMax     = 16 << 20 // bytes
)

// Registry is an open directory of records. Its methods may be called from
// several goroutines, and by several processes on one directory.
type Registry struct {
	path     string   // for messages only
	dir      *os.File // the directory; nothing is looked up above it
	sessions *os.File // the one below it with the records

	auditMu  sync.Mutex // held by the one goroutine that goes for the log's lock
	auditMax int64      // bytes
	newID    func() string
}

// Default returns the directory for a user: /run/outband for root, whose
// environment does not count, else outband in $XDG_RUNTIME_DIR, which has to
// be absolute, or else in /run/user/UID.
func Default(euid int, getenv func(string) string) string {
	if euid == 0 {
		return "/run/outband"
	}
	if run := getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(run) {
		return filepath.Join(run, "outband")
	}
	return filepath.Join("/run/user", strconv.Itoa(euid), "outband")
}

// Open opens the registry in dir, which it creates if need be, below a
// directory that exists. It returns ErrUnsafe if dir is a symbolic link, or
// not the effective user's, or open to others and cannot be closed to them.
func Open(dir string) (*Registry, error) {
	dir = filepath.Clean(dir) // O_NOFOLLOW follows what ends in a slash
	top, err := openDir(unix.AT_FDCWD, dir, dir)
	if err != nil {
		return nil, err
	}
	sessions, err := openDir(int(top.Fd()), sessionsName, filepath.Join(dir, sessionsName))
	if err != nil {
		top.Close()
		return nil, err
	}
	return &Registry{path: dir, dir: top, sessions: sessions, auditMax: auditMax, newID: new(idSource).next}, nil
}

// Close closes the directory. Entries that have begun have to be ended before.
func (r *Registry) Close() error {
	return errors.Join(r.sessions.Close(), r.dir.Close())
}

// openDir makes a directory and opens it, private to the effective user. It is
// opened whether or not it was made here, and judged by its descriptor: what
// mkdir(2) answered says nothing of what has the name a moment later.
func openDir(parent int, name, path string) (*os.File, error) {
	fail := func(err error) (*os.File, error) {
		e := &Error{Op: "open registry", Path: path, Err: err}
		if errors.Is(err, fs.ErrNotExist) {
			e.hint = "the directory above it does not exist; for a user without a login session, set XDG_RUNTIME_DIR"
		}
		return nil, e
	}
	err := retry(func() error { return unix.Mkdirat(parent, name, 0o700) })
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fail(err)
	}
	fd, err := openNoFollow(parent, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if errors.Is(err, unix.EACCES) { // a umask took the owner's bits
		if err = makeAccessible(parent, name, 0o700); err == nil {
			fd, err = openNoFollow(parent, name, unix.O_RDONLY|unix.O_DIRECTORY)
		}
	}
	switch {
	case errors.Is(err, unix.ENOTDIR):
		return fail(unsafeError("a symbolic link, or no directory"))
	case err != nil:
		return fail(err)
	}
	f := os.NewFile(uintptr(fd), path)
	if err := makePrivate(f); err != nil {
		f.Close()
		return fail(err)
	}
	return f, nil
}

// makePrivate gives an open directory of ours the mode 0700, whatever umask or
// default list it was made under (class A40).
func makePrivate(dir *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if err := checkOwner(&st); err != nil {
		return err
	}
	if st.Mode&0o7777 == 0o700 {
		return nil
	}
	if err := unix.Fchmod(int(dir.Fd()), 0o700); err != nil {
		return unsafeError(fmt.Sprintf("its mode is %#o, and changing it: %v", st.Mode&0o7777, err))
	}
	return nil
}
