// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"
	"io"

	"golang.org/x/sys/unix"
)

var (
	// ErrUnsafe says that others could read or change what is kept there, or
	// have planted something in its place.
	ErrUnsafe = errors.New("not safe to keep records in")
	// ErrEnded says that the entry has ended or was released.
	ErrEnded = errors.New("the entry has ended")
)

// Error is what went wrong with a file or directory of the registry.
type Error struct {
	Op   string // what was to be done, such as "open registry"
	Path string
	Err  error

	hint string
}

func (e *Error) Error() string { return e.Op + " " + e.Path + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Hint returns what the admin can do about it, or "".
func (e *Error) Hint() string {
	switch {
	case e.hint != "":
		return e.hint
	case errors.Is(e.Err, ErrUnsafe):
		return "find out who made it, and remove it: it is made anew"
	case errors.Is(e.Err, unix.ENOSPC), errors.Is(e.Err, io.ErrShortWrite):
		return "its file system is full"
	}
	return ""
}

// unsafeError is ErrUnsafe with what it is that was found. It has one message
// rather than two joined, as it ends up in one line.
type unsafeError string

func (e unsafeError) Error() string        { return ErrUnsafe.Error() + ": " + string(e) }
func (e unsafeError) Is(target error) bool { return target == ErrUnsafe }
