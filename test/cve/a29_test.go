// SPDX-License-Identifier: Apache-2.0

package cve

import (
	"context"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/sys"
	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/test/cve/rig"
)

// TestA29 stops the tool in a session, and then the warden as well, and kills
// the container's init: the container must go, which it cannot while a visitor
// is dead and not reaped. The second needs Linux 6.15; there what is before it
// is tried too.
func TestA29(t *testing.T) {
	old := rig.Change{File: "internal/sys/sys.go", Old: "return major > 6 || major == 6 && minor >= 15", New: "return major > 99 && minor > 99"}
	notReaped := rig.Change{File: "internal/forkexec/warden.go", Old: "b.childSignal(1) // SIG_IGN", New: "b.childSignal(0)"}
	for _, test := range []struct {
		name   string
		warden bool // is stopped as well
		change []rig.Change
		goes   bool
	}{
		{"tool", false, nil, true},
		{"tool, before 6.15", false, []rig.Change{old}, true},
		{"tool and warden", true, nil, true},
		{"mutant: nobody reaps", true, []rig.Change{notReaped}, false},
		{"mutant: before 6.15", true, []rig.Change{old}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			begin(t)
			if test.warden && !sys.ReapsByPidfd() {
				t.Skip("skipped: a stopped warden needs Linux 6.15")
			}
			limit := rig.Deadline
			if !test.goes { // this is waited for in vain
				limit = time.Second
			}
			if goes := stopped(t, rig.Build(t, test.change...), test.warden, limit); goes != test.goes {
				t.Errorf("the container goes: %v", goes)
			}
		})
	}
}

// stopped tells whether a container goes while the session's owner is stopped.
func stopped(t *testing.T, tool *rig.Tool, warden bool, limit time.Duration) bool {
	t.Helper()
	c := testutil.Throwaway(t, throwaway.Spec{})
	s := tool.Start("enter", "-n", fmt.Sprint(c.Pid()), "sleep", "infinity")
	s.Visitor("sleep")
	owner := s.Warden()
	if err := s.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if warden {
		owner.Signal(unix.SIGSTOP)
		rig.Eventually(t, "the warden does not stop", func() bool { return rig.State(owner.PID) == 'T' })
	}
	rig.Eventually(t, "the tool does not stop", func() bool { return rig.State(s.Process.Pid) == 'T' })
	if err := c.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	_, err := c.Wait(ctx)
	// A stopped warden would keep the mutant's container for ever.
	owner.Signal(unix.SIGKILL)
	if err := s.Process.Signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	s.Wait()
	return err == nil
}
