// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	engines "github.com/outband/outband/test/lab"
)

// The contestants of the contest about lists of containers.
const (
	listName  = "outband ls"
	listsName = "docker ps, then lsns"
)

// listContest compares a list of all containers with what tells as much without
// it: docker's list of its own, and the namespaces in which others may be. It takes
// place on a host with a real docker and many other pid namespaces.
func (l *lab) listContest(ctx context.Context, s scale) *contest {
	docker := engines.Docker()
	missing := docker.Missing()
	if _, err := exec.LookPath("lsns"); err != nil && missing == "" {
		missing = "the command lsns (package util-linux)"
	}
	if missing != "" {
		l.missing("Lists of containers: %s is missing.", missing)
		return nil
	}
	program := l.compileScale(ctx)
	if program == "" {
		return nil
	}
	p := &listed{lab: l, program: program, spaces: s.spaces}
	what := fmt.Sprintf("on a host with %d docker containers and %d other pid namespaces", namedBeside+1, s.spaces)
	return &contest{
		title: "List", rounds: s.trees,
		field: []contestant{
			{listName, "outband ls, " + what, p.turn("outband", "ls")},
			{listsName, "docker ps; lsns", p.turn("sh", "-c", "docker ps && lsns")},
			{"docker ps", "docker ps", p.turn("docker", "ps")},
		},
		claims: []claim{{of: listName, to: listsName, bar: 0.2}, {of: listName, to: "docker ps"}},
		before: func() (func() error, error) { return p.open(ctx, docker) },
	}
}

// listed is the host on which lists are made.
type listed struct {
	*lab
	program string // scale
	spaces  int
	host    *engines.Host
	held    *os.File // its other end is what the namespaces live by
}

// turn runs a command on the host. What it takes to ask the host for it is added
// to each contestant.
func (p *listed) turn(argv ...string) func(context.Context) (time.Duration, error) {
	return func(ctx context.Context) (time.Duration, error) {
		begin := time.Now()
		_, err := p.host.Do(ctx, argv...)
		return time.Since(begin), err
	}
}

// open makes the host with all that is on it.
func (p *listed) open(ctx context.Context, engine *engines.Engine) (release func() error, err error) {
	if p.host, err = engines.Start(ctx, engine); err != nil {
		return nil, err
	}
	release = func() error {
		if p.held != nil {
			p.held.Close()
		}
		return p.host.Close()
	}
	_, err = p.nameContainers(ctx, p.host)
	if err == nil {
		err = p.hold(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, release())
	}
	return release, nil
}

// hold makes the pid namespaces, and waits until all of them are listed. The
// host's cgroup bounds what comes of it.
func (p *listed) hold(ctx context.Context) error {
	data, err := os.ReadFile(p.program)
	if err == nil {
		err = os.WriteFile(p.host.Path("/usr/local/bin/scale"), data, 0o755)
	}
	if err != nil {
		return err
	}
	in, held, err := os.Pipe()
	if err != nil {
		return err
	}
	defer in.Close()
	p.held = held
	holder := p.host.Command("/usr/local/bin/scale", "hold", strconv.Itoa(p.spaces), "1")
	holder.Stdin = in
	if err := holder.Start(); err != nil {
		return err
	}
	want, now := p.spaces+namedBeside+1, 0
	for end := time.Now().Add(turnTimeout); time.Now().Before(end) && !holder.Ended(); time.Sleep(50 * time.Millisecond) {
		names, err := p.host.Do(ctx, "outband", "ls", "-o", "name")
		if err != nil {
			return err
		}
		if now = strings.Count(names, "\n"); now == want {
			return nil
		}
	}
	return fmt.Errorf("there are %d containers instead of %d: %s", now, want, holder.Said())
}
