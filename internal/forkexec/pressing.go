// SPDX-License-Identifier: Apache-2.0

package forkexec

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/sys"
)

// pressLongest bounds a press that nothing else bounds.
const pressLongest = 10 * time.Second

// Press carries out a Pressing. nil says that reboot(2) was called, or that
// whoever was to call it was killed by somebody: whether the init ends is for the
// caller to see. The container stays as it is where the error is an Error, and
// where ctx was done before.
//
// It may be called from any goroutine; the namespaces that it starts from are
// those of the calling thread.
func Press(ctx context.Context, r *Pressing) error {
	deadline := r.Deadline
	if d, ok := ctx.Deadline(); ok && (deadline.IsZero() || d.Before(deadline)) {
		deadline = d
	}
	if deadline.IsZero() {
		deadline = time.Now().Add(pressLongest)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	in, out, err := sys.Pipe()
	if err != nil {
		return err
	}
	b := assemblePress(r, max(time.Until(deadline), 0), out)
	data, err := b.program.link()
	var presser *process
	if err == nil {
		presser, err = execute(data, b.files)
	}
	out.Close()
	if err != nil {
		return errors.Join(err, in.Close())
	}
	defer in.Close()
	// Nobody waits for the pipe, which who is inside may hold. Its end is what
	// makes a presser give up, and see its child dead before it goes: an orphan is
	// another's to reap.
	stop := context.AfterFunc(ctx, func() { in.Close() })
	defer stop()
	const slack = 2 * abandonMS * time.Millisecond
	if !sys.Await(time.Now().Add(max(time.Until(deadline), 0)+slack), presser.pidfd, nil) {
		_ = presser.Kill() // it was stopped
	}
	code, said := presser.wait(), make([]byte, headerSize)
	var n int
	_ = sys.Control(in, func(fd int) {
		if unix.SetNonblock(fd, true) == nil {
			n, _ = unix.Read(fd, said)
		}
	})
	return presser.pressed(ctx, code, said[:max(n, 0)])
}

// pressed is what came of a press. What is said may be another's word by then.
func (p *process) pressed(ctx context.Context, code int, said []byte) error {
	failed := p.first.failure()
	switch {
	case len(said) == headerSize:
		errno := unix.Errno(binary.LittleEndian.Uint64(said))
		return &Error{Step(binary.LittleEndian.Uint64(said[8:])), errno}
	case failed != nil:
		return failed
	case ctx.Err() != nil:
		return ctx.Err()
	case code == exitLate:
		return ErrDeadline
	case code != 0:
		return errors.Join(ErrKilled, ErrDeadline)
	}
	return nil
}
