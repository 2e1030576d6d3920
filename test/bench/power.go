// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband"
	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/power"
)

// The contestants of the contest about ends.
const (
	killName  = "power.Kill"
	groupName = "cgroup.kill"
)

// powerContest compares the end of a container with many processes with that by
// its cgroup. Each turn has a container of its own, whose start does not count.
func (l *lab) powerContest(s scale) *contest {
	root := unifiedRoot()
	if root == "" {
		l.missing("There is no cgroup v2 with cgroup.kill (5.14): no comparison of power with it.")
		return nil
	}
	turn := func(end func(context.Context, *crowd) error) func(context.Context) (time.Duration, error) {
		return func(ctx context.Context) (took time.Duration, err error) {
			c, err := gather(ctx, root, s.crowd)
			if err != nil {
				return 0, err
			}
			defer func() { err = errors.Join(err, c.close()) }()
			begin := time.Now()
			err = end(ctx, c)
			return time.Since(begin), err
		}
	}
	return &contest{
		title: "Power", rounds: s.ends,
		field: []contestant{
			{killName, fmt.Sprintf("Switch.Kill of a container with %d processes, seen to be empty", s.crowd), turn(killBySwitch)},
			{groupName, "1 written to cgroup.kill, until a pidfd says that its init has ended", turn(killByGroup)},
		},
		claims: []claim{{of: killName, to: groupName, bar: 1.5, goal: 1.1}},
	}
}

// unifiedRoot is where cgroup v2 is mounted; "" where no group of it can be made
// that can be killed.
func unifiedRoot() string {
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		dir, err := os.MkdirTemp(root, "test-outband-bench-")
		if err != nil {
			continue
		}
		_, err = os.Stat(filepath.Join(dir, groupName))
		if os.Remove(dir) == nil && err == nil {
			return root
		}
	}
	return ""
}

// crowd is a container with many processes.
type crowd struct {
	*throwaway.Container
	target *outband.Target
	dir    string
}

// gather starts one, in a group of its own, and waits until all are there.
func gather(ctx context.Context, root string, n int) (*crowd, error) {
	dir, err := os.MkdirTemp(root, "test-outband-bench-")
	if err != nil {
		return nil, err
	}
	c := &crowd{dir: dir}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	defer r.Close()
	script := fmt.Sprintf("trap : TERM; i=1; while [ $i -lt %d ]; do sleep 1000 & i=$((i+1)); done; echo; while :; do wait; done", n)
	c.Container, err = throwaway.Start(ctx, throwaway.Spec{User: true, Tree: throwaway.TreeShared, Args: []string{"/bin/sh", "-c", script},
		Cgroups: []string{dir}, Stdout: w})
	w.Close()
	if err == nil {
		_, err = bufio.NewReader(r).ReadByte()
	}
	if err == nil {
		c.target, err = outband.OpenPidfd(ctx, int(c.Pidfd().Fd()))
	}
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

func (c *crowd) close() (err error) {
	if c.target != nil {
		err = c.target.Close()
	}
	if c.Container != nil {
		err = errors.Join(err, c.Container.Close())
	}
	return errors.Join(err, removeFence(c.dir))
}

func killBySwitch(ctx context.Context, c *crowd) error {
	r, err := power.New(c.target, power.Options{Look: -1}).Kill(ctx)
	if err == nil && !r.Done {
		err = fmt.Errorf("%d processes are left", len(r.Left))
	}
	return err
}

func killByGroup(_ context.Context, c *crowd) error {
	if err := os.WriteFile(filepath.Join(c.dir, groupName), []byte("1"), 0); err != nil {
		return err
	}
	polls := []unix.PollFd{{Fd: int32(c.Pidfd().Fd()), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(polls, int(turnTimeout/time.Millisecond))
		switch {
		case n > 0:
			return nil
		case !errors.Is(err, unix.EINTR):
			return fmt.Errorf("its init does not end: %w", err)
		}
	}
}

// powerFigures measures how long after the end of a container's init an action
// that waits for it says so.
func (l *lab) powerFigures(ctx context.Context, s scale) ([]figure, error) {
	var waits []float64
	for range s.paused {
		took, err := reported(ctx)
		if err != nil {
			return nil, err
		}
		waits = append(waits, took.Seconds()*1000)
	}
	w := summarize(waits)
	return []figure{{"end of an init to its report", w.P90, 10, "ms",
		"from SIGKILL for an init that is waited for, so with what the kernel does, to the event; tenth worst of a hundred, of " + strconv.Itoa(w.N)}}, nil
}

// reported waits for an init that is asked in vain and is killed by somebody else.
func reported(ctx context.Context) (time.Duration, error) {
	c, err := throwaway.Start(ctx, throwaway.Spec{User: true, Tree: throwaway.TreeShared,
		Args: []string{"/bin/sh", "-c", "trap : TERM; while :; do sleep 1; done"}})
	if err != nil {
		return 0, err
	}
	defer c.Close()
	target, err := outband.OpenPidfd(ctx, int(c.Pidfd().Fd()))
	if err != nil {
		return 0, err
	}
	defer target.Close()
	killed := make(chan time.Time, 1)
	var told time.Time
	o := power.Options{Look: -1, Event: func(e power.Event) {
		switch {
		case e.Rung == power.Verify && told.IsZero():
			told = e.At
		case e.Rung == power.Ask && strings.HasPrefix(e.How, "SIG") && e.Result == "":
			time.AfterFunc(20*time.Millisecond, func() { killed <- time.Now(); _ = c.Signal(unix.SIGKILL) })
		case e.Rung == power.Ask && e.How == "": // its trap is not set yet: it would be pressed
			killed <- time.Time{}
		}
	}}
	time.Sleep(20 * time.Millisecond)
	if _, err := power.New(target, o).Off(ctx); err != nil {
		return 0, err
	}
	at := <-killed
	if at.IsZero() || told.Before(at) {
		return 0, errors.New("the init was not asked")
	}
	return told.Sub(at), nil
}
