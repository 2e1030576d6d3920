// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/outband/outband"
	"github.com/outband/outband/power"
)

// byHand throws the switch without the engine.
func (s *switching) byHand(context.Context) (*power.Result, error) {
	return nil, &outband.UnsupportedError{Feature: "power without --through-engine"}
}
