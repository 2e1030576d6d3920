// SPDX-License-Identifier: Apache-2.0

// Package hint gives errors a way out: a line without a period, which programs show
// apart from what happened. Any error with a method Hint has one; outband.Hint finds
// it.
package hint

// Owner is the way out of an error about what is another user's.
const Owner = "a container belongs to root or to the user who started it: try as that user, or as root"

// With is err with a way out.
func With(err error, hint string) error { return &hinted{err, hint} }

type hinted struct {
	error
	hint string
}

func (e *hinted) Unwrap() error { return e.error }
func (e *hinted) Hint() string  { return e.hint }
