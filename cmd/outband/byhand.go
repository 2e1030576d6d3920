// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"time"

	"github.com/outband/outband/power"
)

// byHand throws the switch without the engine.
func (s *switching) byHand(ctx context.Context) (*power.Result, error) {
	o := s.options()
	s.show.start = time.Now()
	r, err := power.New(s.target, o).Do(ctx, s.action)
	return &r, err
}

// options are how the switch is to go about it.
func (s *switching) options() power.Options {
	o := power.Options{Grace: max(s.grace, time.Millisecond), Force: s.force, Thaw: s.thaw, Container: s.container}
	if s.show != nil {
		o.Event = s.show.event
	}
	return o
}
