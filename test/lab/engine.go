// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// readyTime bounds what an engine needs until it answers, and a container until
// its first process is seen.
const readyTime = 30 * time.Second

// Program is a command that an engine needs, and the Debian package it is in;
// hack/deps installs that.
type Program struct{ Name, Package string }

// Engine is what this package knows of a container manager.
type Engine struct {
	// Name is what it is called, on the command line too.
	Name string
	// Needs are the programs without which it cannot be had.
	Needs []Program
	// User is whose containers they are; nil for root's.
	User *User

	// version prints the version, as a word of its first line.
	version []string
	// hideUnified: it cannot do with cgroup2 beside version 1.
	hideUnified bool
	// setup starts what runs as long as the host does.
	setup func(ctx context.Context, h *Host) error
	// run starts a container and returns its first process, as the host counts.
	run func(ctx context.Context, h *Host, name string, image *Image, o Options) (pid int, err error)
	// exec is the engine's own way in, up to the command; nil where it has none.
	exec func(name string) []string
	// remove ends a container; nil where its end is that of a process.
	remove func(name string) []string
	// pid prints the first process, as the host counts; nil where only run knows.
	pid func(name string) []string
	// words are the engine's own for what can be done with a container.
	words map[Verb]func(name string) []string
}

// Verb is what can be done with a container.
type Verb string

// The verbs. What was stopped is known to its engine, and starts under its name.
const (
	Pause  Verb = "pause"
	Resume Verb = "resume"
	Stop   Verb = "stop"
	Again  Verb = "start"
)

// words makes a map of command lines; the container's name is the last argument.
func words(lines map[Verb]string) map[Verb]func(string) []string {
	all := map[Verb]func(string) []string{}
	for verb, line := range lines {
		all[verb] = func(name string) []string { return append(strings.Fields(line), name) }
	}
	return all
}

// Options are what a container can be asked to be. An engine that cannot do it
// returns ErrNotOffered.
type Options struct {
	// NoMkdir is a seccomp profile of its own, which lets mkdir fail.
	NoMkdir bool
	// OwnUsers is a user namespace of its own for runc, crun and root's LXC, which
	// have no flag for it.
	OwnUsers bool
	// Filters is a number of seccomp filters that allow everything.
	Filters int
	// Args run instead of the image's.
	Args []string
	// Extra goes to the engine's command line as it is.
	Extra []string
}

// ErrNotOffered says that an engine has no such thing.
var ErrNotOffered = errors.New("not offered by this engine")

// args are what the container runs.
func (o Options) args(image *Image) []string {
	if o.Args != nil {
		return o.Args
	}
	return image.Args
}

// Engines are all of them.
func Engines() []*Engine {
	return []*Engine{
		RunC(), Crun(), Docker(), DockerUserNS(), DockerRootless(), Containerd(), CRI(), Podman(), PodmanRootless(), LXC(), LXCRootless(), Nspawn(),
		Bubblewrap(), BubblewrapRootless(), Firejail(), Unshare(), UnshareRootless(),
	}
}

// Missing returns what e needs and this machine does not have, "" for nothing.
func (e *Engine) Missing() string {
	for _, p := range e.Needs {
		if _, err := exec.LookPath(p.Name); err != nil {
			return fmt.Sprintf("the command %s (package %s)", p.Name, p.Package)
		}
	}
	return ""
}

// Version returns the engine's version as it prints it.
func (h *Host) Version(ctx context.Context) string {
	out, err := h.As(h.Engine.version...).output(ctx)
	if err != nil {
		return "unknown"
	}
	line, _, _ := strings.Cut(out, "\n")
	for _, word := range strings.Fields(line) {
		word = strings.Trim(word, "v,()")
		if strings.ContainsAny(word, "0123456789") && strings.Contains(word, ".") {
			return word
		}
	}
	return strings.TrimSpace(line)
}

// As prepares a command of the engine's user: root, or an ordinary one.
func (h *Host) As(args ...string) *Command {
	c := h.Command(args...)
	if h.Engine != nil && h.Engine.User != nil {
		c.User, c.Env, c.Dir = h.Engine.User, userEnv, userHome
	}
	return c
}

// Container is a running container of an engine's.
type Container struct {
	Name string
	// HostPid is its first process as the host counts, Pid as the machine does.
	HostPid, Pid int

	host   *Host
	parent *Command // what waits for it; nil where that is not ours to see
}

// Ended waits for what has started the container and stays as long as it, and
// returns how that has ended; ErrNotOffered where there is none.
func (c *Container) Ended(ctx context.Context) (Result, error) {
	if c.parent == nil {
		return Result{}, ErrNotOffered
	}
	return c.parent.Wait(ctx)
}

// Run starts a container and returns when its first process runs.
func (h *Host) Run(ctx context.Context, name string, image *Image, o Options) (*Container, error) {
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	pid, err := h.Engine.run(ctx, h, name, image, o)
	if err != nil {
		return nil, fmt.Errorf("%s: run %s: %w", h.Engine.Name, name, err)
	}
	c := &Container{Name: name, HostPid: pid, host: h, parent: h.parent(pid)}
	if c.Pid, err = h.HostPID(pid); err != nil {
		return nil, fmt.Errorf("%s: run %s: %w", h.Engine.Name, name, err)
	}
	return c, nil
}

// parent is the command that background has started for a first process; nil
// where it was not that.
func (h *Host) parent(pid int) *Command {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.parents[pid]
}

// Exec runs a command by the engine's own means, ErrNotOffered if it has none.
func (c *Container) Exec(ctx context.Context, args ...string) (Result, error) {
	if c.host.Engine.exec == nil {
		return Result{}, ErrNotOffered
	}
	cmd := c.host.As(append(c.host.Engine.exec(c.Name), args...)...)
	if err := cmd.Start(); err != nil {
		return Result{}, err
	}
	return cmd.Wait(ctx)
}

// ExecArgs are the engine's own command line for people; nil if it has none.
func (c *Container) ExecArgs(args ...string) []string {
	if c.host.Engine.exec == nil {
		return nil
	}
	return append(c.host.Engine.exec(c.Name), args...)
}

// Do does something with the container by the engine's own means, ErrNotOffered if
// it has none.
func (c *Container) Do(ctx context.Context, verb Verb) error {
	word, ok := c.host.Engine.words[verb]
	if !ok {
		return ErrNotOffered
	}
	_, err := c.host.As(word(c.Name)...).output(ctx)
	return err
}

// Start starts a container again that was stopped, ErrNotOffered if that is not
// for the engine to do.
func (c *Container) Start(ctx context.Context) (*Container, error) {
	if err := c.Do(ctx, Again); err != nil {
		return nil, err
	}
	pid, err := number(c.host.As(c.host.Engine.pid(c.Name)...).output(ctx))
	if err != nil {
		return nil, err
	}
	again := &Container{Name: c.Name, HostPid: pid, host: c.host}
	again.Pid, err = c.host.HostPID(pid)
	return again, err
}

// Remove ends the container by the engine's own means.
func (c *Container) Remove(ctx context.Context) error {
	if c.host.Engine.remove == nil {
		return ErrNotOffered
	}
	_, err := c.host.As(c.host.Engine.remove(c.Name)...).output(ctx)
	return err
}

// daemon starts what has to run all the time, and waits until its user's command
// succeeds.
func (h *Host) daemon(ctx context.Context, d *Command, ready ...string) error {
	if err := d.Start(); err != nil {
		return err
	}
	return poll(ctx, func() error {
		if d.Ended() {
			return fmt.Errorf("%w: %s has ended: %s", errFinal, d.Args[0], d.Said())
		}
		_, err := h.As(ready...).output(ctx)
		return err
	})
}

// errFinal ends a poll.
var errFinal = errors.New("no hope")

// poll asks until there is no error, or an errFinal, or the time is over.
func poll(ctx context.Context, ask func() error) error {
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	for {
		err := ask()
		if err == nil || errors.Is(err, errFinal) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// inits are the processes that are number 1 of a pid namespace of their own, as
// the host counts.
func (h *Host) inits() (pids []int) {
	files, _ := filepath.Glob(h.Path("/proc/[0-9]*/status"))
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // gone
		}
		numbers := levels(data)
		if len(numbers) > 1 && numbers[len(numbers)-1] == "1" {
			pid, _ := strconv.Atoi(numbers[0])
			pids = append(pids, pid)
		}
	}
	return pids
}

// levels are the numbers of a process on each level, outermost first, by its
// status.
func levels(status []byte) []string {
	_, rest, _ := strings.Cut(string(status), "\nNSpid:")
	line, _, _ := strings.Cut(rest, "\n")
	return strings.Fields(line)
}

// background starts a command that makes a container and stays, and returns the
// container's first process: the newest that was not there before, once something
// in its pid namespace is not the engine's own program any more.
func (h *Host) background(ctx context.Context, cmd *Command) (pid int, err error) {
	before := h.inits()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	err = poll(ctx, func() error {
		fresh := slices.DeleteFunc(h.inits(), func(p int) bool { return slices.Contains(before, p) })
		switch {
		case cmd.Ended():
			return fmt.Errorf("%w: %s has ended: %s", errFinal, h.Engine.Name, cmd.Said())
		case len(fresh) == 0 || !h.executed(slices.Max(fresh), h.Engine.Needs[0].Name):
			return errors.New("no first process of a pid namespace is seen")
		}
		pid = slices.Max(fresh)
		return nil
	})
	if err == nil {
		h.mu.Lock()
		h.parents[pid] = cmd
		h.mu.Unlock()
	}
	return pid, err
}

// executed tells whether a process of init's pid namespace runs another program
// than tool.
func (h *Host) executed(init int, tool string) bool {
	link := func(pid string) string {
		l, _ := os.Readlink(h.Path("/proc/" + pid + "/ns/pid"))
		return l
	}
	want := link(strconv.Itoa(init))
	files, _ := filepath.Glob(h.Path("/proc/[0-9]*/comm"))
	for _, file := range files {
		comm, err := os.ReadFile(file)
		name := strings.TrimSpace(string(comm))
		// systemd gives its helpers names of the form (sd-…).
		if err == nil && name != tool && !strings.HasPrefix(name, "(") && link(filepath.Base(filepath.Dir(file))) == want && want != "" {
			return true
		}
	}
	return false
}

// number reads a process number that a command has printed.
func number(out string, err error) (int, error) {
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(out))
	if err == nil && pid <= 0 {
		err = fmt.Errorf("no process number: %q", out)
	}
	return pid, err
}
