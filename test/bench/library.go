// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/outband/outband/internal/throwaway"
)

//go:embed floor.c
var floorSource []byte

// The contestants of the library's contests.
const (
	floorName   = "C floor"
	libraryName = "library"
	heapName    = "library, large heap"
)

// libraryContests compare Cmd.Run in a loop with the same in C, which does
// nothing but what the kernel has to do.
func (l *lab) libraryContests(ctx context.Context, s scale) ([]*contest, error) {
	pid := strconv.Itoa(l.box.Pid())
	workers := []struct {
		name, what string
		argv       []string
	}{
		{libraryName, `Target.Command("/bin/true").Run()`, []string{"/proc/self/exe", libraryArg, pid, "/bin/true", "0"}},
		{heapName, fmt.Sprintf("the same in a process with %d MiB of touched memory", s.heap),
			[]string{"/proc/self/exe", libraryArg, pid, "/bin/true", strconv.Itoa(s.heap)}},
	}
	if floor := l.compileFloor(ctx); floor != "" {
		flags := strconv.Itoa(int(throwaway.Default))
		workers = append(workers, struct {
			name, what string
			argv       []string
		}{floorName, "test/bench/floor.c: vfork, setns, vfork, exec, wait", []string{floor, pid, flags, "/bin/true"}})
	}
	claims := []claim{
		{of: libraryName, to: floorName, bar: 1.6, goal: 1.2},
		{of: heapName, to: floorName, bar: 1.6, goal: 1.2},
		{of: heapName, to: libraryName},
	}
	busy := &contest{title: "Library", rounds: s.rounds, claims: claims}
	idle := &contest{title: "Library, with pauses", rounds: s.paused, pause: s.pause, claims: claims}
	for _, w := range workers {
		process, err := startWorker(w.argv...)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w.name, err)
		}
		l.atClose(process.close)
		busy.field = append(busy.field, contestant{w.name, fmt.Sprintf("%s, %d times a turn", w.what, s.batch), process.turn(s.batch)})
		idle.field = append(idle.field, contestant{w.name, w.what, process.turn(1)})
	}
	return []*contest{busy, idle}, nil
}

// compileFloor returns the C program, or "" where there is no C compiler.
func (l *lab) compileFloor(ctx context.Context) string {
	cc, err := exec.LookPath("cc")
	if err != nil {
		l.missing("There is no C compiler (cc): no comparison of the library with the C floor.")
		return ""
	}
	source, floor := filepath.Join(l.dir, "floor.c"), filepath.Join(l.dir, "floor")
	err = os.WriteFile(source, floorSource, 0o644)
	if err == nil {
		err = output(exec.CommandContext(ctx, cc, "-O2", "-o", floor, source))
	}
	if err != nil {
		l.missing("The C floor did not compile: %v", err)
		return ""
	}
	return floor
}
