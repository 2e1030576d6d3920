// SPDX-License-Identifier: Apache-2.0

package ns

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Requests of ioctl_nsfs(2).
const (
	nsGetUserNS = 0xb701 // 4.9
	nsGetParent = 0xb702 // 4.9
	nsGetType   = 0xb703 // 4.11
	nsGetOwner  = 0xb704 // 4.11

	nsGetTgidFromPidns = 0x8004b707 // 6.11
	nsGetTgidInPidns   = 0x8004b709 // 6.11
)

// ErrOutside says that a namespace is not the caller's own or a descendant of
// it, so that the kernel does not tell about it.
var ErrOutside = errors.New("not a descendant of one's own namespace")

// ErrNoNamespace is a file that refers to something else.
var ErrNoNamespace = errors.New("is no namespace")

// A File is an open file that refers to a namespace.
type File struct{ *os.File }

// OpenFile opens a path that refers to a namespace: a link under /proc/PID/ns or
// a file on which one was mounted. Any other file is an error, and is not opened
// for reading before that is known.
func OpenFile(path string) (File, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return File{}, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return File{}, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	if fs.Type != unix.NSFS_MAGIC {
		return File{}, fmt.Errorf("%s %w", path, ErrNoNamespace)
	}
	opened, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return File{}, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return File{os.NewFile(uintptr(opened), path)}, nil
}

// OpenOf opens a namespace of the process whose /proc directory is dir. The link
// is one of the kernel's; reading it needs the rights that Of needs.
func OpenOf(dir *os.File, kind Kind) (File, error) {
	name := "ns/" + kind.String()
	rc, err := dir.SyscallConn()
	if err != nil {
		return File{}, err
	}
	var fd int
	var errno error
	err = rc.Control(func(at uintptr) { fd, errno = unix.Openat(int(at), name, unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err = errors.Join(err, errno); err != nil {
		return File{}, &os.PathError{Op: "open", Path: dir.Name() + "/" + name, Err: err}
	}
	return File{os.NewFile(uintptr(fd), dir.Name()+"/"+name)}, nil
}

// OwnerUID returns the user who made a user namespace, as the caller counts
// (4.11).
func (f File) OwnerUID() (uint32, error) {
	var uid uint32
	var err error
	cerr := f.control(func(fd int) { uid, err = unix.IoctlGetUint32(fd, nsGetOwner) })
	if err = errors.Join(cerr, err); err != nil {
		return 0, &os.PathError{Op: "ioctl", Path: f.Name(), Err: err}
	}
	return uid, nil
}

// ID returns the identity of the namespace.
func (f File) ID() (ID, error) {
	var st unix.Stat_t
	var err error
	cerr := f.control(func(fd int) { err = unix.Fstat(fd, &st) })
	return ID(st.Ino), errors.Join(cerr, err)
}

// Kind returns its kind (4.11).
func (f File) Kind() (Kind, error) {
	flag, err := f.ioctl(nsGetType)
	if err != nil {
		return 0, err
	}
	for k, row := range table {
		if row.flag == uint64(flag) {
			return Kind(k), nil
		}
	}
	return 0, fmt.Errorf("namespace of unknown kind %#x", flag)
}

// Parent returns the namespace above a pid or user namespace (4.9); ErrOutside
// where that is above the caller's own.
func (f File) Parent() (File, error) { return f.related(nsGetParent) }

// Owner returns the user namespace that owns the namespace (4.9); ErrOutside
// where that is above the caller's own.
func (f File) Owner() (File, error) { return f.related(nsGetUserNS) }

func (f File) related(request uint) (File, error) {
	fd, err := f.ioctl(request)
	if errors.Is(err, unix.EPERM) {
		return File{}, ErrOutside
	}
	if err != nil {
		return File{}, err
	}
	return File{os.NewFile(uintptr(fd), f.Name()+"/..")}, nil
}

// DescendsFrom tells whether ancestor is the namespace itself or above it; only
// for pid and user namespaces.
func (f File) DescendsFrom(ancestor ID) (bool, error) {
	const deepest = 33 // levels: the kernel allows 32 below the first
	at := f
	for range deepest {
		id, err := at.ID()
		if err != nil || id == ancestor {
			return err == nil, errors.Join(err, at.closeUnless(f))
		}
		parent, err := at.Parent()
		if err := errors.Join(err, at.closeUnless(f)); err != nil {
			if errors.Is(err, ErrOutside) {
				return false, nil
			}
			return false, err
		}
		at = parent
	}
	return false, at.Close()
}

// closeUnless closes f unless it is keep.
func (f File) closeUnless(keep File) error {
	if f == keep {
		return nil
	}
	return f.Close()
}

func (f File) ioctl(request uint) (n int, err error) {
	cerr := f.control(func(fd int) { n, err = unix.IoctlRetInt(fd, request) })
	if err != nil {
		return 0, &os.PathError{Op: "ioctl", Path: f.Name(), Err: err}
	}
	return n, cerr
}

func (f File) control(do func(fd int)) error {
	rc, err := f.SyscallConn()
	if err != nil {
		return err
	}
	return rc.Control(func(fd uintptr) { do(int(fd)) })
}
