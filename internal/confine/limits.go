// SPDX-License-Identifier: Apache-2.0

package confine

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/procfs"
)

// readLimits reads the resource limits of process pid, which dir is the
// directory of: by prlimit(2), which takes a quarter of the time that the file
// does, or from the file where the caller may not ask.
func readLimits(dir *procfs.Dir, pid int, ask func(pid, resource int, set, get *unix.Rlimit) error) (procfs.Limits, error) {
	var limits procfs.Limits
	for resource := range limits {
		err := ask(pid, resource, nil, &limits[resource])
		if errors.Is(err, unix.EPERM) {
			return fileLimits(dir)
		}
		if err != nil {
			return procfs.Limits{}, err
		}
	}
	return limits, nil
}

// fileLimits reads them from procfs, where everybody may.
func fileLimits(dir *procfs.Dir) (procfs.Limits, error) {
	b, err := dir.ReadFile("limits")
	if err != nil {
		return procfs.Limits{}, err
	}
	return procfs.ParseLimits(b)
}
