// SPDX-License-Identifier: Apache-2.0

package cve

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/engine"
	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/test/cve/rig"
)

// pauses adds to Stops the points between looking at a target and entering it.
func pauses() []rig.Change {
	first := rig.Pause("internal/procfs", "procfs", "process.go", "\tdir, err := f.Process(pid)", "held")
	first[0].Old, first[0].New = "\tdir, err := f.Process(pid)", "\tpause(\"held\")\n\tdir, err := f.Process(pid)"
	second := rig.Pause(".", "outband", "target.go", "\terr := t.read()", "read")
	return slices.Concat(rig.Stops(), first, second, []rig.Change{
		{File: "command.go", Old: "\tc.plan = plan\n", New: "\tc.plan = plan\n\tpause(\"planned\")\n"},
		{File: "launch.go", Old: "\tc.openGroup(spec, plan)\n", New: "\tc.openGroup(spec, plan)\n\tpause(\"grouped\")\n"},
	})
}

// named starts a container whose host name tells it.
func named(t testing.TB, name string) *throwaway.Container {
	t.Helper()
	return testutil.Throwaway(t, throwaway.Spec{Name: name, Tree: throwaway.TreeHost})
}

// replace ends a container and starts another one whose init has its number.
func replace(t testing.TB, victim *throwaway.Container) *throwaway.Container {
	t.Helper()
	pid := victim.Pid()
	if err := victim.Close(); err != nil {
		t.Fatal(err)
	}
	const tries = 100 // a thread of the test's may take the number
	for range tries {
		// The next process gets this number plus one (proc_sys_kernel(5)).
		if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", fmt.Append(nil, pid-1), 0); err != nil {
			t.Fatal(err)
		}
		c := named(t, "innocent")
		if c.Pid() == pid {
			return c
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("the number is not given again")
	return nil
}

// TestA19 kills the target between look and act, and gives its number to
// an innocent container: at points of the tool's own, and before the system call
// that joins.
func TestA19(t *testing.T) {
	if rig.Nest(t) {
		return
	}
	tool := rig.Build(t, pauses()...)
	for _, point := range []string{"held", "read", "planned", "grouped"} {
		t.Run(point, func(t *testing.T) {
			begin(t)
			innocent, r := recycleAt(t, tool.In(t), point, "")
			checkInnocent(t, innocent, r)
		})
	}
	t.Run("joining", func(t *testing.T) {
		begin(t)
		innocent, r := recycleAt(t, tool.In(t), "", "join namespaces")
		checkInnocent(t, innocent, r)
	})
}

// recycleAt enters and has the target replaced at a pause of the tool, or at a
// stop of a helper.
func recycleAt(t *testing.T, tool *rig.Tool, point, step string, flags ...string) (*throwaway.Container, rig.Result) {
	t.Helper()
	victim := named(t, "victim")
	args := append(append([]string{"enter", "-n", fmt.Sprint(victim.Pid())}, flags...), "uname", "-n")
	s := tool.StartCommand(rig.Stop(rig.PauseAt(tool.Command(tool.Args(args...)...), point), step))
	if step != "" {
		helper := s.Stopped()
		if helper == nil {
			t.Fatalf("no helper stops: %+v", s.Wait())
		}
		innocent := replace(t, victim)
		helper.Continue()
		return innocent, s.Wait()
	}
	s.AwaitPause()
	innocent := replace(t, victim)
	if err := s.Process.Signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	return innocent, s.Wait()
}

// checkInnocent wants an entry to have failed, and the innocent one unharmed.
func checkInnocent(t *testing.T, innocent *throwaway.Container, r rig.Result) {
	t.Helper()
	if r.Code != 125 || r.Out != "" || r.Hung {
		t.Errorf("%+v", r)
	}
	if rig.State(innocent.Pid()) == 0 || len(rig.Children(innocent.Pid())) > 0 {
		t.Error("the innocent container is harmed")
	}
}

// byNumber is how a target is held that is not held at all.
const byNumber = `package outband

import (
	"os"

	"golang.org/x/sys/unix"
)

func byNumber(pid int) *os.File {
	fd, _ := unix.PidfdOpen(pid, 0)
	return os.NewFile(uintptr(fd), "pidfd")
}
`

// TestA19Mutants takes the defences away one by one.
func TestA19Mutants(t *testing.T) {
	if rig.Nest(t) {
		return
	}
	t.Run("a target by its number", func(t *testing.T) {
		begin(t)
		mutant := rig.Build(t, append(pauses(),
			rig.Change{File: "command.go", Old: "Target: t.init.Pidfd,", New: "Target: byNumber(t.init.PID),"},
			rig.Change{File: "command.go", Old: `spec.Root, err = t.init.Dir.OpenLink("root")`,
				New: `spec.Root, err = os.OpenFile(fmt.Sprintf("/proc/%d/root", t.init.PID), unix.O_PATH, 0)`},
			rig.Change{File: "number.go", New: byNumber})...)
		if _, r := recycleAt(t, mutant, "planned", ""); r.Out != "innocent\n" {
			t.Errorf("the mutant does not enter the innocent either: %+v", r)
		}
	})
	t.Run("a snapshot of who was not held", func(t *testing.T) {
		begin(t)
		alive := rig.Change{File: "target.go", Old: "if alive := init.Alive(); alive != nil {", New: "if alive := error(nil); alive != nil {"}
		if _, r := recycleAt(t, rig.Build(t, pauses()...), "held", "", "--explain"); r.Code != 125 {
			t.Errorf("%+v", r)
		}
		later := rig.Change{File: "command.go", Old: "procfs.Strings(b), t.Alive()", New: "procfs.Strings(b), error(nil)"}
		mutant := rig.Build(t, append(pauses(), alive, later)...)
		if _, r := recycleAt(t, mutant, "held", "", "--explain"); r.Code != 0 {
			t.Errorf("the mutant explains nothing either: %+v", r)
		}
	})
	t.Run("a name by its number", func(t *testing.T) {
		begin(t)
		tool, mutant := rig.Build(t), rig.Build(t, rig.Change{File: "engine/demo.go", Old: "start != a.Start || ", New: "start == 0 || "})
		if r := byName(t, tool); r.Code != 125 || r.Out != "" {
			t.Errorf("%+v", r)
		}
		if r := byName(t, mutant); r.Out != "innocent\n" {
			t.Errorf("the mutant does not enter the innocent either: %+v", r)
		}
	})
}

// byName enters a container that is announced by name and replaced then.
func byName(t *testing.T, tool *rig.Tool) rig.Result {
	t.Helper()
	victim := named(t, "victim")
	forget, err := engine.Announce(tool.RunDir, "web", victim.Pid())
	if err != nil {
		t.Fatal(err)
	}
	defer forget()
	const tick = 10 * time.Millisecond // of the clock of start times (USER_HZ): by it the two are told apart
	time.Sleep(2 * tick)
	replace(t, victim)
	return tool.Run("enter", "-n", "web", "uname", "-n")
}
