// SPDX-License-Identifier: Apache-2.0

// Package procfs reads /proc through a handle that is known to be procfs, and
// never follows a mount or a link that somebody put into it.
//
// Its parsers take bytes and make no system call; what a process can write into
// its own files (comm, environ, cmdline) comes out raw and is for
// internal/safetext to show.
package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/sys"
)

// FS is a procfs: the process numbers in it are those of the pid namespace it
// was mounted in, which need not be the reader's.
type FS struct {
	root *os.File
}

// rootInode is the inode number of procfs's root (PROC_ROOT_INO).
const rootInode = 1

// ErrForeign says that /proc counts processes otherwise than the caller: it was
// mounted in another pid namespace.
var ErrForeign error = foreignError{}

type foreignError struct{}

func (foreignError) Error() string { return "/proc is that of another pid namespace" }

// Hint is the way out.
func (foreignError) Hint() string {
	return "mount one's own: unshare --mount sh -c 'mount -t proc proc /proc; exec outband …'"
}

// Open opens /proc. It is an error if that is anything but the root of a procfs
// of the caller's own pid namespace: a number would mean one process there and
// another one in every system call.
func Open() (*FS, error) {
	root, err := sys.Open("/proc", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return nil, err
	}
	var fs unix.Statfs_t
	var st unix.Stat_t
	var ferr, serr error
	err = sys.Control(root, func(fd int) { ferr, serr = unix.Fstatfs(fd, &fs), unix.Fstat(fd, &st) })
	if err = errors.Join(err, ferr, serr); err == nil && (fs.Type != unix.PROC_SUPER_MAGIC || st.Ino != rootInode) {
		err = errors.New("/proc is not a procfs")
	}
	if err == nil {
		var self string
		self, err = (&Dir{root}).Readlink("self")
		if err == nil && self != strconv.Itoa(os.Getpid()) || errors.Is(err, unix.ENOENT) {
			err = ErrForeign
		}
	}
	if err != nil {
		root.Close()
		return nil, err
	}
	return &FS{root: root}, nil
}

// Private makes a procfs of the caller's pid namespace that is mounted nowhere:
// what others have mounted over parts of /proc is not in it (A8,
// docs/threat-model.md). It needs CAP_SYS_ADMIN; Linux 5.2.
func Private() (*FS, error) {
	fs, err := unix.Fsopen("proc", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("fsopen proc", err)
	}
	defer unix.Close(fs)
	_ = unix.FsconfigSetString(fs, "subset", "pid") // 5.8: it has nothing but processes
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, os.NewSyscallError("fsconfig proc", err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("fsmount proc", err)
	}
	return &FS{root: os.NewFile(uintptr(fd), "proc")}, nil
}

// Close releases the handle.
func (fs *FS) Close() error { return fs.root.Close() }

// File is the directory /proc itself.
func (fs *FS) File() *os.File { return fs.root }

// Pids returns the numbers of all processes, in no certain order. Any of them
// may be gone by now.
func (fs *FS) Pids() ([]int, error) {
	dir, err := openat(fs.root, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	pids := make([]int, 0, len(names))
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// Process opens the directory of process pid; fs.ErrNotExist if there is none.
func (fs *FS) Process(pid int) (*Dir, error) { return fs.open(strconv.Itoa(pid)) }

// Self opens the directory of the calling thread, whose namespaces a child that
// it makes will have.
//
// The first thread of a process is read as the process: a look below task costs
// whoever reaps the process a millisecond when it exits.
func (fs *FS) Self() (*Dir, error) {
	pid, tid := os.Getpid(), unix.Gettid()
	if pid == tid {
		return fs.Process(pid)
	}
	return fs.open(fmt.Sprintf("%d/task/%d", pid, tid))
}

func (fs *FS) open(path string) (*Dir, error) {
	dir, err := openat(fs.root, path, unix.O_PATH|unix.O_DIRECTORY, beneath)
	if err != nil {
		return nil, err
	}
	return &Dir{dir}, nil
}

// Dir is the directory of one process or thread. It stays that of this process:
// once it is gone, every read fails with ESRCH, whoever has the number then.
type Dir struct{ file *os.File }

// Close releases the directory.
func (d *Dir) Close() error { return d.file.Close() }

// File is the directory itself.
func (d *Dir) File() *os.File { return d.file }

// limits of what is read of a file.
const (
	firstRead = 4096
	// MaxFile is the most that ReadFile returns, bytes.
	MaxFile = 4 << 20
)

// ReadFile returns the content of a file in the directory.
func (d *Dir) ReadFile(name string) ([]byte, error) {
	b, err := d.ReadHead(name, MaxFile+1)
	if err == nil && len(b) > MaxFile {
		err = &os.PathError{Op: "read", Path: d.file.Name() + "/" + name, Err: unix.EFBIG}
	}
	if err != nil {
		return nil, err
	}
	return b, nil
}

// ReadHead returns the content of a file in the directory, limit bytes at most.
func (d *Dir) ReadHead(name string, limit int) ([]byte, error) {
	fd, err := openatFD(d.file, name, unix.O_RDONLY, beneath)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var first [firstRead]byte // most files fit, and are copied to their own size
	buf := first[:0]
	for len(buf) < limit {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := unix.Read(fd, buf[len(buf):cap(buf)])
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, &os.PathError{Op: "read", Path: d.file.Name() + "/" + name, Err: err}
		case n == 0:
			return bytes.Clone(buf), nil
		default:
			buf = buf[:len(buf)+n]
		}
	}
	return bytes.Clone(buf[:limit]), nil
}

// Names returns the names in a directory of the directory, "fd" say.
func (d *Dir) Names(name string) ([]string, error) {
	f, err := openat(d.file, name, unix.O_RDONLY|unix.O_DIRECTORY, beneath)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// Readlink returns what a link in the directory says.
func (d *Dir) Readlink(name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	var n int
	var errno error
	err := sys.Control(d.file, func(fd int) { n, errno = unix.Readlinkat(fd, name, buf) })
	if err = first(err, errno); err != nil {
		return "", &os.PathError{Op: "readlink", Path: d.file.Name() + "/" + name, Err: err}
	}
	return string(buf[:n]), nil
}

// OpenLink opens what one of the kernel's own links (root, cwd, exe) leads to,
// as O_PATH: nothing is asked of the file system it is on.
func (d *Dir) OpenLink(name string) (*os.File, error) {
	return openat(d.file, name, unix.O_PATH, 0)
}

// beneath keeps a lookup in the procfs and out of whatever is mounted over it.
const beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_SYMLINKS

// openat is openat2(2) (5.6) with a plain openat(2) where resolve is 0.
func openat(dir *os.File, path string, flags int, resolve uint64) (*os.File, error) {
	fd, err := openatFD(dir, path, flags, resolve)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), dir.Name()+"/"+path), nil
}

func openatFD(dir *os.File, path string, flags int, resolve uint64) (int, error) {
	var fd int
	var errno error
	err := sys.Control(dir, func(at int) {
		if resolve == 0 {
			fd, errno = unix.Openat(at, path, flags|unix.O_CLOEXEC, 0)
			return
		}
		fd, errno = unix.Openat2(at, path, &unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: resolve})
	})
	if err = first(err, errno); err != nil {
		return -1, &os.PathError{Op: "open", Path: dir.Name() + "/" + path, Err: err}
	}
	return fd, nil
}

// first returns the first error that is one.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
