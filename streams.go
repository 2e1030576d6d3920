// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"reflect"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/forkexec"
	"github.com/outband/outband/internal/sys"
)

// buffer collects output; both streams may share one.
type buffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

// streams are the three standard streams of a command: the ends that go inside
// and those that are relayed.
type streams struct {
	inside  [3]*os.File
	outside [3]*os.File   // nil where nothing is relayed
	given   bool          // inside belongs to the caller (PassStreams)
	stop    *os.File      // closed when the command has ended: stdin is read no more
	stopped *os.File      // its other end
	rest    *os.File      // an end of the input pipe once it is closed, see endOfInput
	input   chan struct{} // closed when no more input is moved
	outputs sync.WaitGroup
	unsent  int64 // what was read of the input and could not be passed on, bytes

	terminal *terminal // nil: none

	mu       sync.Mutex
	err      error // the first failure to read the input or to deliver output
	panicked any   // of a Reader or Writer of the caller's
}

// openStreams makes the streams of c. The pipes belong to the user that the
// command runs as, given by its numbers outside, so that it can open them again
// (/dev/stderr).
//
// The null device is the target's own, opened on the way in.
func openStreams(c *Cmd, owner [2]uint32) (*streams, error) {
	s := &streams{input: make(chan struct{})}
	var err error
	switch {
	case c.PassStreams:
		err = s.pass(c)
	case c.Detach: // it has nothing but the null device
	case c.Terminal:
		err = s.onTerminal(c, owner)
	default:
		err = s.pipes(c, owner)
	}
	if err != nil {
		s.closeInside()
		s.abort()
		return nil, err
	}
	return s, nil
}

// pass hands the caller's own files in.
func (s *streams) pass(c *Cmd) error {
	s.given = true
	for i, stream := range [3]any{c.Stdin, c.Stdout, c.Stderr} {
		f, ok := stream.(*os.File)
		if !ok {
			return fmt.Errorf("%w: PassStreams needs three files", ErrInvalid)
		}
		s.inside[i] = f
	}
	return nil
}

// pipes makes a pipe for each stream that is relayed.
func (s *streams) pipes(c *Cmd, owner [2]uint32) (err error) {
	switch {
	case c.Stdin == nil:
	case isNull(c.Stdin):
		err = s.emptyInput(c, owner)
	default:
		err = s.inputPipe(c, owner)
	}
	if err != nil {
		return err
	}
	if c.Stdout != nil {
		if err := s.output(1, c.Stdout, owner); err != nil {
			return err
		}
	}
	if same(c.Stdout, c.Stderr) {
		s.inside[2] = s.inside[1]
	} else if c.Stderr != nil {
		if err := s.output(2, c.Stderr, owner); err != nil {
			return err
		}
	}
	if s.outside == [3]*os.File{} {
		return nil
	}
	s.stopped, s.stop, err = sys.Pipe()
	return err
}

// inputPipe makes the input.
func (s *streams) inputPipe(c *Cmd, owner [2]uint32) (err error) {
	_, file := c.Stdin.(*os.File)
	s.inside[0], s.outside[0], err = pipe(owner, writeEnd, file)
	return err
}

// emptyInput makes an input that is at its end.
func (s *streams) emptyInput(c *Cmd, owner [2]uint32) error {
	err := s.inputPipe(c, owner)
	if err == nil {
		s.outside[0].Close()
		s.outside[0] = nil
	}
	return err
}

// isNull tells whether src is the caller's null device, from which nothing needs
// to be moved.
func isNull(src io.Reader) bool {
	f, ok := src.(*os.File)
	if !ok {
		return false
	}
	var st unix.Stat_t
	var err error
	cerr := sys.Control(f, func(fd int) { err = unix.Fstat(fd, &st) })
	return cerr == nil && err == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == unix.Mkdev(1, 3)
}

// output makes stream i, to be relayed to dst.
func (s *streams) output(i int, dst io.Writer, owner [2]uint32) (err error) {
	_, file := dst.(*os.File)
	s.outside[i], s.inside[i], err = pipe(owner, readEnd, file)
	return err
}

// same tells whether two writers are one.
func same(a, b io.Writer) bool {
	return a != nil && b != nil && reflect.ValueOf(a).Comparable() && reflect.ValueOf(b).Comparable() && a == b
}

// pipeSize is what pipes are enlarged to where the kernel allows, bytes
// (/proc/sys/fs/pipe-max-size): fewer switches between writer and reader.
const (
	pipeSize    = 1 << 20
	defaultPipe = 64 << 10 // what a pipe holds otherwise, pipe(7)
)

// The ends of a pipe.
const (
	readEnd = iota
	writeEnd
)

// pipe makes a pipe that belongs to owner. Between files a thread splices; else
// Go's poller waits for the near end.
func pipe(owner [2]uint32, near int, file bool) (r, w *os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, os.NewSyscallError("pipe2", err)
	}
	if !file {
		_ = unix.SetNonblock(fds[near], true) // cannot fail on a pipe
	}
	_ = unix.Fchown(fds[0], int(owner[0]), int(owner[1])) // without privilege it is the owner already, or cannot be
	return os.NewFile(uintptr(fds[0]), "pipe"), os.NewFile(uintptr(fds[1]), "pipe"), nil
}

// into makes the ends that go inside the command's.
func (s *streams) into(spec *forkexec.Spec) {
	spec.Stdin, spec.Stdout, spec.Stderr = s.inside[0], s.inside[1], s.inside[2]
}

// closeInside closes the ends that went inside.
func (s *streams) closeInside() {
	if s.given {
		return
	}
	for _, f := range [...]*os.File{s.inside[0], s.inside[1], s.inside[2]} {
		if f != nil {
			f.Close() // a second time where two are one, which is an error and no harm
		}
	}
}

// abort closes everything of a command that did not start.
func (s *streams) abort() {
	for _, f := range [...]*os.File{s.outside[0], s.outside[1], s.outside[2], s.stop, s.stopped} {
		if f != nil {
			f.Close()
		}
	}
}

// relay starts to move bytes.
func (s *streams) relay(c *Cmd) {
	switch w := s.outside[0]; {
	case s.terminal != nil:
		s.terminal.connect(c)
	case w != nil:
		go func() {
			defer close(s.input)
			s.in(w, c.Stdin)
		}()
	default:
		close(s.input)
	}
	s.relayOut(c.Stdout, s.outside[1])
	s.relayOut(c.Stderr, s.outside[2])
}

// relayOut moves what comes from r to dst; the first failure is kept.
func (s *streams) relayOut(dst io.Writer, r *os.File) {
	if r == nil {
		return
	}
	s.outputs.Go(func() { s.fail(s.out(dst, r)) })
}

// fail keeps the first failure.
func (s *streams) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
}

// leaveBound is how long output is read of what was left running (--leave)
// after the command has ended. What the command wrote itself is
// delivered whatever that takes.
const leaveBound = time.Second

// finish is called when the session has ended. It reads output to its end and
// gives back what of the input was not read.
func (s *streams) finish(c *Cmd) error {
	if s.terminal != nil {
		s.terminal.hangUp()
		defer s.terminal.close()
	}
	if s.stop != nil {
		s.stop.Close()
		defer s.stopped.Close()
	}
	for _, r := range s.outside[1:] {
		if r != nil {
			_ = r.SetReadDeadline(time.Now().Add(leaveBound)) // for those that Go polls
		}
	}
	if _, file := c.Stdin.(*os.File); file || c.Stdin == nil {
		<-s.input // another kind of Reader may be blocked in Read for ever
	}
	if w := s.outside[0]; w != nil {
		s.giveBack(c.Stdin, w)
		w.Close()
	}
	s.outputs.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.panicked != nil {
		panic(s.panicked)
	}
	return s.err
}

func regular(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode().IsRegular()
}

// giveBack seeks a regular file back by what is left in the pipe w, so that the
// next reader of the same file gets it.
func (s *streams) giveBack(src io.Reader, w *os.File) {
	f, ok := src.(*os.File)
	if !ok || !regular(f) {
		return
	}
	if s.rest != nil { // w is closed already
		defer s.rest.Close()
		w = s.rest
	}
	if left := unread(w) + s.unsent; left > 0 {
		_, _ = f.Seek(-left, io.SeekCurrent)
	}
}

// unread is how much a pipe holds, bytes.
func unread(pipe *os.File) int64 {
	n := 0
	_ = sys.Control(pipe, func(fd int) { n, _ = unix.IoctlGetInt(fd, unix.TIOCINQ) })
	return int64(n)
}
