// SPDX-License-Identifier: Apache-2.0

package power

import (
	"context"
	"errors"
	"path"

	"golang.org/x/sys/unix"

	"github.com/outband/outband"
	"github.com/outband/outband/internal/procfs"
)

// Unknown is the kind of an init that is none of those known.
const Unknown = "unknown"

// Init is what a container's first process was found to be.
type Init struct {
	Kind     string // "systemd", Unknown
	Exe      string // the path of what it executes, raw, as it was inside
	Evidence string // what tells its kind

	caught uint64 // signals that it has handlers for: n is bit n-1
}

// Identify tells what the init of a target is, by what it executes: it chooses
// its name and arguments, not that.
func Identify(_ context.Context, t *outband.Target) (Init, error) {
	dir := t.Process().Dir
	exe, err := dir.Readlink("exe")
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EACCES) { // it ends, or hides it
		exe, err = "", nil
	}
	if err != nil {
		return Init{}, errors.Join(err, t.Alive())
	}
	status, err := dir.ReadFile("status")
	if err != nil {
		return Init{}, errors.Join(err, t.Alive())
	}
	_, caught, _ := procfs.ParseSignals(status)
	evidence := "it executes " + path.Base(exe)
	if exe == "" {
		evidence = "what it executes cannot be read"
	}
	return Init{Kind: Unknown, Exe: exe, Evidence: evidence, caught: caught}, nil
}

// catches tells whether the init has a handler for sig.
func (i Init) catches(sig unix.Signal) bool { return i.caught&(1<<(sig-1)) != 0 }
