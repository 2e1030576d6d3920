// SPDX-License-Identifier: Apache-2.0

// Package faults breaks what an entry stands on, one thing at a time: its
// processes, the kernel's calls, descriptors, disk and input. The rows of the
// table "Bad input and faults" in docs/threat-model.md name these tests.
package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/test/cve/rig"
)

func TestMain(m *testing.M) {
	rig.Main(m, rig.Attackers{
		"brood":  attackBrood,
		"flood":  attackFlood,
		"filter": stageFilter,
		"limit":  stageLimit,
		"status": attackStatus,
		"tmpfs":  stageTmpfs,
	})
}

// stay waits for ever, which is for a signal to end.
func stay() error {
	for {
		time.Sleep(time.Hour)
	}
}

// codeError is the exit code of enter for every error of outband's own.
const codeError = 125

// begin is the start of each test. What is left behind fails it.
func begin(t *testing.T) {
	t.Helper()
	testutil.RequireRoot(t)
	if !rig.Nested() {
		testutil.NoLeaks(t)
	}
	t.Cleanup(func() { rig.Reap(t) })
}

// box is a container without anything in it but its init.
func box(t testing.TB) *throwaway.Container {
	t.Helper()
	return testutil.Throwaway(t, throwaway.Spec{})
}

// inside are the processes of a container's own pid namespace but its init,
// found from the outside, as one that its parent has lost would not be a child
// of anybody's.
func inside(c *throwaway.Container) []int { return insideOf(c.Pid()) }

func insideOf(init int) (pids []int) {
	want, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", init))
	if err != nil {
		return nil // the container has ended, and its processes with it
	}
	links, _ := filepath.Glob("/proc/[0-9]*/ns/pid")
	for _, link := range links {
		pid, _ := strconv.Atoi(strings.Split(link, "/")[2])
		// The test stands in for the machine's init, as a subreaper that collects
		// a dead orphan when the session object ends, not at once.
		orphan := rig.State(pid) == 'Z' && rig.Status(pid, "PPid") == fmt.Sprint(os.Getpid())
		if got, _ := os.Readlink(link); got == want && pid != init && !orphan {
			pids = append(pids, pid)
		}
	}
	return pids
}

// nothingLeft waits until neither a record nor a process inside is left.
// Cgroups, and processes outside, are NoLeaks' to find.
func nothingLeft(t testing.TB, tool *rig.Tool, c *throwaway.Container) {
	t.Helper()
	if !rig.Within(rig.Deadline, func() bool { return len(inside(c)) == 0 && len(tool.Sessions()) == 0 }) {
		t.Errorf("left: processes %v, records %v", inside(c), tool.Sessions())
	}
}

// refused fails the test unless the tool has ended with an error of its own
// that fits: one line, and at most a hint, without control characters.
func refused(t testing.TB, r rig.Result, words ...string) {
	t.Helper()
	if r.Code != codeError || r.Hung {
		t.Errorf("code %d, want %d: %.300q", r.Code, codeError, r.Err)
	}
	lines := strings.Split(strings.TrimSuffix(r.Err, "\n"), "\n")
	hint := len(lines) == 2 && strings.HasPrefix(lines[1], "hint: ")
	if !strings.HasPrefix(r.Err, "outband: ") || len(lines) != 1 && !hint {
		t.Errorf("no single line of an error: %.300q", r.Err)
	}
	for _, line := range lines {
		if strings.ContainsFunc(line, unicode.IsControl) || len(line) > 1024 {
			t.Errorf("not fit for a terminal, %d bytes: %.300q", len(line), line)
		}
	}
	named := func(word string) bool { return strings.Contains(r.Err, word) }
	if len(words) > 0 && !slices.ContainsFunc(words, named) {
		t.Errorf("names none of %q: %.300q", words, r.Err)
	}
}
