// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/procfs"
)

// limits of what is read of an engine's state.
const (
	maxState   = 4 << 20 // bytes of one file; containers.json of podman has all of them
	maxEntries = 20000   // of one directory
)

// ReadFile returns a file of an engine's state. It has to be a regular file that
// belongs to root, to the caller or to user owner, and that nobody else may
// write; fs.ErrPermission if it is not.
//
// A20: so it holds what the engine wrote. A13: it is opened only when it is known
// to be a regular file, and read if it is of a bearable size. A27: no file system is asked that may
// never answer, see find.
func (h *Host) ReadFile(path string, owner uint32) ([]byte, error) {
	f, err := h.open(path, owner, unix.S_IFREG)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Size() > maxState {
		return nil, errors.Join(err, &fs.PathError{Op: "read", Path: path, Err: unix.EFBIG})
	}
	return io.ReadAll(io.LimitReader(f, maxState))
}

// Open opens a file of an engine's state on the terms of ReadFile, which is better
// for all but databases.
func (h *Host) Open(path string, owner uint32) (*os.File, error) {
	return h.open(path, owner, unix.S_IFREG)
}

// ReadDir returns the names in a directory of an engine's state, on the terms of
// ReadFile.
func (h *Host) ReadDir(path string, owner uint32) ([]string, error) {
	f, err := h.open(path, owner, unix.S_IFDIR)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(maxEntries)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if len(names) == maxEntries { // so many are told, and that there may be more
		err = errors.Join(err, &fs.PathError{Op: "read", Path: path, Err: unix.EFBIG})
	}
	slices.Sort(names)
	return names, err
}

// Dial connects to a daemon by its socket. Deadlines of what it returns work.
//
// A27: no file system is asked for it that may never answer. Who listens and has no
// room left is EAGAIN, and not waited for.
func (h *Host) Dial(socket string) (*os.File, error) {
	path, err := h.find(h.root+socket, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: socket, Err: err}
	}
	defer unix.Close(path)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d", path)}); err != nil {
		unix.Close(fd)
		return nil, &fs.PathError{Op: "connect", Path: socket, Err: err}
	}
	return os.NewFile(uintptr(fd), socket), nil
}

// Kind tells what a path leads to, without a word on whose it is.
func (h *Host) Kind(path string) (fs.FileMode, error) {
	fd, err := h.find(h.root+path, 0)
	if err != nil {
		return 0, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Mode(), nil
}

// open opens a file or directory that may be trusted.
func (h *Host) open(path string, owner uint32, kind uint32) (*os.File, error) {
	path = h.root + path
	fd, err := h.find(path, owner)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	ours := st.Uid == 0 || st.Uid == owner || st.Uid == uint32(os.Geteuid())
	if st.Mode&unix.S_IFMT != kind || !ours || st.Mode&0o022 != 0 {
		return nil, &fs.PathError{Op: "trust", Path: path, Err: fs.ErrPermission}
	}
	if owner != 0 && isKernels(fd) {
		return nil, &fs.PathError{Op: "trust", Path: path, Err: fs.ErrPermission}
	}
	f, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if failed := (*fs.PathError)(nil); errors.As(err, &failed) {
		failed.Path = path // what people know
	}
	return f, err
}

// isKernels tells whether a file is the kernel's own, as in proc: a link of a user's
// leads there to what is used up by whoever reads it, or to another process's memory
// (A13, docs/threat-model.md).
func isKernels(fd int) bool {
	var st unix.Statfs_t
	if unix.Fstatfs(fd, &st) != nil {
		return true
	}
	return slices.Contains([]int64{unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC}, int64(st.Type))
}

// RemoteError is state that was not looked at: the file system that it is on asks
// another machine, or a process of a user's, and may never be answered.
type RemoteError struct{ Point, Kind string }

func (e *RemoteError) Error() string {
	return fmt.Sprintf("left out: what is below %s depends on others (%s) and may never answer", e.Point, e.Kind)
}

// localKinds are the file systems that answer by themselves.
const localKinds = " ext2 ext3 ext4 xfs btrfs zfs bcachefs f2fs jfs nilfs2 reiserfs ntfs3 vfat exfat iso9660 udf squashfs erofs" +
	" overlay tmpfs ramfs rootfs devtmpfs proc sysfs cgroup cgroup2 "

// isLocal tells whether a mount can be asked without fear. Where the root does not
// answer nothing does.
func isLocal(m procfs.Mount) bool {
	return m.Point == "/" || strings.Contains(localKinds, " "+m.Type+" ")
}

// maxLinks is how many links of a path are followed from mount to mount.
const maxLinks = 40

// find returns a descriptor of a path, O_PATH.
//
// A27 (docs/threat-model.md): whoever waits for a file system that does not answer
// can wait in the kernel, where not even SIGKILL ends it. So no such file system is
// asked, be it in the way of a link or mounted by a user meanwhile. What a
// caller without root has is asked for: it would wait for that anyway.
func (h *Host) find(path string, owner uint32) (fd int, err error) {
	if uid := os.Geteuid(); uid != 0 && uint32(uid) == owner {
		return unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	}
	path = filepath.Clean(path)
	for range maxLinks {
		if fd, err = h.findOn(path, 0); !errors.Is(err, unix.EXDEV) {
			return fd, err
		}
		if path, err = h.follow(path); err != nil {
			return -1, err
		}
	}
	return -1, unix.ELOOP
}

// findOn looks a path up on the mount that it is on. EXDEV: a link leads to
// another one.
func (h *Host) findOn(path string, flags uint64) (int, error) {
	m, err := h.mountOf(path)
	if err != nil {
		return -1, err
	}
	at, err := unix.Open(m.Point, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if m.Point != "/" && !h.known(at) {
		unix.Close(at)
		return -1, h.leaveOut(procfs.Mount{Point: m.Point, Type: "mounted just now"})
	}
	if path == m.Point {
		return at, nil
	}
	defer unix.Close(at)
	below := strings.TrimPrefix(strings.TrimPrefix(path, m.Point), "/")
	return unix.Openat2(at, below, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_CLOEXEC | flags, Resolve: unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_MAGICLINKS,
	})
}

// follow returns a path with its first link followed.
func (h *Host) follow(path string) (string, error) {
	for end := 1; end < len(path); {
		next := strings.IndexByte(path[end:], '/')
		if next < 0 {
			next = len(path) - end
		}
		end += next
		fd, err := h.findOn(path[:end], unix.O_NOFOLLOW)
		if err != nil {
			return "", err
		}
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(fd, "", buf)
		unix.Close(fd)
		if err == nil {
			to := string(buf[:n])
			if !filepath.IsAbs(to) {
				to = filepath.Join(filepath.Dir(path[:end]), to)
			}
			return filepath.Join(to, path[end:]), nil
		}
		end++
	}
	return "", unix.EXDEV // over a mount that was not there
}

// mountOf returns the mount that a path is on, without asking it. Whatever is on
// the way there has to answer, too.
func (h *Host) mountOf(path string) (procfs.Mount, error) {
	h.looked.Do(func() {
		b, _ := os.ReadFile("/proc/thread-self/mountinfo") // without, only the root is known
		h.mounts = procfs.ParseMounts(b)
	})
	on := procfs.Mount{Point: "/"}
	for _, m := range h.mounts {
		if path != m.Point && m.Point != "/" && !strings.HasPrefix(path, m.Point+"/") {
			continue
		}
		if !isLocal(m) {
			return m, h.leaveOut(m)
		}
		if len(m.Point) >= len(on.Point) {
			on = m
		}
	}
	return on, nil
}

// leaveOut tells once that a mount is left out; after that it counts as empty.
func (h *Host) leaveOut(m procfs.Mount) error {
	if _, told := h.remote.LoadOrStore(m.Point, true); told {
		return fs.ErrNotExist
	}
	return &RemoteError{m.Point, m.Type}
}

// known tells whether a descriptor is on a mount that is local: nothing was mounted
// over it since. The kernel tells its number without asking the file system.
func (h *Host) known(fd int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
	_, after, ok := bytes.Cut(b, []byte("mnt_id:"))
	line, _, _ := bytes.Cut(after, []byte("\n"))
	id, aerr := strconv.Atoi(strings.TrimSpace(string(line)))
	if err != nil || !ok || aerr != nil {
		return false
	}
	i := slices.IndexFunc(h.mounts, func(m procfs.Mount) bool { return m.ID == id })
	return i >= 0 && isLocal(h.mounts[i])
}
