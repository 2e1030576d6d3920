// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/outband/outband/internal/safetext"
	"golang.org/x/sys/unix"
)

// frozenName is the directory with a file for each container that was frozen,
// named by the identity of its first process.
const frozenName = "frozen"

// frozenWait is how long the lock of that directory is waited for.
const frozenWait = 100 * time.Millisecond

// Frozen is who froze a container. Nobody lives as long as that lasts, so no lock
// tells whether it still holds: SweepFrozen asks the kernel.
type Frozen struct {
	Init   Init      `json:"init"`
	Target string    `json:"target"` // as named to the admin
	At     time.Time `json:"at"`
	By     By        `json:"by"`
}

// file is the name of a container's record.
func (i Init) file() string {
	return fmt.Sprintf("%d-%d-%d%s", i.PID, i.Started, i.PIDNS, recordSuffix)
}

// SetFrozen records who froze a container, once it is: in the place of what is
// known of an earlier time.
func (r *Registry) SetFrozen(f Frozen) error {
	f.At = f.At.UTC()
	line, err := safetext.Marshal(f)
	if err != nil {
		return fmt.Errorf("record of %s: %w", f.Target, err)
	}
	path := filepath.Join(r.path, frozenName)
	dir, err := openDir(int(r.dir.Fd()), frozenName, path)
	if err != nil {
		return err
	}
	defer dir.Close()
	// Without the lock a sweeper that saw the container before it was frozen may
	// take the record away: better than none.
	_, err = lockWithin(int(dir.Fd()), frozenWait)
	if err == nil {
		err = replace(int(dir.Fd()), f.Init.file(), line)
	}
	if err != nil {
		return &Error{Op: "write record of a frozen container", Path: filepath.Join(path, f.Init.file()), Err: err}
	}
	return nil
}

// replace writes a file of one line that is new: what had its name may be anything.
func replace(dir int, name string, line []byte) error {
	if err := drop(dir, name); err != nil {
		return err
	}
	fd, err := openNoFollow(dir, name, unix.O_WRONLY|unix.O_APPEND|unix.O_CREAT|unix.O_EXCL)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if _, err := check(fd); err != nil {
		return err
	}
	return appendLine(fd, line, 0)
}

// drop removes a file; that it is gone is fine.
func drop(dir int, name string) error {
	err := retry(func() error { return unix.Unlinkat(dir, name, 0) })
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return os.NewSyscallError("unlinkat", err)
}

// SweepFrozen returns the records of the containers that are frozen still, as
// holds tells, in no order, and removes the others. Who thaws a container and
// freezes it again by other means, unseen by all sweepers, leaves a record that is
// taken for true.
func (r *Registry) SweepFrozen(holds func(Frozen) bool) ([]Frozen, error) {
	path := filepath.Join(r.path, frozenName)
	fd, err := openNoFollow(int(r.dir.Fd()), frozenName, unix.O_RDONLY|unix.O_DIRECTORY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, &Error{Op: "read registry", Path: path, Err: err}
	}
	dir := os.NewFile(uintptr(fd), path)
	defer dir.Close()
	if err := makePrivate(dir); err != nil {
		return nil, &Error{Op: "read registry", Path: path, Err: err}
	}
	// Before holds looks, and until what does not hold is gone: SetFrozen waits, and
	// its container is frozen before.
	locked, err := lockWithin(fd, frozenWait)
	if err != nil {
		return nil, &Error{Op: "read registry", Path: path, Err: err}
	}
	names, err := dir.Readdirnames(-1)
	var found []Frozen
	for _, name := range names {
		f, ok := readFrozen(dir, name)
		if ok && holds(f) {
			found = append(found, f)
		} else if locked {
			err = errors.Join(err, drop(fd, name))
		}
	}
	return found, err
}

// readFrozen reads a record; false for what is none.
func readFrozen(dir *os.File, name string) (f Frozen, ok bool) {
	fd, err := openFile(dir, name, unix.O_RDONLY)
	if err != nil {
		return f, false
	}
	defer unix.Close(fd)
	if _, err := check(fd); err != nil {
		return f, false
	}
	data, err := readAll(fd)
	line, whole := strings.CutSuffix(string(data), "\n")
	if err != nil || !whole || safetext.Unmarshal([]byte(line), &f) != nil {
		return f, false
	}
	return f, f.Init.file() == name
}

// FrozenBy returns what is on record of a container; nil for nothing.
func FrozenBy(list []Frozen, i Init) *Frozen {
	at := slices.IndexFunc(list, func(f Frozen) bool { return f.Init == i })
	if at < 0 {
		return nil
	}
	return &list[at]
}
