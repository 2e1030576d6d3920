// SPDX-License-Identifier: Apache-2.0

package power

import (
	"context"

	"golang.org/x/sys/unix"

	"github.com/outband/outband"
)

// A Word is one thing that an init understands.
type Word struct {
	How   string // "SIGTERM", "write /run/initctl": what an Event shows
	speak func(ctx context.Context, t *outband.Target) error
}

// signalled is the word that is a signal to the init, by its pidfd.
func signalled(name string, sig unix.Signal) Word {
	return Word{name, func(_ context.Context, t *outband.Target) error { return t.Signal(sig) }}
}

// Words returns what asks the init for an action, and what asks it in a way that
// it does not put off. Of an init that is not known it is SIGTERM, where it has a
// handler for that; it ignores what it has none for, also from outside.
func (i Init) Words(a Action) (ask, harder []Word) {
	switch a {
	case Off, Reboot, Halt:
		if i.catches(unix.SIGTERM) {
			return []Word{signalled("SIGTERM", unix.SIGTERM)}, nil
		}
	}
	return nil, nil
}
