// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"flag"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/sys"
	"github.com/outband/outband/internal/testutil"
)

var relayed = flag.Int64("relayed", 256, "`MiB` that are sent through a command")

// A lot of bytes arrive as they are, in order; -relayed says how many.
func TestRelay(t *testing.T) {
	testutil.NoLeaks(t)
	target := enter(t, hostFiles())
	size := *relayed << 20
	for name, asFiles := range map[string]bool{"files": true, "readers and writers": false} {
		t.Run(name, func(t *testing.T) {
			random := func() io.Reader { return io.LimitReader(rand.NewChaCha8([32]byte{1}), size) }
			c := target.Command("cat")
			sent, got := sha256.New(), sha256.New()
			c.Stdin, c.Stdout = io.TeeReader(random(), sent), got
			var done sync.WaitGroup
			if asFiles {
				inR, inW := pipePair(t)
				outR, outW := pipePair(t)
				c.Stdin, c.Stdout = inR, outW
				done.Go(func() { _, _ = io.Copy(io.MultiWriter(inW, sent), random()); inW.Close() })
				done.Go(func() { _, _ = io.Copy(got, outR) })
				defer outR.Close()
			}
			if err := c.Run(); err != nil {
				t.Error(err)
			}
			if f, ok := c.Stdout.(*os.File); ok {
				f.Close()
			}
			done.Wait()
			if !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
				t.Error("other bytes came out than went in")
			}
		})
	}
}

// yes | head: the command is ended by SIGPIPE when its reader has enough,
// whatever kind of writer that is.
func TestReaderThatHasEnough(t *testing.T) {
	testutil.NoLeaks(t)
	both(t, func(t *testing.T) {
		target := enter(t, hostFiles())
		r, w := pipePair(t)
		for name, stdout := range map[string]io.Writer{"pipe": w, "writer": &brokenWriter{100000}} {
			c := target.Command("yes")
			c.Stdout = stdout
			start(t, c)
			if name == "pipe" {
				if _, err := io.ReadFull(r, make([]byte, 100000)); err != nil {
					t.Error(err)
				}
				r.Close()
			}
			within(t, "the end of yes", func() { _ = c.Wait() })
			if c.ProcessState.Signal() != unix.SIGPIPE {
				t.Errorf("%s: it ended by %v", name, c.ProcessState)
			}
		}
	})
}

// A command that takes its output's end well is told of nothing else: the
// caller is, by EPIPE.
func TestBrokenPipe(t *testing.T) {
	testutil.NoLeaks(t)
	target := enter(t, hostFiles())
	r, w := pipePair(t)
	r.Close()
	c := sh(target, "trap '' PIPE; echo x 2>/dev/null; exit 0")
	c.Stdout = w
	if err := c.Run(); !errors.Is(err, unix.EPIPE) || !c.ProcessState.Success() {
		t.Errorf("%v, %v, want EPIPE", err, c.ProcessState)
	}
}

// What was left in the background and holds the output does not hold the end of
// the command: neither when it is silent nor when it writes without end. What
// the command has written itself is all there.
func TestBackgroundHoldsOutput(t *testing.T) {
	testutil.NoLeaks(t)
	sweepLeft(t)
	target := enter(t, hostFiles())
	tests := []struct {
		name, script string
		leave        bool
	}{
		{"silent", "echo from the command; sleep 1000 &", false},
		{"silent, left", "echo from the command; sleep 1000 &", true},
		{"writes", "echo from the command; yes & :", false},
		{"writes, left", "echo from the command; yes & :", true},
		{"writes now and then, left", "echo from the command; while :; do echo x; sleep 0.1; done & :", true},
	}
	for _, test := range tests {
		for kind, asFile := range map[string]bool{"file": true, "writer": false} {
			t.Run(test.name+" to a "+kind, func(t *testing.T) {
				t.Parallel() // each waits for a second
				c := sh(target, test.script)
				c.Leave = test.leave
				head := &headOf{}
				c.Stdout = head
				if asFile {
					r, w := pipePair(t)
					c.Stdout = w
					go func() { _, _ = io.Copy(head, r) }()
				}
				within(t, "the command", func() {
					if err := c.Run(); err != nil {
						t.Error(err)
					}
				})
				await(t, "what the command has written", func() bool { return strings.HasPrefix(head.String(), "from the command\n") })
			})
		}
	}
}

// headOf keeps what is written first.
type headOf struct{ buffer }

func (h *headOf) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.Len() < 100 {
		h.Buffer.Write(p[:min(len(p), 100)])
	}
	return len(p), nil
}

func (h *headOf) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.Buffer.String()
}

// What was left in the background and holds the input without reading it does
// not hold the end of the command either, whatever is still to be written.
func TestBackgroundHoldsInput(t *testing.T) {
	testutil.NoLeaks(t)
	sweepLeft(t)
	target := enter(t, hostFiles())
	zero, err := os.Open("/dev/zero")
	if err != nil {
		t.Fatal(err)
	}
	defer zero.Close()
	proc, err := os.Open("/proc/kallsyms") // does not splice, is more than a pipe holds
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	inputs := map[string]io.Reader{"device": zero, "file": fileWith(t, strings.Repeat("x", 4<<20)), "proc": proc, "reader": onlyReader{zero}}
	for name, input := range inputs {
		t.Run(name, func(t *testing.T) {
			// The shell gives a background process another input unless told not to.
			c := sh(target, "sleep 1000 <&0 & :")
			c.Leave, c.Stdin = true, input
			within(t, "the command", func() {
				if err := c.Run(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// slowWriter writes nothing until told to.
type slowWriter struct {
	bytes.Buffer
	wake <-chan struct{}
}

func (s *slowWriter) Write(p []byte) (int, error) {
	<-s.wake
	return s.Buffer.Write(p)
}

// A reader may be as slow as it likes: it gets every byte, also those of a
// command that has ended long before.
func TestSlowReader(t *testing.T) {
	testutil.NoLeaks(t)
	sweepLeft(t)
	target := enter(t, hostFiles())
	wake := make(chan struct{})
	var all sync.WaitGroup
	for _, leave := range []bool{false, true} {
		for _, size := range []int{1, 60000, 700000} {
			slow := &slowWriter{wake: wake}
			r, w := pipePair(t)
			toWriter, toFile := sh(target, "head -c $0 /dev/zero", strconv.Itoa(size)), sh(target, "head -c $0 /dev/zero", strconv.Itoa(size))
			toWriter.Stdout, toFile.Stdout = slow, w
			toWriter.Leave, toFile.Leave = leave, leave
			start(t, toWriter)
			start(t, toFile)
			all.Go(func() {
				if err := toWriter.Wait(); err != nil || slow.Len() != size {
					t.Errorf("leave %v: the slow writer got %d bytes of %d, %v", leave, slow.Len(), size, err)
				}
			})
			all.Go(func() {
				<-wake
				if n, err := io.Copy(io.Discard, r); err != nil || n != int64(size) {
					t.Errorf("leave %v: the slow file got %d bytes of %d, %v", leave, n, size, err)
				}
			})
			all.Go(func() {
				if err := toFile.Wait(); err != nil {
					t.Error(err)
				}
				w.Close()
			})
		}
	}
	// Longer than anybody waits for what was left running.
	time.Sleep(leaveBound + leaveBound/5)
	close(wake)
	within(t, "slow readers", all.Wait)
}

// Somebody else may make the caller's output one that does not block, as
// programs that share a terminal do: no byte is lost for it.
func TestOutputThatDoesNotBlock(t *testing.T) {
	testutil.NoLeaks(t)
	const size = 3 << 20
	c := sh(enter(t, hostFiles()), "echo; read x; head -c $0 /dev/zero", strconv.Itoa(size))
	in, wake := pipePair(t)
	out, w := pipePair(t)
	c.Stdin, c.Stdout = in, w
	start(t, c)
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil { // the relay is at work
		t.Fatal(err)
	}
	if err := sys.Control(w, func(fd int) { _ = unix.SetNonblock(fd, true) }); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(wake, "\n"); err != nil {
		t.Fatal(err)
	}
	read := make(chan int64)
	go func() {
		n, _ := io.Copy(io.Discard, out)
		read <- n
	}()
	within(t, "the command", func() {
		if err := c.Wait(); err != nil {
			t.Error(err)
		}
	})
	w.Close()
	if n := <-read; n != size {
		t.Errorf("%d bytes of %d arrived", n, size)
	}
}

// blockingPipe is a pipe whose near end blocks or not.
func blockingPipe(t *testing.T, nonblockWrite bool) (r, w int) {
	t.Helper()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fds[0]); unix.Close(fds[1]) })
	if err := unix.SetNonblock(fds[1], nonblockWrite); err != nil {
		t.Fatal(err)
	}
	return fds[0], fds[1]
}

// A mover that copies writes all that it has read, waiting where it must, and
// knows what it could not write.
func TestMoverCopies(t *testing.T) {
	const chunk = 50000
	from, feed := blockingPipe(t, false)
	out, to := blockingPipe(t, true)
	text := bytes.Repeat([]byte("0123456789"), chunk/10)
	var got []byte
	drain := func() {
		buf := make([]byte, 1<<20)
		n, err := unix.Read(out, buf)
		if err != nil {
			t.Error(err)
		}
		got = append(got, buf[:n]...)
	}
	waits := 0
	m := mover{from: from, to: to, buf: make([]byte, 64<<10), full: func() bool { waits++; drain(); return true }}
	for range 10 { // more than the pipe holds
		if _, err := unix.Write(feed, text); err != nil {
			t.Fatal(err)
		}
		if n, err := m.move(); err != nil || n != chunk {
			t.Fatalf("%d, %v", n, err)
		}
	}
	drain()
	if !bytes.Equal(got, bytes.Repeat(text, 10)) || waits == 0 || m.unsent != 0 {
		t.Errorf("%d bytes, %d waits, %d unsent", len(got), waits, m.unsent)
	}
	m.full = func() bool { return false }
	for sent := 0; ; sent += chunk {
		if _, err := unix.Write(feed, text); err != nil {
			t.Fatal(err)
		}
		_, err := m.move()
		if err == nil {
			continue
		}
		drain()
		if !errors.Is(err, errFull) || m.unsent == 0 || int64(len(got)-10*chunk)+m.unsent != int64(sent+chunk) {
			t.Errorf("%v, %d unsent, %d sent, %d arrived", err, m.unsent, sent+chunk, len(got)-10*chunk)
		}
		return
	}
}

// Where neither end is ready, a mover gives the caller the chance to wait.
func TestMoverIsAskedAgain(t *testing.T) {
	from, _ := blockingPipe(t, false)
	_, to := blockingPipe(t, true)
	if err := unix.SetNonblock(from, true); err != nil {
		t.Fatal(err)
	}
	for name, m := range map[string]*mover{
		"splices": {from: from, to: to, full: func() bool { return true }}, "copies": {from: from, to: to, buf: make([]byte, 10)},
	} {
		if n, err := m.move(); !errors.Is(err, unix.EAGAIN) {
			t.Errorf("%s: %d, %v, want EAGAIN", name, n, err)
		}
	}
}

// Output that nobody wants goes nowhere, whatever the target calls /dev/null.
func TestNoOutput(t *testing.T) {
	testutil.NoLeaks(t)
	both(t, func(t *testing.T) {
		for name, setup := range map[string]string{
			"null device": "", "none": "mount -t tmpfs dev /dev", "a fifo": "mount -t tmpfs dev /dev; mkfifo /dev/null",
			"a file": "mount -t tmpfs dev /dev; : > /dev/null", "a link": "mount -t tmpfs dev /dev; ln -s /etc/passwd /dev/null",
		} {
			t.Run(name, func(t *testing.T) {
				r, w := pipePair(t)
				spec := hostFiles()
				spec.User, spec.Stdout = true, w
				spec.Args = []string{"/bin/sh", "-c", setup + "\necho ready; while :; do sleep 1000; done"}
				target := enter(t, spec)
				if _, err := io.ReadFull(r, make([]byte, 6)); err != nil {
					t.Fatal(err)
				}
				within(t, "the command", func() {
					if err := sh(target, "head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2; ! read x").Run(); err != nil {
						t.Error(err)
					}
				})
				c := target.Command("true")
				c.Detach = true
				err := c.Start()
				if setup == "" && err == nil {
					_ = c.Wait()
				} else if err == nil || Hint(err) == "" {
					t.Errorf("detached: %v, hint %q", err, Hint(err))
				}
			})
		}
	})
}
