// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"errors"
	"fmt"
	"strings"

	"github.com/outband/outband/internal/hint"
)

// Errors to test with errors.Is. Problems of permission are fs.ErrPermission.
var (
	ErrNotFound      = errors.New("no such container")
	ErrAmbiguous     = errors.New("more than one container")
	ErrNotRunning    = errors.New("not running")
	ErrFrozen        = errors.New("the container is frozen")
	ErrNoProcess     = errors.New("no such process in the container")
	ErrGone          = errors.New("the container is going away")
	ErrNotDescendant = errors.New("not in a pid namespace below one's own")
	ErrOwnNamespace  = errors.New("that is one's own namespace")
	ErrNotSupported  = errors.New("not supported")
	ErrBusy          = errors.New("busy")
	ErrBreakout      = errors.New("leads out of the container")
	ErrDeadline      = errors.New("no answer in time")
	// ErrInvalid is input that cannot be right, whatever the target.
	ErrInvalid = errors.New("invalid")
	// ErrExec: the command was not executed. It is fs.ErrNotExist or
	// fs.ErrPermission besides where that is why.
	ErrExec = errors.New("cannot be executed")
)

// StepError is a step of entering that failed. Nothing was executed.
type StepError struct {
	Step string // what was being done, in words
	Err  error  // why; a unix.Errno at the bottom
}

func (e *StepError) Error() string { return e.Step + ": " + e.Err.Error() }

// Unwrap returns Err.
func (e *StepError) Unwrap() error { return e.Err }

// UnsupportedError is something this kernel, or this version of Outband, does
// not do; it is ErrNotSupported.
type UnsupportedError struct {
	Feature string
	Since   string // what has it, such as "Linux 5.8"; may be empty
}

func (e *UnsupportedError) Error() string {
	if e.Since == "" {
		return e.Feature + " is not supported"
	}
	return fmt.Sprintf("%s needs %s", e.Feature, e.Since)
}

// Is makes it ErrNotSupported.
func (e *UnsupportedError) Is(target error) bool { return target == ErrNotSupported }

// A Loss is a part of a target's confinement that a command can do without, if
// the caller says so by name.
type Loss string

// The losses that can be accepted.
const (
	LossSeccomp Loss = "seccomp" // system call filters
	LossCgroup  Loss = "cgroup"  // accounting in the target's groups
	LossLSM     Loss = "lsm"     // the label of AppArmor, SELinux and their like
	LossLimits  Loss = "limits"  // resource limits
)

// ParseLosses reads a list of losses with commas between them.
func ParseLosses(list string) ([]Loss, error) {
	var losses []Loss
	for name := range strings.SplitSeq(list, ",") {
		switch l := Loss(name); l {
		case LossSeccomp, LossCgroup, LossLSM, LossLimits:
			losses = append(losses, l)
		default:
			return nil, fmt.Errorf("%w: %q cannot be lost (seccomp, cgroup, lsm, limits)", ErrInvalid, name)
		}
	}
	return losses, nil
}

// LossError says that a command would be less confined than its target: parts
// of the confinement cannot be copied. It is ErrNotSupported.
type LossError struct{ Losses []Loss }

func (e *LossError) Error() string {
	return "its confinement cannot be copied whole: " + e.list(", ")
}

// Is makes it ErrNotSupported.
func (e *LossError) Is(target error) bool { return target == ErrNotSupported }

func (e *LossError) list(separator string) string {
	names := make([]string, len(e.Losses))
	for i, l := range e.Losses {
		names[i] = string(l)
	}
	return strings.Join(names, separator)
}

// Hint is the way out that the loss has.
func (e *LossError) Hint() string {
	return "to enter without, say so: --accept-loss " + e.list(",")
}

// ExitError is a command that ended otherwise than with exit code 0.
type ExitError struct{ *ProcessState }

func (e *ExitError) Error() string { return e.String() }

// withHint adds a way out to err.
func withHint(err error, format string, args ...any) error {
	return hint.With(err, fmt.Sprintf(format, args...))
}

// Hint returns the way out that err knows of, a line without a period, or "".
func Hint(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}
