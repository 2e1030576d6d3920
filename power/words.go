// SPDX-License-Identifier: Apache-2.0

package power

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"github.com/outband/outband"
	"github.com/outband/outband/internal/inits"
)

// A Word is one thing that an init understands.
type Word struct {
	How   string // "SIGTERM", "write /run/initctl": what an Event shows
	speak func(ctx context.Context, t *outband.Target) error
}

// Words returns what asks the init for an action, and what asks it in a way that
// it does not put off: each list in order, until one was said. None means that
// it has no word for it, as plain programs have none for a reboot.
func (i Init) Words(a Action) (ask, harder []Word) {
	if i.row.Off.Ask == nil || i.row.Forwards && i.StopSignal != "" {
		return i.stop(a), nil
	}
	var w inits.Words
	switch a {
	case Off:
		w = i.row.Off
	case Halt:
		w = i.row.Halt
	case Reboot:
		w = i.row.Reboot
		if w.Ask == nil && i.Restarts {
			w = i.row.Off
		}
	}
	return spoken(w.Ask), spoken(w.Harder)
}

// stop is the word for a program that is told to end, by the signal that its
// engine has for it: a plain one, if it does something about that, since what it
// has no handler for an init ignores, also from outside.
func (i Init) stop(a Action) []Word {
	sig := unix.SIGTERM
	if i.StopSignal != "" {
		sig = inits.SignalNumber(i.StopSignal)
	}
	switch {
	case sig == 0, sig == unix.SIGKILL, !i.row.Forwards && !i.does(sig):
		return nil
	case a == Off, a == Halt, a == Reboot && i.Restarts:
		return spoken([]inits.Word{{Signal: sig}})
	}
	return nil
}

// spoken makes words of a table's that can be said.
func spoken(words []inits.Word) (list []Word) {
	for _, w := range words {
		list = append(list, Word{w.How(), func(ctx context.Context, t *outband.Target) error { return speak(ctx, t, w) }})
	}
	return list
}

// speak says a word, or nothing of it that the init would notice: the signal
// comes last.
func speak(ctx context.Context, t *outband.Target, w inits.Word) error {
	if w.FIFO != "" {
		if err := t.WriteFIFO(ctx, w.FIFO, w.Record); err != nil {
			return err
		}
	}
	if err := t.SetModes(ctx, w.Modes...); err != nil {
		return err
	}
	if w.Signal == 0 {
		return nil
	}
	if err := t.Signal(w.Signal); err != nil {
		return errors.Join(t.Alive(), err)
	}
	return nil
}
