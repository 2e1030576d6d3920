// SPDX-License-Identifier: Apache-2.0

package power

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband"
)

// box is what a ladder is climbed on: a container, or a test's idea of one.
type box interface {
	powered() error
	identify(ctx context.Context) (Init, error)
	thaw(a Action, force bool) (how string, err error) // "" where nothing keeps it frozen
	stopped() bool                                     // its init is, by a signal
	wake() error                                       // continues it

	say(ctx context.Context, w Word) error
	press(ctx context.Context, b outband.Button) error
	slay() error
	slayEach(ctx context.Context) (int, error)

	await(ctx context.Context, d time.Duration) bool // whether its init has ended
	exit(by end) string
	left(ctx context.Context) ([]Process, error)
	back(ctx context.Context, d time.Duration) *Back
}

// A step is a rung with what is done on it, tried in order until one was done,
// and how long the init has then.
type step struct {
	rung  Rung
	deeds []deed
	grace time.Duration
}

// A deed is one thing that can be done to a container to end it.
type deed struct {
	how    string
	do     func(ctx context.Context, b box) error
	spoken bool           // to be heard by an init that runs
	button outband.Button // that it presses
}

// buttons are what the actions press.
var buttons = map[Action]outband.Button{Off: outband.PowerOff, Halt: outband.HaltIt, Reboot: outband.Restart}

// ladder is the plan of an action, for an init with these words.
func ladder(a Action, i Init, o Options) (steps []step) {
	grace := o.Grace
	if grace == 0 {
		grace = DefaultGrace
	}
	if a != Kill && !o.Force {
		ask, harder := i.Words(a)
		steps = append(steps, step{Ask, speech(ask), grace})
		if len(harder) > 0 {
			steps = append(steps, step{AskAgain, speech(harder), min(grace, harderGrace)})
		}
	}
	if button, ok := buttons[a]; ok {
		press := func(ctx context.Context, b box) error { return b.press(ctx, button) }
		steps = append(steps, step{Press, []deed{{how: "reboot(" + string(button) + ")", do: press, button: button}}, pressGrace})
	}
	slay := func(_ context.Context, b box) error { return b.slay() }
	return append(steps,
		step{Slay, []deed{{how: "SIGKILL", do: slay}}, slayGrace},
		step{Slay, []deed{{how: "SIGKILL for each", do: slayEach}}, slayGrace})
}

func speech(words []Word) (deeds []deed) {
	for _, w := range words {
		deeds = append(deeds, deed{how: w.How, spoken: true, do: func(ctx context.Context, b box) error { return b.say(ctx, w) }})
	}
	return deeds
}

// slayEach is for an init that does not end: nobody else has been killed by its
// end, then.
func slayEach(ctx context.Context, b box) error {
	_, err := b.slayEach(ctx)
	return err
}

// end climbs the ladder of an action until the init has ended.
func (s *Switch) end(ctx context.Context, a Action) (Result, error) {
	began := time.Now()
	init, err := s.box.identify(ctx)
	if err != nil {
		return Result{}, err
	}
	how, err := s.box.thaw(a, s.o.Force)
	if how != "" || err != nil {
		s.tell(Thaw, how, "%s", outcome("thawed", err))
	}
	if err != nil {
		return Result{}, err
	}
	var by end
	var said step
	for _, st := range ladder(a, init, s.o) {
		said = st
		done, ended := s.take(ctx, st, init)
		if done.how != "" {
			said.deeds = []deed{done}
		}
		if done.button != "" {
			by.pressed = done.button
		}
		by.killed = by.killed || st.rung == Slay
		if ended {
			return s.verify(ctx, a, by, began)
		}
		if ctx.Err() != nil {
			return s.stood(ctx, a, said, began)
		}
	}
	left, _ := s.box.left(ctx)
	s.tell(Verify, "its init's pidfd", "still there, with %d processes", len(left))
	return Result{Left: left, Took: time.Since(began)}, stays(left)
}

// take does what is to be done on a rung and waits for what comes of it.
func (s *Switch) take(ctx context.Context, st step, init Init) (done deed, ended bool) {
	at, err := time.Now(), errors.New(nothingToAsk(init))
	if len(st.deeds) == 0 {
		s.tell(st.rung, "", "%v", err)
		return deed{}, s.box.await(ctx, 0)
	}
	for _, d := range st.deeds {
		stopped := d.spoken && s.box.stopped()
		if stopped {
			d.how += ", SIGCONT"
		}
		s.tell(st.rung, d.how, "")
		if err = d.do(ctx, s.box); err == nil && stopped {
			err = s.box.wake()
		}
		done = d
		if err == nil || ctx.Err() != nil {
			break
		}
		if s.box.await(ctx, 0) { // it ended before, or somebody else did it
			break
		}
		s.tell(st.rung, d.how, "not done: %v", err)
	}
	if err != nil {
		done.button = "" // not pressed
	}
	if err != nil && !s.box.await(ctx, 0) {
		return done, false
	}
	ended = s.box.await(ctx, st.grace)
	switch took := time.Since(at); {
	case ended:
		s.tell(st.rung, done.how, "its init ended after %s", seconds(took))
	case ctx.Err() == nil:
		s.tell(st.rung, done.how, "its init runs on after %s", seconds(took))
	}
	return done, ended
}

// nothingToAsk is why an init is not asked.
func nothingToAsk(i Init) string {
	switch known := i.Kind != Unknown && i.Kind != Other; {
	case !known && i.does(unix.SIGTERM):
		return "a program that is no init has no word for a reboot"
	case !known:
		return "it is no init that is known, and takes no notice of SIGTERM"
	}
	return i.Kind + " has no word for that"
}

// stood is the end of an action that was given up.
func (s *Switch) stood(ctx context.Context, a Action, st step, began time.Time) (Result, error) {
	var how []string
	for _, d := range st.deeds {
		how = append(how, d.how)
	}
	e := &StoodError{a, st.rung, strings.Join(how, ", "), ctx.Err()}
	s.tell(st.rung, e.How, "given up: its init still runs, and stays as it is")
	r := Result{Took: time.Since(began)}
	if st.rung == Slay { // killed it is: what is still there would not die
		r.Left, _ = s.box.left(ctx)
	}
	return r, e
}

// stays is the error for what did not die.
func stays(left []Process) error {
	waiting := 0
	for _, p := range left {
		if p.State == 'D' {
			waiting++
		}
	}
	return fmt.Errorf("%w: %d processes, %d of them wait in the kernel (state D): %w", ErrStays, len(left), waiting, outband.ErrDeadline)
}

// outcome is a word for how something went.
func outcome(done string, err error) string {
	if err != nil {
		return err.Error()
	}
	return done
}

// seconds shows how long something took.
func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }
