// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/test/cve/rig"
)

// broodSize is how many children the command has in the background.
const broodSize = 3

// attackBrood has children that nothing but the session's cgroup holds
// together: sessions of their own, without a parent-death signal.
func attackBrood([]string) error {
	for range broodSize {
		cmd := exec.Command("/bin/sleep", "infinity")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	return stay()
}

// victims are what is killed, and what becomes of the call.
var victims = []struct {
	name                  string
	tool, warden, command bool
	code                  int    // of the call, -1: it was killed itself
	how                   string // the audit log's word for the end
}{
	{"tool", true, false, false, -1, "lost"},
	{"warden", false, true, false, codeError, "unknown"},
	{"command", false, false, true, 128 + int(unix.SIGKILL), "SIGKILL"},
	{"tool and warden", true, true, false, -1, "lost"},
	{"tool, warden and command", true, true, true, -1, "lost"},
}

// TestKill kills the processes of a session that has a command with background
// children. All of it goes, at the latest with the next call.
func TestKill(t *testing.T) {
	begin(t)
	tool, c := rig.Build(t), box(t)
	for i, v := range victims {
		t.Run(v.name, func(t *testing.T) { kill(t, tool.In(t), c, i) })
	}
}

// TestKillSoak is TestKill many times over.
func TestKillSoak(t *testing.T) {
	if os.Getenv("OUTBAND_SOAK") != "1" {
		t.Skip("skipped: OUTBAND_SOAK=1 runs it, half a minute")
	}
	begin(t)
	tool, c := rig.Build(t), box(t)
	for round := range 200 {
		if kill(t, tool.In(t), c, round%len(victims)); t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
}

func kill(t *testing.T, tool *rig.Tool, c *throwaway.Container, victim int) {
	t.Helper()
	v := victims[victim]
	s := tool.Start(append([]string{"enter", fmt.Sprint(c.Pid()), "--"}, rig.Attack("brood")...)...)
	rig.Eventually(t, "the command does not run", func() bool { return s.Ended() || s.Output() == "ready\n" })
	warden, command := s.Warden(), s.Visitor("outband")
	if n := len(inside(c)); n != 1+broodSize {
		t.Fatalf("%d processes inside", n)
	}
	both := v.tool && v.warden
	if both { // none of them is to see the other's end
		warden.Signal(unix.SIGSTOP)
		rig.Eventually(t, "the warden does not stop", func() bool { return rig.State(warden.PID) == 'T' })
	}
	if v.command {
		command.Signal(unix.SIGKILL)
	}
	if v.tool {
		_ = s.Process.Signal(unix.SIGKILL)
	}
	if v.warden {
		warden.Signal(unix.SIGKILL)
	}
	if r := s.Wait(); r.Code != v.code || r.Hung {
		t.Errorf("the call: %+v, want code %d", r, v.code)
	}
	rig.Eventually(t, "the command lives on", func() bool { return !command.Alive() })
	if both {
		// Nobody of the session is left who could end these. Another call of the
		// tool may: those of other packages' tests sweep the same hierarchy. The
		// command is counted until somebody has collected it.
		rig.Eventually(t, "the command is not collected", func() bool { return len(inside(c)) <= broodSize })
		if n := len(inside(c)); n != broodSize && n != 0 {
			t.Errorf("%d background processes before the next call, want %d", n, broodSize)
		}
	} else {
		rig.Eventually(t, "background children live on", func() bool { return len(inside(c)) == 0 })
	}
	if r := tool.Run("enter", fmt.Sprint(c.Pid()), "true"); r.Code != 0 {
		t.Errorf("the next call: %+v", r)
	}
	nothingLeft(t, tool, c)
	audited(t, tool, v.how)
}

// audited wants a line in the log for each of the two calls, the first of which
// ended as how says.
func audited(t *testing.T, tool *rig.Tool, how string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(tool.RunDir, "audit.jsonl"))
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	if err != nil || len(lines) != 2 ||
		!slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, `"how":"`+how) }) {
		t.Errorf("the audit log lacks an end %q: %v\n%s", how, err, data)
	}
}
