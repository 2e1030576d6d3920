// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"

	"github.com/outband/outband/internal/procfs"
)

// A kit is a pid namespace in which a user's engines run, and whose numbers they
// write down: RootlessKit has made it (its option --pidns).
type kit struct {
	pidns uint64
	level int // of its processes' numbers
}

// kits are those of a user: each rootlesskit on the host has its namespace's first
// process for a child.
//
// A20 (docs/threat-model.md): that process has to be in a user namespace that this
// user made, as what it starts is.
func (h *Host) kits(ctx context.Context, uid uint32) []kit {
	if uid == 0 {
		return nil
	}
	if known, ok := h.kitted.Load(uid); ok {
		return known.([]kit)
	}
	var all []kit
	daemons, err := h.daemonsOn(ctx, uid, func(t procfs.Task) bool { return len(t.NSpid) == 1 }, nil, "rootlesskit")
	for _, d := range daemons {
		pid, ferr := h.FirstBelow(ctx, d.PID)
		if ferr != nil || pid == 0 {
			continue // it has none, as is its custom
		}
		if t, ok := h.task(pid); ok && h.ownedBy(pid, uid) == nil {
			all = append(all, kit{t.PIDNS, len(t.NSpid) - 1})
		}
	}
	if err == nil {
		h.kitted.Store(uid, all)
	}
	return all
}

// has tells whether a process is in the kit's own namespace.
func (k kit) has(t procfs.Task) bool { return t.PIDNS == k.pidns }

// inKits are the processes that have a number in one of a user's kits, or are first
// below it.
func (h *Host) inKits(uid uint32, number int) (found []procfs.Task) {
	ctx := context.Background() // reading has a deadline of its own
	kits := h.kits(ctx, uid)
	if len(kits) == 0 {
		return nil
	}
	tasks, err := h.Tasks(ctx)
	if err != nil {
		return nil
	}
	for _, t := range tasks {
		for _, k := range kits {
			if len(t.NSpid) <= k.level || t.NSpid[k.level] != number {
				continue
			}
			if parent, ok := h.task(t.Parent); k.has(t) || ok && k.has(parent) {
				found = append(found, t)
			}
		}
	}
	return found
}
