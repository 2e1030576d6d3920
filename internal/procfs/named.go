// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"context"
	"fmt"

	"github.com/outband/outband/internal/sys"
)

// maxComm is how long a process's own name is, at most (TASK_COMM_LEN).
const maxComm = 15

// Named reads the processes with one of these names, or the beginning of one that a
// process may have for it, see Scan. Of others only the name is read, which costs a fraction.
func (fs *FS) Named(ctx context.Context, names ...string) ([]Task, error) {
	pids, err := fs.listPids()
	if err != nil {
		return nil, err
	}
	want := map[string]bool{}
	for _, name := range names {
		want[name[:min(len(name), maxComm)]+"\n"] = true
	}
	var found []int
	err = sys.Control(fs.root, func(fd int) {
		r := &reader{root: fd}
		for _, pid := range pids {
			if ctx.Err() != nil {
				return
			}
			n, err := sys.ReadAt(fd, r.file(pid, "/comm"), r.buf[:])
			if err == nil && want[string(r.buf[:n])] {
				found = append(found, pid)
			}
		}
	})
	switch {
	case err != nil:
		return nil, err
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%w: %w", ErrIncomplete, ctx.Err())
	}
	return fs.read(ctx, found, false)
}
