// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/outband/outband/internal/safetext"
	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
)

// freezable is a container in a cgroup of its own, and that group's directory.
func freezable(t *testing.T) (pid int, dir string) {
	t.Helper()
	testutil.RequireRoot(t)
	for _, root := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
		dir = filepath.Join(root, fmt.Sprintf("test-outband-%d-frozen", os.Getpid()))
		if err := os.Mkdir(dir, 0o755); err != nil {
			continue
		}
		group := dir
		t.Cleanup(func() {
			for until := time.Now().Add(patience); os.Remove(group) != nil && time.Now().Before(until); time.Sleep(time.Millisecond) {
			}
		})
		if _, err := os.Stat(filepath.Join(dir, "cgroup.freeze")); err != nil {
			continue
		}
		c, err := throwaway.Start(t.Context(), throwaway.Spec{User: true, Tree: throwaway.TreeShared, Cgroups: []string{dir}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { told(t, group, "0"); c.Close() })
		return c.Pid(), dir
	}
	t.Skip("skipped: needs a cgroup2 hierarchy")
	return 0, ""
}

// told writes to a group's switch, as others than outband do.
func told(t *testing.T, dir, word string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "cgroup.freeze"), []byte(word), 0); err != nil {
		t.Error(err)
	}
}

// TestFrozenBy: who paused a container is told by ls and by the switch, until it
// is thawed by whomever; who else paused it is not known, and outband that finds
// it so does not claim it.
func TestFrozenBy(t *testing.T) {
	pid, dir := freezable(t)
	run := t.TempDir()
	name := strconv.Itoa(pid)
	call := func(f func(p *program) error) string {
		t.Helper()
		var b strings.Builder
		p := &program{runDir: run, stdout: safetext.NewWriter(&b), stderr: safetext.NewWriter(t.Output())}
		if err := f(p); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	throw := func(word string) string {
		return call(func(p *program) error { return p.power(&powerFlags{output: "json"}, name, word) })
	}
	frozen := func() (by *frozenFacts) {
		t.Helper()
		var rows []listed
		var b strings.Builder
		call(func(p *program) error { return p.ls(t.Context(), &b, &lsFlags{output: "json"}) })
		if err := json.Unmarshal([]byte(b.String()), &rows); err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			if r.Init != nil && r.Init.PID == pid {
				by = r.FrozenBy
			}
		}
		if status := throw("status"); strings.Contains(status, `"frozen_by":{"tool":"outband","uid":0,`) != (by != nil) {
			t.Errorf("ls has %+v, status %s", by, status)
		}
		return by
	}
	records := func() int {
		entries, _ := os.ReadDir(filepath.Join(run, "frozen"))
		return len(entries)
	}
	for _, step := range []struct {
		what string
		do   func()
		want bool
	}{
		{"it runs", func() {}, false},
		{"outband pauses it", func() { throw("pause") }, true},
		{"and once more", func() { throw("pause") }, true},
		{"outband resumes it", func() { throw("resume") }, false},
		{"outband pauses it again", func() { throw("pause") }, true},
		{"somebody else thaws it", func() { told(t, dir, "0") }, false},
		{"somebody else freezes it", func() { told(t, dir, "1") }, false},
		{"outband finds it so", func() { throw("pause") }, false},
	} {
		step.do()
		if by := frozen(); (by != nil) != step.want || by != nil && (by.UID != os.Getuid() || time.Since(by.At) > time.Minute) {
			t.Errorf("%s: %+v", step.what, by)
		}
		if (records() > 0) != step.want {
			t.Errorf("%s: %d records", step.what, records())
		}
	}
}

func TestFrozenFacts(t *testing.T) {
	login := uint32(1000)
	for want, f := range map[string]*frozenFacts{
		"^-$":                         nil,
		"^outband, uid 0, 3s ago$":    {Tool: "outband", At: time.Now().Add(-3 * time.Second)},
		"^outband, uid 1000, 2h ago$": {"outband", 0, &login, time.Now().Add(-2 * time.Hour)},
	} {
		if got := f.String(); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%q, want %s", got, want)
		}
	}
}
