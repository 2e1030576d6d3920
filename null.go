// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"errors"

	"github.com/outband/outband/internal/forkexec"
)

// nullDevice has the way in open the target's own null device for what reads as
// empty and what is to be discarded. files are added to.
func (c *Cmd) nullDevice(spec *forkexec.Spec, files held) (held, error) {
	some := c.Detach || !c.Terminal && (c.Stdin == nil || c.Stdout == nil || c.Stderr == nil)
	if c.PassStreams || !some {
		return files, nil
	}
	n := &forkexec.Null{Root: spec.Root}
	if n.Root == nil {
		var err error
		if n.Root, err = c.target.init.Dir.OpenLink("root"); err != nil {
			return files, c.target.readError("root directory", err)
		}
		files = append(files, n.Root)
	}
	if spec.Proc == nil {
		spec.Proc = c.target.fs.File()
	}
	spec.Null = n
	return files, nil
}

// lostNull tells whether an error is that the target has no null device, and
// pipes will do. A target that is going away has none either (A30).
func (c *Cmd) lostNull(err error) bool {
	var step *forkexec.Error
	return errors.As(err, &step) && step.Step == forkexec.StepNull && !c.Detach && c.target.init.Alive() == nil
}

// instead makes a pipe for each stream that was to be the null device: an input
// that is at its end, and output that is read and discarded.
func (s *streams) instead(c *Cmd, owner [2]uint32) error {
	if s.inside[0] == nil {
		if err := s.emptyInput(c, owner); err != nil {
			return err
		}
	}
	for i := 1; i < len(s.inside); i++ {
		if s.inside[i] == nil {
			if err := s.output(i, nil, owner); err != nil {
				return err
			}
		}
	}
	return nil
}
