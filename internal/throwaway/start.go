// SPDX-License-Identifier: Apache-2.0

package throwaway

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/sys"
)

const (
	// startTimeout bounds Start where its context has no deadline.
	startTimeout = 30 * time.Second
	// closeTimeout bounds Close: a killed init is gone once all in its pid
	// namespace are, and all visitors are reaped.
	closeTimeout = 10 * time.Second
)

// Container is a running container.
type Container struct {
	// Name is that of the Spec.
	Name string
	// Inner are the containers inside, in the Spec's order. For a Spec with
	// Depth it is the one level below.
	Inner []*Container

	id    int
	pidfd *os.File
	pid   int
	// root is nil for an inner container.
	root *root
	once sync.Once
}

// root is what only the outermost container has: it is the caller's child.
type root struct {
	proc  *os.Process
	done  chan struct{}
	state *os.ProcessState // valid when done is closed
	err   error
}

// Start makes a container and returns when its init, those of all inner ones,
// and the workers have been executed. The container ends with the calling
// process at the latest, however that ends.
//
// It may be called from any goroutine; namespaces and rights that the container
// starts from are those of the process's main thread.
func Start(ctx context.Context, spec Spec) (*Container, error) {
	if !capable(unix.CAP_SYS_ADMIN) {
		spec.User = true
		if spec.Namespaces == 0 {
			spec.Namespaces = Default
		}
	}
	p, err := compile(spec)
	if err != nil {
		return nil, err
	}
	// The earlier of both deadlines counts.
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	near, far, err := sys.Socketpair()
	if err != nil {
		return nil, &Error{Name: spec.Name, Step: "open the control socket", Err: err}
	}
	defer near.Close()
	// From here on only the stages hold the far end, so that its end is theirs.
	c := newContainer(p)
	c.root, err = keep(ctx, p, spec, far)
	far.Close()
	if err != nil {
		return nil, err
	}
	// The socket blocks; shut down it is at its end, on both sides.
	stop := context.AfterFunc(ctx, func() {
		_ = sys.Control(near, func(fd int) { _ = unix.Shutdown(fd, unix.SHUT_RDWR) })
	})
	defer stop()
	if err := c.arrive(ctx, near); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// newContainer has the shape of p.
func newContainer(p *plan) *Container {
	c := &Container{Name: p.Name, id: p.ID}
	for _, inner := range p.Inner {
		c.Inner = append(c.Inner, newContainer(inner))
	}
	return c
}

// keep launches the first stage from a thread that lives as long as the
// container: PR_SET_PDEATHSIG fires when the creating *thread* ends, and other
// code of the process may end any thread that it has locked. It also reaps at
// once, since an unreaped init would hold a pid namespace around it.
func keep(ctx context.Context, p *plan, spec Spec, control *os.File) (*root, error) {
	r := &root{done: make(chan struct{})}
	launched := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		std := [3]*os.File{spec.Stdin, spec.Stdout, spec.Stderr}
		var err error
		r.proc, err = launch(ctx, p, "/proc/self/exe", std, control)
		launched <- err
		if err != nil {
			return
		}
		r.state, r.err = r.proc.Wait()
		close(r.done)
	}()
	return r, <-launched
}

// arrive takes what the stages report until the last has closed its socket.
func (c *Container) arrive(ctx context.Context, near *os.File) error {
	buf := make([]byte, 64<<10)
	for {
		n, fd, err := sys.Receive(near, buf)
		switch {
		case ctx.Err() != nil:
			return &Error{Name: c.Name, Step: "set up", Err: ctx.Err()}
		case errors.Is(err, io.EOF):
			return c.complete(ctx)
		case err != nil:
			return &Error{Name: c.Name, Step: "read the control socket", Err: err}
		}
		var m message
		if err := json.Unmarshal(buf[:n], &m); err != nil {
			return &Error{Name: c.Name, Step: "read the control socket", Err: err}
		}
		if m.Step != "" {
			return m.failure()
		}
		if err := c.adopt(m.ID, fd); err != nil {
			return &Error{Name: c.Name, Step: "take over the init", Err: err}
		}
		// Only the outermost stage waits: it alone is this process's child.
		if m.ID == 0 {
			if _, err := near.Write([]byte("go")); err != nil {
				return &Error{Name: c.Name, Step: "release the init", Err: err}
			}
		}
	}
}

// adopt gives container id its init.
func (c *Container) adopt(id int, pidfd *os.File) error {
	// What runs inside is not hostile yet, but it is cheap to take no nonsense.
	target := c.find(id)
	if target == nil || target.pidfd != nil || pidfd == nil {
		return fmt.Errorf("unexpected message from container %d", id)
	}
	target.pidfd = pidfd
	var err error
	target.pid, err = pidOf(pidfd)
	return err
}

// find is the container of a plan's ID, or nil.
func (c *Container) find(id int) *Container {
	if c.id == id {
		return c
	}
	for _, inner := range c.Inner {
		if found := inner.find(id); found != nil {
			return found
		}
	}
	return nil
}

// complete tells whether every init has reported, which one does not that was
// killed. The socket is closed early in an exec, when the arguments and the name
// are not in place yet.
func (c *Container) complete(ctx context.Context) error {
	if c.pidfd == nil {
		return &Error{Name: c.Name, Step: "set up", Err: errors.New("init was killed")}
	}
	for ctx.Err() == nil {
		args, err := os.ReadFile("/proc/" + strconv.Itoa(c.pid) + "/cmdline")
		if len(args) > 0 || err != nil { // or it has ended already
			break
		}
		time.Sleep(100 * time.Microsecond)
	}
	for _, inner := range c.Inner {
		if err := inner.complete(ctx); err != nil {
			return err
		}
	}
	return nil
}

// pidOf reads a pidfd's process number in the /proc at hand; 0 when it is not
// visible there, -1 when it is gone.
func pidOf(pidfd *os.File) (int, error) {
	var text []byte
	err := sys.Control(pidfd, func(fd int) {
		text, _ = os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(fd))
	})
	if err != nil {
		return 0, err
	}
	lines := bufio.NewScanner(strings.NewReader(string(text)))
	for lines.Scan() {
		if number, ok := strings.CutPrefix(lines.Text(), "Pid:"); ok {
			return strconv.Atoi(strings.TrimSpace(number))
		}
	}
	return 0, errors.New("fdinfo has no Pid line")
}

// Pid is init's number as the caller sees it, for display and for interfaces
// that take nothing else. It is init's as long as Close was not called and
// init, which is reaped at once, has not ended.
func (c *Container) Pid() int { return c.pid }

// Pidfd refers to init. It is open until Close.
func (c *Container) Pidfd() *os.File { return c.pidfd }

// Leaf is the innermost container: of those with Depth the one that executes
// what the Spec said.
func (c *Container) Leaf() *Container {
	for len(c.Inner) > 0 {
		c = c.Inner[0]
	}
	return c
}

// Signal sends sig to init.
func (c *Container) Signal(sig unix.Signal) error { return sys.Signal(c.pidfd, sig, false) }

// Wait waits for the outermost init's end. An inner one's end is seen by its
// pidfd alone: it is not the caller's child.
func (c *Container) Wait(ctx context.Context) (*os.ProcessState, error) {
	if c.root == nil {
		return nil, errors.New("wait for an inner container: not a child")
	}
	select {
	case <-c.root.done:
		return c.root.state, c.root.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Close kills init, and with it all that is in its pid namespace, and returns
// when that is gone. Closing an outer container closes the inner ones.
func (c *Container) Close() error {
	var err error
	c.once.Do(func() { err = c.end() })
	return err
}

// end kills and waits. A failure leaves the reaping to keep, should it ever be
// possible.
func (c *Container) end() error {
	defer c.release()
	if c.root == nil {
		return endInner(c.pidfd)
	}
	_ = c.root.proc.Kill() // through a pidfd; os.ErrProcessDone is as good
	select {
	case <-c.root.done:
		return c.root.err
	case <-time.After(closeTimeout):
		return &Error{Name: c.Name, Step: "close", Err: ErrStuck}
	}
}

// endInner kills an init that is another process's child, and waits until that
// has reaped it.
func endInner(pidfd *os.File) error {
	for until := time.Now().Add(closeTimeout); time.Now().Before(until); time.Sleep(time.Millisecond) {
		err := sys.Signal(pidfd, unix.SIGKILL, false)
		if errors.Is(err, unix.ESRCH) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return ErrStuck
}

// release closes the pidfds of c and of all inside.
func (c *Container) release() {
	if c.pidfd != nil {
		c.pidfd.Close()
	}
	for _, inner := range c.Inner {
		inner.once.Do(inner.release)
	}
}
