// SPDX-License-Identifier: Apache-2.0

package cve

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/test/cve/rig"
)

// TestA30 kills the container's init before each system call that a helper
// makes on the way in, and during the session: of sessions with a cgroup, and of
// those with a shepherd.
func TestA30(t *testing.T) {
	tool := rig.Build(t, rig.Stops()...)
	for name, grouped := range map[string]bool{"cgroup": true, "shepherd": false} {
		t.Run(name, func(t *testing.T) {
			begin(t)
			killEverywhere(t, tool.In(t), sessionGroup(t, grouped))
		})
	}
}

// sessionGroup is a cgroup in which sessions get one of their own, or cannot.
func sessionGroup(t *testing.T, grouped bool) string {
	t.Helper()
	group := rig.Group(t)
	if group == "" {
		t.Skip("skipped: no cgroup2 is mounted")
	}
	if !grouped {
		if err := os.WriteFile(filepath.Join(group, "cgroup.max.descendants"), []byte("0"), 0); err != nil {
			t.Fatal(err)
		}
	}
	return group
}

func killEverywhere(t *testing.T, tool *rig.Tool, group string) {
	t.Helper()
	const longest = 40 // system calls in a row of branches that are not taken
	tried, missed := 0, 0
	for at := 0; missed < longest; at++ {
		r, reached, goneIn := killAt(t, tool, group, rig.StopAt(at))
		if !reached {
			missed++
			continue
		}
		tried, missed = tried+1, 0
		told := r.Code == 125 && (strings.Contains(r.Err, "the container is going away") ||
			strings.Contains(r.Err, "how the command ended is not known")) // the shepherd had its status
		// Later calls of those who wait: the command was there, or was done.
		began := (r.Code == 137 || r.Code == 0) && (goneIn == rig.WardenName || goneIn == rig.ShepherdName)
		if r.Hung || !told && !began {
			t.Errorf("killed at %d, in %q: %+v", at, goneIn, r)
		}
		checkGone(t, tool, group)
		if t.Failed() {
			return
		}
	}
	const least = 50 // system calls of a session
	if tried < least {
		t.Errorf("only %d places were tried", tried)
	}
}

// killAt enters a container whose init is killed while a helper stops.
func killAt(t *testing.T, tool *rig.Tool, group, place string) (r rig.Result, reached bool, who string) {
	t.Helper()
	spec := throwaway.Spec{Tree: throwaway.TreeHost}
	if group != "" {
		spec.Cgroups = []string{group}
	}
	c := testutil.Throwaway(t, spec)
	s := tool.StartCommand(rig.Stop(tool.Command(tool.Args("enter", "-n", fmt.Sprint(c.Pid()), "/bin/true")...), place))
	p := s.Stopped()
	if p != nil {
		reached, who = true, rig.Comm(p.PID)
		if err := c.Signal(unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		// Until its numbers are freed (zap_pid_ns_processes) it can be joined.
		if _, err := c.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		p.Continue()
	}
	r = s.Wait()
	rig.Eventually(t, "a process of the session is left", func() bool { return len(s.Processes()) == 0 })
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return r, reached, who
}

// checkGone wants neither cgroup nor record to be left of a session.
func checkGone(t *testing.T, tool *rig.Tool, group string) {
	t.Helper()
	if group != "" && len(rig.Subgroups(group)) > 0 {
		t.Errorf("left in %s: %q", filepath.Base(group), rig.Subgroups(group))
	}
	if left := tool.Sessions(); len(left) > 0 {
		t.Errorf("on record: %q", left)
	}
}

// TestA30Told: without its translation the end of an init reads as lack of
// memory.
func TestA30Told(t *testing.T) {
	begin(t)
	mutant := rig.Build(t, append(rig.Stops(), rig.Change{File: "explain.go",
		Old: "\t\tunix.ENOMEM: func(*Cmd, *StepError) error { return ErrGone },\n\t\tunix.EAGAIN: pidLimit,\n", New: ""})...)
	r, _, _ := killAt(t, mutant, "", "fork into the container")
	if r.Code != 125 || !strings.Contains(r.Err, "cannot allocate memory") {
		t.Errorf("the mutant says: %+v", r)
	}
}

// TestA30Deadline stops a helper for good, as a file system that does not
// answer does.
func TestA30Deadline(t *testing.T) {
	begin(t)
	const short = "const startTimeout = 2 * time.Second"
	bounded := rig.Stops()
	for i := range bounded {
		if bounded[i].File == "command.go" {
			bounded[i].New = short
		}
	}
	group := sessionGroup(t, true)
	c := testutil.Throwaway(t, throwaway.Spec{Cgroups: []string{group}})
	for _, step := range []string{"join namespaces", "start a session"} { // outside, and inside
		tool := rig.Build(t, bounded...)
		s := stopFor(t, tool, c.Pid(), step)
		if r := s.Wait(); r.Code != 125 || r.Hung || !strings.Contains(r.Err, "no answer in time") {
			t.Errorf("%s: %+v", step, r)
		}
		rig.Eventually(t, "a process of the session is left", func() bool { return len(s.Processes()) == 0 })
		checkGone(t, tool, group)
	}
	s := stopFor(t, rig.Build(t, rig.Stops()...), c.Pid(), "join namespaces")
	if rig.Within(4*time.Second, s.Ended) {
		t.Errorf("the mutant, which has an hour, does not wait either: %+v", s.Wait())
	}
}

// stopFor enters, and returns when a helper has stopped at a step.
func stopFor(t *testing.T, tool *rig.Tool, pid int, step string) *rig.Session {
	t.Helper()
	s := tool.StartCommand(rig.Stop(tool.Command(tool.Args("enter", "-n", fmt.Sprint(pid), "true")...), step))
	if s.Stopped() == nil {
		t.Fatalf("no helper stops: %+v", s.Wait())
	}
	return s
}
