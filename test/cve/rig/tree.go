// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Children are the children of a process, zombies included.
func Children(pid int) []int {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	var found []int
	for _, path := range lists {
		text, _ := os.ReadFile(path) // the thread may be gone
		for _, field := range strings.Fields(string(text)) {
			if n, err := strconv.Atoi(field); err == nil {
				found = append(found, n)
			}
		}
	}
	return found
}

// Comm is the name of a process, "" if it is gone.
func Comm(pid int) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return strings.TrimSpace(string(text))
}

// Status is a line of a process's status file, with single blanks; "" if the
// process is gone.
func Status(pid int, field string) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	return Field(string(text), field)
}

// Field is a line of a status file.
func Field(status, field string) string {
	_, rest, _ := strings.Cut("\n"+status, "\n"+field+":")
	line, _, _ := strings.Cut(rest, "\n")
	return strings.Join(strings.Fields(line), " ")
}

// State is the letter of a process's state, 0 if it is gone.
func State(pid int) byte {
	if s := Status(pid, "State"); s != "" {
		return s[0]
	}
	return 0
}

// Numbered tells whether a process has a number in a pid namespace below the
// test's own.
func Numbered(pid int) bool { return len(strings.Fields(Status(pid, "NSpid"))) > 1 }

// Descriptors are those of a process with what they refer to.
func Descriptors(pid int) map[int]string {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, _ := os.ReadDir(dir)
	open := map[int]string{}
	for _, e := range entries {
		n, err := strconv.Atoi(e.Name())
		if link, lerr := os.Readlink(filepath.Join(dir, e.Name())); err == nil && lerr == nil {
			open[n] = link
		}
	}
	return open
}

// Processes are all processes that the session has now, and those that it is
// known to have had: what a killed tool leaves is nobody's child any more.
func (s *Session) Processes() []*Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := []int{s.Process.Pid}
	for pid, p := range s.seen {
		if p.Alive() {
			known = append(known, pid)
		}
	}
	// A process inside is the warden's child (CLONE_PARENT), a shepherd's
	// command is its own: all of them are below the tool, until that is gone.
	for len(known) > 0 {
		pid := known[0]
		known = known[1:]
		for _, child := range Children(pid) {
			if s.seen[child] != nil {
				continue
			}
			// The number is the one that was listed if the list still has it.
			if p := Hold(child); p != nil {
				s.seen[child] = p
				known = append(known, child)
			}
		}
	}
	var live []*Process
	for _, p := range s.seen {
		if p.Alive() {
			live = append(live, p)
		}
	}
	return live
}

// Warden waits for the session's warden.
func (s *Session) Warden() *Process {
	s.t.Helper()
	return s.await("the warden", func(p *Process) bool { return Comm(p.PID) == WardenName && !Numbered(p.PID) })
}

// Visitor waits for the session's command, by its name.
func (s *Session) Visitor(name string) *Process {
	s.t.Helper()
	return s.await(name, func(p *Process) bool { return Comm(p.PID) == name })
}

func (s *Session) await(what string, match func(*Process) bool) *Process {
	s.t.Helper()
	var found *Process
	Within(Deadline, func() bool {
		for _, p := range s.Processes() {
			if match(p) {
				found = p
				return true
			}
		}
		return s.Ended()
	})
	if found == nil {
		s.t.Fatalf("%s does not come: %q", what, s.err.String())
	}
	return found
}

// Group makes a cgroup of the unified hierarchy and returns its directory, in
// which what a session has left is easily found. "" if there is none mounted.
func Group(t testing.TB) string {
	t.Helper()
	for _, root := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
		if _, err := os.Stat(filepath.Join(root, "cgroup.procs")); err != nil {
			continue
		}
		// As testutil names them, so that other test processes know whose it is.
		dir, err := os.MkdirTemp(root, fmt.Sprintf("test-outband-%d-rig-", os.Getpid()))
		if err != nil {
			continue
		}
		t.Cleanup(func() {
			Eventually(t, "cgroup "+dir+" cannot be removed", func() bool { return removeGroup(dir) })
		})
		return dir
	}
	return ""
}

// removeGroup removes a cgroup with those below it, killing what is inside.
func removeGroup(dir string) bool {
	_ = os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0)
	for _, child := range Subgroups(dir) {
		removeGroup(filepath.Join(dir, child))
	}
	err := os.Remove(dir)
	return err == nil || os.IsNotExist(err)
}

// Subgroups are the names of the cgroups below one.
func Subgroups(dir string) []string {
	entries, _ := os.ReadDir(dir)
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names
}

// Sessions are the tool's session records.
func (x *Tool) Sessions() []string {
	entries, _ := os.ReadDir(filepath.Join(x.RunDir, "sessions"))
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
