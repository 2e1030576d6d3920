// SPDX-License-Identifier: Apache-2.0

package power

import (
	"context"
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/outband/outband"
	"github.com/outband/outband/internal/inits"
	"github.com/outband/outband/internal/procfs"
)

// Kinds of an init that has no words of its own; docs/inits.md has the others.
const (
	Other   = inits.Other   // a program that is no known init
	Unknown = inits.Unknown // what it executes cannot be read
)

// Init is what a container's first process was found to be.
type Init struct {
	Kind     string // "systemd", Other, Unknown
	Exe      string // the path of what it executes, raw, as it was inside
	Evidence string // what tells its kind, raw

	// StopSignal is what its engine stops it with, as engine.Container has it, for
	// an init that hands it on or is no known one; "" for SIGTERM.
	StopSignal string
	// Restarts tells that whoever supervises it starts it again however it ends:
	// then what ends it reboots it too.
	Restarts bool

	row   inits.Row
	takes uint64 // signals that it does something about: n is bit n-1
}

// Identify tells what the init of a target is, by what the kernel says of it: its
// name and its arguments are its own choice, what it executes and holds open is
// not. No file of the container is touched.
//
// Errors: outband.ErrGone.
func Identify(_ context.Context, t *outband.Target) (Init, error) {
	dir := t.Process().Dir
	facts := inits.Read(dir)
	row, evidence := inits.Identify(facts)
	status, err := dir.ReadFile("status")
	if err != nil {
		return Init{}, errors.Join(t.Alive(), err)
	}
	wchan, _ := dir.ReadFile("wchan") // not for everybody
	i := Init{Kind: row.Kind, Exe: facts.Exe, Evidence: evidence, row: row, takes: takes(status, string(wchan))}
	return i, t.Alive()
}

// takes returns the signals that a process has handlers for, or blocks to read
// them from a descriptor. One that waits for signals in sigtimedwait(2) takes
// them all, for all that can be known: those it waits for are shown in no file.
func takes(status []byte, wchan string) uint64 {
	blocked, caught, _ := procfs.ParseSignals(status)
	if strings.HasPrefix(wchan, "do_sigtimedwait") {
		return ^uint64(0)
	}
	return blocked | caught
}

// does tells whether the init does something about sig.
func (i Init) does(sig unix.Signal) bool { return i.takes&(1<<(sig-1)) != 0 }
