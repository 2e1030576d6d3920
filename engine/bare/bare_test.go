// SPDX-License-Identifier: Apache-2.0

package bare_test

import (
	"context"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/outband/outband/engine"
	"github.com/outband/outband/engine/bare"
	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
)

func TestMain(m *testing.M) { testutil.Main(m) }

// Each pid namespace is a container, and the test itself is in none of them.
func TestList(t *testing.T) {
	testutil.NoLeaks(t)
	c := testutil.Throwaway(t, throwaway.Spec{Depth: 3})
	all, err := engine.List(context.Background(), []engine.Engine{bare.Engine{}})
	if err != nil {
		t.Fatal(err)
	}
	level := 1
	for at := c; ; at = at.Inner[0] {
		i := slices.IndexFunc(all, func(c engine.Container) bool { return c.Init.PID == at.Pid() })
		if i < 0 {
			t.Fatalf("%v lacks %d", all, at.Pid())
		}
		got := all[i]
		name := "pid:" + strconv.Itoa(at.Pid())
		if got.Name != name || got.FullName() != name || got.Init.Comm != "init" || len(got.Init.PIDs) != level+1 || got.State != engine.Running {
			t.Errorf("level %d: %+v", level, got)
		}
		if level++; len(at.Inner) == 0 {
			break
		}
	}
	if slices.ContainsFunc(all, func(c engine.Container) bool { return c.Init.PID == os.Getpid() }) {
		t.Errorf("%v has the test itself", all)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if all, err := engine.List(ctx, []engine.Engine{bare.Engine{}}); err == nil || len(all) != 0 {
		t.Errorf("after the context's end: %v, %v", all, err)
	}
}

// Only first processes count, and only below the reader's own namespace.
func TestRecorded(t *testing.T) {
	h := engine.Recorded("", []procfs.Task{
		{PID: 1, NSpid: []int{1}, Start: 1}, {PID: 10, Parent: 1, NSpid: []int{10, 1}, Start: 2, PIDNS: 7, Comm: "a"},
		{PID: 11, Parent: 10, NSpid: []int{11, 2}, Start: 3, PIDNS: 7}, {PID: 12, Parent: 11, NSpid: []int{12, 3, 1}, Start: 4, PIDNS: 8, State: 'Z'},
	})
	all, err := h.List(context.Background(), []engine.Engine{bare.Engine{}})
	if err != nil || len(all) != 2 || all[0].Init.PID != 10 || all[0].ID != "7" || all[1].Init.PID != 12 || all[1].State != engine.Zombie {
		t.Errorf("%+v, %v", all, err)
	}
}
