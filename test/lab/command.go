// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// commandTime bounds a command that its caller does not bound.
const commandTime = 60 * time.Second

// User is whom a command runs as.
type User struct {
	UID uint32 `json:"uid"`
	GID uint32 `json:"gid"`
}

// Command is a process that was started on a host, by the host's init.
type Command struct {
	// Args, Env, Dir and User are of os/exec. nil Env is root's on the host.
	Args []string
	Env  []string
	Dir  string
	User *User
	// Stdin is nil for /dev/null.
	Stdin *os.File
	// Pid is its number as the host counts.
	Pid int

	host     *Host
	id       int
	out, err *os.File
	once     sync.Once
	started  chan struct{}
	done     chan struct{} // closed after code and failed are set
	code     int
	failed   string
}

// Result is how a command ended.
type Result struct {
	Code     int // of exit, or 128 and the number of the signal
	Out, Err string
}

// Command prepares a command for the host.
func (h *Host) Command(args ...string) *Command { return &Command{Args: args, host: h} }

// Start starts it. It ends with the host, at the latest.
func (c *Command) Start() (err error) {
	c.started, c.done = make(chan struct{}), make(chan struct{})
	if c.Env == nil {
		c.Env = hostEnv
	}
	if c.Dir == "" {
		c.Dir = "/"
	}
	if c.out, err = memory("stdout"); err != nil {
		return err
	}
	if c.err, err = memory("stderr"); err != nil {
		return errors.Join(err, c.out.Close())
	}
	if err := c.ask(); err != nil {
		return errors.Join(fmt.Errorf("start %s: %w", c.Args[0], err), c.out.Close(), c.err.Close())
	}
	return nil
}

// ask sends the order and waits until the command runs.
func (c *Command) ask() error {
	stdin := c.Stdin
	if stdin == nil {
		null, err := os.Open(os.DevNull)
		if err != nil {
			return err
		}
		defer null.Close()
		stdin = null
	}
	h := c.host
	h.mu.Lock()
	h.last++
	c.id = h.last
	h.calls[c.id] = c
	h.begun = append(h.begun, c)
	h.mu.Unlock()
	order := order{ID: c.id, Args: c.Args, Env: c.Env, Dir: c.Dir, User: c.User}
	if err := send(h.link, order, stdin, c.out, c.err); err != nil {
		h.mu.Lock()
		delete(h.calls, c.id)
		h.mu.Unlock()
		return fmt.Errorf("ask the host: %w", err)
	}
	select {
	case <-c.started:
	case <-c.done:
		if c.failed != "" {
			return errors.New(c.failed)
		}
	}
	return nil
}

// told takes a report in, and tells whether it was the last.
func (c *Command) told(r report) bool {
	if r.Pid != 0 || !r.Done {
		c.once.Do(func() { c.Pid = r.Pid; close(c.started) })
	}
	if r.Done {
		c.code, c.failed = r.Code, r.Failed
		close(c.done)
	}
	return r.Done
}

// Said is what it has written so far, to both outputs.
func (c *Command) Said() string { return contents(c.out) + contents(c.err) }

// Ended tells whether it has ended.
func (c *Command) Ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// Wait waits for the end; when ctx is done first, or after a minute where it has
// no deadline, the command is killed. What it has started is not.
func (c *Command) Wait(ctx context.Context) (Result, error) {
	if _, bound := ctx.Deadline(); !bound {
		limited, cancel := context.WithTimeout(ctx, commandTime)
		defer cancel()
		ctx = limited
	}
	var err error
	select {
	case <-c.done:
	case <-ctx.Done():
		err = fmt.Errorf("%s: %w", strings.Join(c.Args, " "), context.Cause(ctx))
		c.Kill()
		select {
		case <-c.done:
		case <-time.After(endTime):
			err = errors.Join(err, errors.New("it does not die"))
		}
	}
	r := Result{Code: c.code, Out: contents(c.out), Err: contents(c.err)}
	if err == nil && c.failed != "" {
		err = errors.New(c.failed)
	}
	c.out.Close()
	c.err.Close()
	return r, err
}

// Kill kills it, if it has not ended.
func (c *Command) Kill() { _ = send(c.host.link, order{ID: c.id, Kill: true}) }

// Do runs a command on the host and returns what it wrote to standard output.
// An exit code other than 0 is an error with what it said.
func (h *Host) Do(ctx context.Context, args ...string) (string, error) {
	return h.Command(args...).output(ctx)
}

func (c *Command) output(ctx context.Context) (string, error) {
	if err := c.Start(); err != nil {
		return "", err
	}
	r, err := c.Wait(ctx)
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("exit code %d", r.Code)
	}
	if err != nil {
		return r.Out, fmt.Errorf("%s: %w: %s", strings.Join(c.Args, " "), err, strings.TrimSpace(r.Err+r.Out))
	}
	return r.Out, nil
}
