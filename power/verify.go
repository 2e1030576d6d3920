// SPDX-License-Identifier: Apache-2.0

package power

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/outband/outband/internal/safetext"
)

// looksAgain is how often it is looked again for what is left, where that failed.
const looksAgain = 2

// verify makes sure that nothing is left, and looks for what brings it back. The
// init has ended, so nothing here takes it back.
func (s *Switch) verify(ctx context.Context, a Action, by end, began time.Time) (Result, error) {
	r := Result{InitExit: s.box.exit(by), Took: time.Since(began)}
	s.tell(Verify, "its init's pidfd", "%s", ended(r.InitExit))
	left, err := s.box.left(ctx)
	for range looksAgain {
		if err != nil && ctx.Err() == nil { // on a busy machine not all can be read in time
			left, err = s.box.left(ctx)
		}
	}
	r.Left, r.Done = left, err == nil && len(left) == 0
	s.tell(Verify, "its pid namespace", "%s", emptiness(left, err))
	look := s.look(a, r.InitExit)
	if look > 0 {
		s.tell(Verify, "whether it is back", "")
		r.Back = s.box.back(ctx, look)
		s.tell(Verify, "whether it is back", "%s", r.Back.describe(look))
	}
	if r.InitExit == "" { // it may be reaped by now
		r.InitExit = s.box.exit(by)
	}
	if len(left) > 0 {
		return r, stays(left)
	}
	return r, err
}

// look is how long it is looked for what brings the container back.
func (s *Switch) look(a Action, exit string) time.Duration {
	switch {
	case s.o.Look != 0:
		return s.o.Look
	case !returns(s.o.Container, a, exit):
		return lookOff
	case s.o.Container == nil:
		return lookReboot
	}
	return max(lookReboot, cmp.Or(s.o.Grace, DefaultGrace)) // a machine on which one is slow is so on the other way, too
}

func ended(how string) string {
	if how == "" {
		return "it has ended"
	}
	return "it has ended: " + how
}

func emptiness(left []Process, err error) string {
	switch {
	case err != nil:
		return fmt.Sprintf("could not be looked at: %v", err)
	case len(left) == 0:
		return "empty"
	}
	return fmt.Sprintf("%d processes are left", len(left))
}

// describe is a few words on what brought a container back.
func (b *Back) describe(looked time.Duration) string {
	if b == nil {
		return "not within " + seconds(looked)
	}
	numbers := make([]string, len(b.PIDs))
	for i, n := range b.PIDs {
		numbers[i] = strconv.Itoa(n)
	}
	text := "it is back: its init is " + strings.Join(numbers, " ")
	if b.By != "" {
		text += ", started by " + safetext.Escape(b.By)
	}
	return text
}
