// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"

	"github.com/outband/outband/internal/procfs"
)

// Init is the first process of a pid namespace below the caller's own.
type Init struct {
	PID  int    // in the caller's pid namespace
	Comm string // raw: the process chose it
}

// Inits lists the first processes of all pid namespaces that the caller can
// see, of which each container has one. It stops early, without an error, when
// ctx is done.
func Inits(ctx context.Context, proc *procfs.FS) ([]Init, error) {
	pids, err := proc.Pids()
	if err != nil {
		return nil, err
	}
	var inits []Init
	for _, pid := range pids {
		if ctx.Err() != nil {
			break
		}
		dir, err := proc.Process(pid)
		if err != nil {
			continue // gone since it was listed
		}
		status, err := dir.Status()
		dir.Close()
		if err == nil && len(status.NSpid) > 1 && status.NSpid[len(status.NSpid)-1] == 1 && status.State != 'Z' {
			inits = append(inits, Init{pid, status.Name})
		}
	}
	return inits, nil
}
