// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cliContests compare whole commands from their start to their end: back to
// back, and with the machine idle in between, as it is when a human types.
//
// Each engine's exec is compared with outband in that engine's own container,
// which is in cgroups of its own; nsenter, which joins none, with outband in a
// container that is in none.
func (l *lab) cliContests(s scale) []*contest {
	var field []contestant
	add := func(name string, argv ...string) { field = append(field, command(name, argv)) }
	pid := strconv.Itoa(l.box.Pid())
	add("true", filepath.Join(l.root, "bin/true"))
	add("outband", l.enter(l.box.Pid(), "/bin/true")...)
	if l.nsenter != "" {
		add("nsenter", l.nsenter, "-t", pid, "-a", "/bin/true")
	}
	claims := []claim{{of: "outband", to: "nsenter", bar: 1.5, goal: 1}}
	for _, engine := range []struct {
		c         *oci
		bar, goal float64
	}{{l.runc, 1. / 4, 1. / 8}, {l.crun, 0.7, 1. / 3}} {
		if engine.c == nil {
			continue
		}
		name := filepath.Base(engine.c.runtime)
		add("outband, "+name+"'s container", l.enter(engine.c.pid, "/bin/true")...)
		add(name+" exec", engine.c.command("exec", engine.c.id, "/bin/true")...)
		claims = append(claims, claim{of: "outband, " + name + "'s container", to: name + " exec", bar: engine.bar, goal: engine.goal})
	}
	return []*contest{
		{title: "Command line", rounds: s.rounds, field: field, claims: claims},
		{title: "Command line, with pauses", rounds: s.paused, pause: s.pause, field: field, claims: claims},
	}
}

// enter is outband's command line for putting a command into a container.
func (l *lab) enter(pid int, command ...string) []string {
	return append([]string{l.outband, "--run-dir", l.state, "enter", "pid:" + strconv.Itoa(pid), "--"}, command...)
}

// command is the contestant that runs argv.
func command(name string, argv []string) contestant {
	return contestant{name, shown(argv), func(ctx context.Context) (time.Duration, error) {
		d, _, err := run(ctx, argv)
		return d, err
	}}
}

// shown is argv as the report prints it: without where things happen to lie,
// and with N for what is another number each time.
func shown(argv []string) string {
	var words []string
	for i := 0; i < len(argv); i++ {
		word := argv[i]
		switch {
		case word == "--run-dir", word == "--root":
			i++
			continue
		case i == 0:
			word = filepath.Base(word)
		case strings.HasPrefix(word, "pid:"):
			word = "pid:N"
		case argv[i-1] == "-t":
			word = "N"
		case strings.HasPrefix(word, idPrefix):
			word = "ID"
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

// run runs argv with /dev/null as its streams. It returns the time from its
// start to its being reaped, and what it used.
//
// package os starts it by vfork and waits by its pidfd, without a goroutine,
// so that the same little is added to each contestant.
func run(ctx context.Context, argv []string) (time.Duration, *syscall.Rusage, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, nil, err
	}
	defer null.Close()
	begin := time.Now()
	process, err := os.StartProcess(argv[0], argv, &os.ProcAttr{Files: []*os.File{null, null, null}})
	if err != nil {
		return 0, nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = process.Kill() })
	state, err := process.Wait()
	d := time.Since(begin)
	stop()
	if err == nil && !state.Success() {
		err = fmt.Errorf("%s: %s", shown(argv), state)
	}
	if err != nil {
		return 0, nil, err
	}
	usage, _ := state.SysUsage().(*syscall.Rusage)
	return d, usage, nil
}
