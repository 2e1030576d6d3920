// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"

	"github.com/outband/outband/internal/procfs"
)

// sought is what is asked of the engines when not all containers are.
type sought struct {
	name string // without its prefix; "": any
	user string // whose engine; not asked with any name
	only bool   // no more than one engine is asked
}

// Seek lets h ask for containers of this name alone, without its prefix, of this
// user's engine or, "", root's and the caller's; any, if the name is "". It is for
// a host that nobody has asked yet.
func (h *Host) Seek(name, user string) *Host {
	h.sought = &sought{name: name, user: user}
	return h
}

// Brief tells that nobody wants to know more of a container than what it is called
// and which its first process is: the rest need not be read.
func (h *Host) Brief() bool { return h.sought != nil }

// Sought returns what containers that matter are called, or how their ids begin;
// "" where all do. An adapter may leave out others if that saves it something.
func (h *Host) Sought() string {
	if h.sought == nil {
		return ""
	}
	return h.sought.name
}

// Asks tells whether anybody asks for containers of this user's engine.
func (h *Host) Asks(user string) bool {
	return h.sought == nil || h.sought.name == "" || h.sought.user == user
}

// named returns the processes that may execute a program of these names: where that
// is all that will be asked, without a look at the others.
func (h *Host) named(ctx context.Context, names []string) ([]procfs.Task, error) {
	if h.narrow() {
		return h.proc.Named(ctx, names...)
	}
	return h.Tasks(ctx)
}

// narrow tells whether it is one engine's processes that will be asked for, and all
// are not known already.
func (h *Host) narrow() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.tasks == nil && h.sought != nil && h.sought.only
}
