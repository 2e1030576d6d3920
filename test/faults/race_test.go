// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/test/cve/rig"
)

// TestGone names processes that have ended: one that is reaped, and one that
// nobody has reaped yet.
func TestGone(t *testing.T) {
	begin(t)
	tool := rig.Build(t)
	c, err := throwaway.Start(context.Background(), throwaway.Spec{})
	if err != nil {
		t.Fatal(err)
	}
	pid := fmt.Sprint(c.Pid())
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	refused(t, tool.Run("enter", pid, "true"), "no such container", "gone")

	zombie := exec.Command("/bin/true")
	if err := zombie.Start(); err != nil {
		t.Fatal(err)
	}
	rig.Eventually(t, "no zombie", func() bool { return rig.State(zombie.Process.Pid) == 'Z' })
	refused(t, tool.Run("enter", fmt.Sprint(zombie.Process.Pid), "true"))
	if err := zombie.Wait(); err != nil {
		t.Error(err)
	}
	if s := tool.Sessions(); len(s) != 0 {
		t.Errorf("records %v", s)
	}
}

// callTime is what a call takes on this machine, which is 5 ms or 50: the longest of
// a few.
func callTime(t *testing.T, tool *rig.Tool) (longest time.Duration) {
	t.Helper()
	c, err := throwaway.Start(context.Background(), throwaway.Spec{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 5 {
		began := time.Now()
		if r := tool.Run("enter", fmt.Sprint(c.Pid()), "true"); r.Code != 0 {
			t.Fatalf("%+v", r)
		}
		longest = max(longest, time.Since(began))
	}
	return longest
}

// TestInitDies kills the init at random moments of a call. The command runs and
// is killed with the container, or there is one error.
func TestInitDies(t *testing.T) {
	begin(t)
	tool := rig.Build(t)
	refusals, spread := 0, 2*callTime(t, tool)
	for round := range 100 {
		c, err := throwaway.Start(context.Background(), throwaway.Spec{})
		if err != nil {
			t.Fatal(err)
		}
		s := tool.Start("enter", fmt.Sprint(c.Pid()), "sleep", "infinity")
		time.Sleep(rand.N(spread))
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		switch r := s.Wait(); {
		case r.Hung:
			t.Fatalf("round %d hangs: %+v", round, r)
		case r.Code == codeError:
			refusals++
			refused(t, r, "gone", "no such container", "going away", "killed")
		case r.Code != 128+int(unix.SIGKILL) || r.Err != "":
			t.Errorf("round %d: %+v", round, r)
		}
		for _, p := range s.Processes() {
			t.Errorf("round %d leaves process %d, %s", round, p.PID, rig.Comm(p.PID))
		}
		if left := tool.Sessions(); len(left) != 0 {
			t.Fatalf("round %d leaves %v", round, left)
		}
	}
	if refusals == 0 || refusals == 100 {
		t.Errorf("%d of 100 refused: the moments are not spread over the call", refusals)
	}
}

// TestNumberReused ends a container between the look at it and the way in, and
// gives its number to another container's init. The call must not end up there.
//
// A19: that the number is good for an entry is shown by a second call, which
// gets in by it. What goes by the number alone would have got in too.
func TestNumberReused(t *testing.T) {
	if rig.Nest(t) {
		return
	}
	pause := rig.Pause(".", "outband", "command.go", "\t// From here to the fork on one thread: what it is, is what was compared.", "start")
	tool := rig.Build(t, pause...)
	first := container(t)
	pid := first.Pid()
	s := tool.StartCommand(rig.PauseAt(tool.Command(tool.Args("enter", fmt.Sprint(pid), "true")...), "start"))
	s.AwaitPause()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := reuse(t, pid)
	if r := tool.Run("enter", fmt.Sprint(pid), "true"); r.Code != 0 {
		t.Fatalf("the second container cannot be entered, the attack is none: %+v", r)
	}
	_ = s.Process.Signal(unix.SIGCONT)
	refused(t, s.Wait(), "going away", "gone", "no such container")
	nothingLeft(t, tool, second)
}

func container(t *testing.T) *throwaway.Container {
	t.Helper()
	c, err := throwaway.Start(context.Background(), throwaway.Spec{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// reuse starts containers until one's init has the number pid. The kernel hands
// out numbers in order, from where ns_last_pid says; how many go to threads and
// stages before the init comes is found by trying.
func reuse(t *testing.T, pid int) *throwaway.Container {
	t.Helper()
	const lastPid = "/proc/sys/kernel/ns_last_pid" // CONFIG_CHECKPOINT_RESTORE
	var seen []string
	for try := range 60 {
		if err := os.WriteFile(lastPid, fmt.Append(nil, pid-1-try%6), 0); err != nil {
			t.Skip("skipped: numbers cannot be chosen: ", err)
		}
		c := container(t)
		if c.Pid() == pid {
			return c
		}
		seen = append(seen, fmt.Sprint(c.Pid()))
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatalf("no container gets number %d: %s", pid, strings.Join(seen, " "))
	return nil
}
