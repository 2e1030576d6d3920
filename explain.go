// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/forkexec"

	"github.com/outband/outband/internal/hint"
)

// explain turns what happened on the way in into this package's errors.
func (c *Cmd) explain(err error) error {
	var step *forkexec.Error
	switch {
	case errors.Is(err, forkexec.ErrDeadline):
		if cerr := c.ctx.Err(); cerr != nil {
			return cerr
		}
		if group := c.frozenMeanwhile(); group != "" {
			return fmt.Errorf("%w: cgroup %s", ErrFrozen, group)
		}
		return fmt.Errorf("%w: something of the container does not respond, a file system perhaps", ErrDeadline)
	case errors.Is(err, forkexec.ErrKilled):
		return killed(c, &StepError{"enter", err})
	case errors.As(err, &step):
		return c.explainStep(step)
	}
	return err
}

// causes say what an error means that a step reports with a number that means
// something else elsewhere.
var causes = map[forkexec.Step]map[unix.Errno]func(c *Cmd, e *StepError) error{
	forkexec.StepJoin: {
		unix.ESRCH:  func(*Cmd, *StepError) error { return ErrGone },
		unix.EINVAL: func(_ *Cmd, e *StepError) error { return fmt.Errorf("%w: %w", ErrNotDescendant, e) },
	},
	forkexec.StepForkCommand: {
		// The pid namespace has no init any more: not a lack of memory.
		unix.ENOMEM: func(*Cmd, *StepError) error { return ErrGone },
		unix.EAGAIN: pidLimit,
	},
	forkexec.StepForkShepherd: {unix.EAGAIN: pidLimit, unix.ENOMEM: func(*Cmd, *StepError) error { return ErrGone }},
	forkexec.StepForkJoiner:   {unix.EAGAIN: pidLimit},
	forkexec.StepHandOver:     {unix.ECONNRESET: killed}, // with a word that it had not read yet
	forkexec.StepReadFilters: {
		unix.ESRCH: func(*Cmd, *StepError) error { return ErrGone }, unix.ESTALE: filtersChanged, unix.ENOENT: filtersChanged,
		unix.EPERM: lossOfFilters, unix.EACCES: lossOfFilters, unix.EIO: lossOfFilters,
	},
	forkexec.StepTrace:    {unix.EPERM: lossOfFilters, unix.EACCES: lossOfFilters, unix.EINVAL: lossOfFilters},
	forkexec.StepLabel:    {unix.EPERM: lossOfLabel, unix.EACCES: lossOfLabel, unix.EINVAL: lossOfLabel, unix.ENOENT: lossOfLabel},
	forkexec.StepCgroup:   {unix.EACCES: cgroupDenied, unix.EPERM: cgroupDenied},
	forkexec.StepTerminal: {unix.ENOSPC: noTerminals},
	forkexec.StepDirectory: {
		unix.EXDEV: func(c *Cmd, _ *StepError) error {
			return fmt.Errorf("%w: working directory %q", ErrBreakout, c.Dir)
		},
	},
}

// dyingTime is how long an init may take whose visitors are dead already: it
// kills all that is inside before its own end can be seen.
const dyingTime = 200 * time.Millisecond

// killed is a process on the way in that was killed.
func killed(c *Cmd, e *StepError) error {
	if c.target.dying() {
		return ErrGone
	}
	return withHint(e, "its memory limit may be exhausted: --cgroup none stays outside of it")
}

// pidLimit is a process that could not be made for want of numbers.
func pidLimit(_ *Cmd, e *StepError) error {
	return withHint(fmt.Errorf("its pid limit is reached: %w", e), "--cgroup none stays outside of it")
}

// noTerminals is a devpts that is at its limit.
func noTerminals(_ *Cmd, e *StepError) error {
	return withHint(fmt.Errorf("no terminals are left: %w", e), "-T does without; limits are the option max of its devpts and kernel.pty.max")
}

// cgroupDenied is a group of the target's that this caller may not enter.
func cgroupDenied(_ *Cmd, e *StepError) error { return lossOfCgroup(e) }

func (c *Cmd) explainStep(step *forkexec.Error) error {
	e := &StepError{step.Step.String(), step.Err}
	if step.Step == forkexec.StepExec {
		return c.explainExec(step)
	}
	for errno, explain := range causes[step.Step] {
		if errors.Is(step.Err, errno) {
			return explain(c, e)
		}
	}
	if step.Step == forkexec.StepDirectory {
		return fmt.Errorf("working directory %q: %w", c.Dir, step.Err)
	}
	if step.Step == forkexec.StepNull {
		if c.target.init.Alive() != nil { // its mounts went with it
			return ErrGone
		}
		return withHint(e, "a detached command needs the null device of its container")
	}
	if step.Step == forkexec.StepTerminal {
		return withHint(e, "-T does without a terminal")
	}
	if errors.Is(step.Err, fs.ErrPermission) && step.Step == forkexec.StepJoin {
		return hint.With(e, hint.Owner)
	}
	return e
}

// explainExec says why nothing was executed.
func (c *Cmd) explainExec(step *forkexec.Error) error {
	err := fmt.Errorf("%q %w: %w", c.Args[0], ErrExec, step.Err)
	switch {
	case errors.Is(step.Err, unix.ENOENT):
		return withHint(fmt.Errorf("%q: %w: %w", c.Args[0], ErrExec, step.Err),
			"a container without tools is for outband repair, which is planned; its files are seen from outside at /proc/%d/root", c.target.init.PID)
	case errors.Is(step.Err, unix.ENOEXEC):
		return withHint(err, "it is a script without #! or a program of another architecture")
	}
	return err
}
