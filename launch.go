// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"errors"
	"os"
	"time"

	"github.com/outband/outband/internal/cgroup"
	"github.com/outband/outband/internal/forkexec"
)

// launchOrLose starts the session without what turns out not to be had, where
// that is allowed.
func (c *Cmd) launchOrLose(spec *forkexec.Spec, plan *Plan) error {
	err := c.launch(spec, plan)
	if c.lostNull(err) {
		spec.Null = nil
		if err = c.streams.instead(c, plan.outside); err == nil {
			c.streams.into(spec)
			err = c.launch(spec, plan)
		}
	}
	if c.lostFilters(err) {
		spec.Filters = 0
		err = c.launch(spec, plan)
	}
	return err
}

// launch starts the session in a group of its own or, where the kernel refuses
// that, be it only when it comes to it, in the target's.
func (c *Cmd) launch(spec *forkexec.Spec, plan *Plan) error {
	timeout := c.StartTimeout
	if timeout == 0 {
		timeout = startTimeout
	}
	spec.Deadline = time.Now().Add(timeout)
	c.openGroup(spec, plan)
	if c.group != nil {
		err := c.startSession(spec)
		if err == nil {
			return nil
		}
		c.dropGroup((*cgroup.Session).GiveUp) // the joiner may hang: A13
		var step *forkexec.Error
		if !errors.As(err, &step) || step.Step != forkexec.StepForkJoiner {
			return err
		}
		spec.Groups = nil
	}
	v1 := spec.V1
	files, err := c.moveInto(spec, plan)
	defer func() { files.close(); spec.V1 = v1 }() // it may be launched once more
	if err != nil {
		return err
	}
	return c.startSession(spec)
}

func (c *Cmd) startSession(spec *forkexec.Spec) (err error) {
	c.session, err = forkexec.Start(c.ctx, spec)
	return err
}

// held are files that are open while a session starts.
type held []*os.File

func (h held) close() {
	for _, f := range h {
		f.Close()
	}
}
