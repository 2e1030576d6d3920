// SPDX-License-Identifier: Apache-2.0

package cve

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/test/cve/rig"
)

// TestA25 enters a thousand times in three ways (runs, drops, and finds nothing
// to execute) from one process, which has no more goroutines and descriptors
// afterwards.
func TestA25(t *testing.T) {
	begin(t)
	c := testutil.Throwaway(t, throwaway.Spec{})
	count := 350
	if testing.Short() {
		count = 33
	}
	const clean = "0 0\n0 0\n0 0\n"
	drive := func(count int, changes ...rig.Change) string {
		tool := rig.Build(t)
		r := tool.RunCommand(tool.Command(rig.Drive(t, changes...), fmt.Sprint(c.Pid()), strconv.Itoa(count)))
		if r.Code != 0 {
			t.Fatalf("%+v", r)
		}
		return r.Out
	}
	if got := drive(count); got != clean {
		t.Errorf("left, goroutines and descriptors: %q", got)
	}
	const few = 5
	for name, change := range map[string]rig.Change{
		"descriptors": {File: "command.go", Old: "\tif c.group != nil {\n\t\tc.group.Release()\n\t}\n", New: ""},
		"goroutines": {File: "command.go", Old: "c.unwatch = context.AfterFunc(c.ctx, func() { _ = c.session.End() })",
			New: "go func() { <-c.ctx.Done(); _ = c.session.End() }()"},
	} {
		if got := drive(few, change); got == clean {
			t.Errorf("the mutant that leaks %s leaves nothing either: %q", name, got)
		}
	}
}

// TestA25Background: a command ends that leaves somebody behind who holds its
// output.
func TestA25Background(t *testing.T) {
	begin(t)
	args := []string{"sh", "-c", "sleep 1000000 & echo x"}
	// What the mutant leaves is in there.
	c := testutil.Throwaway(t, throwaway.Spec{Tree: throwaway.TreeHost, Cgroups: []string{sessionGroup(t, true)}})
	call := append([]string{"enter", "-n", fmt.Sprint(c.Pid())}, args...)
	if r := rig.Build(t).Run(call...); r.Code != 0 || r.Out != "x\n" || r.Hung {
		t.Errorf("%+v", r)
	}
	if left := rig.Children(c.Pid()); len(left) > 0 {
		t.Errorf("left in the container: %v", left)
	}
	waits := rig.Build(t,
		rig.Change{File: "command.go", Old: "Leave: c.Leave, Detach", New: "Leave: true, Detach"},
		rig.Change{File: "streams.go", Old: "const leaveBound = time.Second", New: "const leaveBound = time.Hour"})
	if rig.Within(2*time.Second, waits.Start(call...).Ended) {
		t.Error("the mutant does not wait either: the attack is none")
	}
}
