// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"path/filepath"
	"strings"

	"github.com/outband/outband/internal/procfs"
)

// supervisor returns the parent of a container's first process.
//
// A20 (docs/threat-model.md): by what it executes. The parent of the first process
// of a pid namespace is outside of it; what the container calls itself is not
// asked.
func (h *Host) supervisor(init procfs.Task) *Supervisor {
	parent, ok := h.task(init.Parent)
	if !ok || parent.Parent == 0 { // the machine's init
		return nil
	}
	name := h.program(parent)
	switch {
	case strings.HasPrefix(name, "containerd-shim"): // containerd-shim-runc-v2
		name = "containerd-shim"
	case strings.HasPrefix(name, "lxc-"), name == "incusd", name == "lxd":
		name = "lxc monitor"
	}
	return &Supervisor{Name: name, PID: parent.PID, Start: parent.Start}
}

// program is the name of the file that a process executes.
func (h *Host) program(t procfs.Task) string {
	if h.proc == nil { // recorded
		return t.Comm
	}
	exe, err := h.proc.Readlink(t.PID, "exe")
	if err != nil {
		return t.Comm
	}
	return strings.TrimSuffix(filepath.Base(exe), " (deleted)")
}
