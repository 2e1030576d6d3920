// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"slices"

	"github.com/outband/outband/internal/procfs"
)

// A kit is a pid namespace in which a user's engines run, and whose numbers they
// write down: RootlessKit has made it (its option --pidns).
type kit struct {
	pidns uint64
	level int // of its processes' numbers
}

// kitName is the program of RootlessKit.
const kitName = "rootlesskit"

// kits are those of a user.
func (h *Host) kits(ctx context.Context, uid uint32) []kit {
	if known, ok := h.kitted.Load(uid); ok {
		return known.([]kit)
	}
	tasks, err := h.named(ctx, []string{kitName})
	if err != nil {
		return nil
	}
	return h.kitsAmong(ctx, tasks, uid)
}

// kitsAmong are a user's where tasks has each rootlesskit: its namespace's first
// process is a child of it.
//
// A20 (docs/threat-model.md): it has to be on the host, and its child in a user
// namespace that this user made, as what an engine of theirs starts is.
func (h *Host) kitsAmong(ctx context.Context, tasks []procfs.Task, uid uint32) []kit {
	if uid == 0 {
		return nil
	}
	if known, ok := h.kitted.Load(uid); ok {
		return known.([]kit)
	}
	var all []kit
	for _, d := range h.daemonsAmong(ctx, tasks, uid, onHost, nil, kitName) {
		pid, err := h.FirstBelow(ctx, d.PID)
		if err != nil {
			return all // not for good
		}
		if t, ok := h.task(pid); ok && h.ownedBy(pid, uid) == nil { // it may have none
			all = append(all, kit{t.PIDNS, len(t.NSpid) - 1})
		}
	}
	h.kitted.Store(uid, all)
	return all
}

// has tells whether a process is in the kit's own namespace.
func (k kit) has(t procfs.Task) bool { return t.PIDNS == k.pidns }

// in tells whether a process is in the own namespace of a kit.
func in(kits []kit, t procfs.Task) bool {
	return slices.ContainsFunc(kits, func(k kit) bool { return k.has(t) })
}

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
