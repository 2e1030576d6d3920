// SPDX-License-Identifier: Apache-2.0

package forkexec

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/sys"
)

// Content is what was read of one file.
type Content struct {
	Data []byte
	Err  error // a unix.Errno; ENXIO: not a regular file; EFBIG: not smaller than MaxFile
}

// ErrAbandoned is ErrDeadline where the process that read could not be killed
// either: it waits in the kernel until the file system answers or is gone.
var ErrAbandoned = errors.New("the reading process waits in the kernel and cannot be killed")

// Read reads files of a target and asks its file systems. It returns one Content
// for each path and then for each mount; fewer with ErrDeadline where that was
// not all done in time, which is ErrAbandoned too where what reads cannot be
// ended. It never takes much longer than until the deadline, whatever the target
// does.
func Read(ctx context.Context, r *Reading) ([]Content, error) {
	return apart(ctx, r.Deadline, len(r.Paths)+len(r.Mounts), func(timeout time.Duration, out, link, self *os.File) *builder {
		return assembleReader(r, timeout, r.Root, r.Proc, out, link, self)
	})
}

// apart runs what a guard and its child do and returns the n contents that they
// tell; see Read.
func apart(ctx context.Context, deadline time.Time, n int, assemble assembly) ([]Content, error) {
	if d, ok := ctx.Deadline(); ok && (deadline.IsZero() || d.Before(deadline)) {
		deadline = d
	}
	if deadline.IsZero() {
		deadline = time.Now().Add(readLongest)
	}
	in, link, guard, err := startGuard(assemble, deadline)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	defer link.Close()
	hangUp := func() { _ = sys.Control(link, func(fd int) { _ = unix.Shutdown(fd, unix.SHUT_WR) }) }
	defer context.AfterFunc(ctx, hangUp)()
	contents, err := receiveFiles(in, link, deadline.Add(2*abandonMS*time.Millisecond), n)
	hangUp()
	if !sys.Await(time.Now().Add(2*abandonMS*time.Millisecond), nil, link) {
		_ = guard.Kill() // it was stopped
	}
	code := guard.wait()
	switch {
	case err == nil:
		return contents, nil
	case code == exitAbandoned:
		return contents, errors.Join(ErrDeadline, ErrAbandoned)
	}
	return contents, ErrDeadline
}

// assembly builds the program of a guard and its child. The guard has that much
// time, tells on out, and sees the caller by link and the pidfd self.
type assembly func(timeout time.Duration, out, link, self *os.File) *builder

// startGuard starts a guard and returns the near ends of its pipe and link.
func startGuard(assemble assembly, deadline time.Time) (in, link *os.File, guard *process, err error) {
	self, err := sys.Self()
	if err != nil {
		return nil, nil, nil, err
	}
	defer self.Close()
	in, out, err := sys.Pipe()
	if err != nil {
		return nil, nil, nil, err
	}
	defer out.Close()
	link, far, err := sys.Socketpair()
	if err != nil {
		in.Close()
		return nil, nil, nil, err
	}
	defer far.Close()
	b := assemble(max(time.Until(deadline), 0), out, far, self)
	data, err := b.program.link()
	if err == nil {
		guard, err = execute(data, b.files)
	}
	if err == nil {
		err = sys.Control(in, func(fd int) { _ = unix.SetNonblock(fd, true) })
	}
	if err != nil {
		in.Close()
		link.Close()
		return nil, nil, nil, err
	}
	return in, link, guard, nil
}

// receiveFiles reads what a reader says until it has said all, or nothing more
// comes: the guard is gone, be the reader or not.
func receiveFiles(in, link *os.File, deadline time.Time, n int) ([]Content, error) {
	contents := make([]Content, 0, n)
	var got []byte
	buf := make([]byte, readChunk+frameSize)
	for current := (Content{}); len(contents) < n; {
		if size := frameLength(got); size > 0 {
			if takeFrame(got[:size], &current) {
				contents, current = append(contents, current), Content{}
			}
			got = got[size:]
			continue
		}
		if !sys.Await(deadline, in, link) {
			return contents, ErrDeadline
		}
		var k int
		var err error
		if cerr := sys.Control(in, func(fd int) { k, err = unix.Read(fd, buf) }); cerr != nil {
			return contents, cerr
		}
		switch {
		case errors.Is(err, unix.EINTR):
		case k <= 0: // the end, or the reader left behind
			return contents, ErrDeadline
		default:
			got = append(got, buf[:k]...)
		}
	}
	return contents, nil
}

// frameLength is how long the frame is that b starts with, 0 if it is not all
// there.
func frameLength(b []byte) int {
	if len(b) < frameSize {
		return 0
	}
	size := frameSize
	if binary.LittleEndian.Uint64(b) == frameData {
		size += int(min(binary.LittleEndian.Uint64(b[8:]), readChunk))
	}
	if len(b) < size {
		return 0
	}
	return size
}

// takeFrame adds a frame to c and tells whether it was the last of its file.
func takeFrame(frame []byte, c *Content) bool {
	if binary.LittleEndian.Uint64(frame) == frameData {
		c.Data = append(c.Data, frame[frameSize:]...)
		return false
	}
	if errno := unix.Errno(binary.LittleEndian.Uint64(frame[8:])); errno != 0 {
		*c = Content{Err: errno}
	}
	return true
}
