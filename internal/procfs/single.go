// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/sys"
)

// What follows reads one thing of a process by its number, without opening its
// directory first: a third of the calls, for who asks a thousand processes one
// question each. Who asks two may get answers about two processes.

// shortLink is longer than nearly all paths of programs.
const shortLink = 256

// below is the path of a process's file, ended by NUL.
func below(buf []byte, pid int, name string) []byte {
	return append(append(append(strconv.AppendInt(buf, int64(pid), 10), '/'), name...), 0)
}

// Readlink returns what a link in the directory of process pid says.
func (fs *FS) Readlink(pid int, name string) (string, error) {
	var path [64]byte
	var short [shortLink]byte
	buf := short[:]
	for {
		var n int
		var errno error
		err := sys.Control(fs.root, func(fd int) { n, errno = sys.ReadlinkAt(fd, below(path[:0], pid, name), buf) })
		if err = first(err, errno); err != nil {
			return "", &os.PathError{Op: "readlink", Path: fs.root.Name() + "/" + strconv.Itoa(pid) + "/" + name, Err: err}
		}
		if n < len(buf) || len(buf) >= unix.PathMax {
			return string(buf[:n]), nil
		}
		buf = make([]byte, unix.PathMax)
	}
}

// CgroupSize is what a buffer for CgroupText should hold, bytes.
const CgroupSize = firstRead

// Groups returns the cgroups of process pid, see CgroupText.
func (fs *FS) Groups(pid int, buf []byte) ([]Group, error) {
	text, err := fs.CgroupText(pid, buf)
	if err != nil {
		return nil, err
	}
	return ParseGroups(text)
}

// CgroupText reads the cgroup file of process pid, see ParseGroups: into buf,
// where it fits.
func (fs *FS) CgroupText(pid int, buf []byte) ([]byte, error) {
	var path [64]byte
	var n int
	var errno error
	err := sys.Control(fs.root, func(fd int) { n, errno = sys.ReadAt(fd, below(path[:0], pid, "cgroup"), buf) })
	if err = first(err, errno); err != nil {
		return nil, &os.PathError{Op: "read", Path: fs.root.Name() + "/" + strconv.Itoa(pid) + "/cgroup", Err: err}
	}
	if n < len(buf) {
		return buf[:n], nil
	}
	dir, err := fs.Process(pid)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return dir.ReadFile("cgroup")
}
