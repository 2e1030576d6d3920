// SPDX-License-Identifier: Apache-2.0

package ns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/sys"
)

// Outside returns the number that process pid of this pid namespace has in the
// caller's own (6.11). Errors: fs.ErrNotExist where there is no such process, or
// none that the caller can see; errors.ErrUnsupported before 6.11.
func (f File) Outside(pid int) (int, error) { return f.translate(nsGetTgidFromPidns, pid) }

// Inside returns the number that process pid of the caller's own pid namespace
// has in this one (6.11). Errors are as those of Outside.
func (f File) Inside(pid int) (int, error) { return f.translate(nsGetTgidInPidns, pid) }

func (f File) translate(request uint, pid int) (int, error) {
	if pid <= 0 {
		return 0, fs.ErrNotExist
	}
	var n int
	var errno error
	err := f.control(func(fd int) { n, errno = sys.Ioctl(fd, request, pid) })
	switch {
	case err != nil:
		return 0, err
	case errors.Is(errno, unix.ESRCH):
		return 0, fs.ErrNotExist
	case errors.Is(errno, unix.ENOTTY):
		return 0, fmt.Errorf("translate process numbers: %w", errors.ErrUnsupported)
	case errno != nil:
		return 0, &os.PathError{Op: "ioctl", Path: f.Name(), Err: errno}
	}
	return n, nil
}
