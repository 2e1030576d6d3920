// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
)

// kitted is a user's RootlessKit with a pid namespace of its own (100), a dockerd
// and a container there; beside it another namespace of the user's (300) with
// processes that look the same.
func kitted() []procfs.Task {
	tasks := []procfs.Task{
		{PID: 1, NSpid: []int{1}, Start: 1},
		{PID: 10, Parent: 1, NSpid: []int{10}, Comm: "rootlesskit", Cmdline: "rootlesskit\x00--pidns\x00"},
		{PID: 11, Parent: 10, NSpid: []int{11, 1}, PIDNS: 100, Comm: "exe"},
		{PID: 12, Parent: 11, NSpid: []int{12, 5}, PIDNS: 100, Comm: "dockerd", Cmdline: "dockerd\x00"},
		{PID: 13, Parent: 11, NSpid: []int{13, 6}, PIDNS: 100, Comm: "containerd-shim", Cmdline: "containerd-shim-runc-v2\x00-id\x00x\x00"},
		{PID: 14, Parent: 13, NSpid: []int{14, 7, 1}, Start: 14, PIDNS: 200, Comm: "sleep"},
		{PID: 15, Parent: 14, NSpid: []int{15, 8, 7}, Start: 15, PIDNS: 200, Comm: "sleep"},
		{PID: 30, Parent: 1, NSpid: []int{30, 1}, PIDNS: 300, Comm: "sh"},
		{PID: 31, Parent: 30, NSpid: []int{31, 5}, PIDNS: 300, Comm: "dockerd", Cmdline: "dockerd\x00"},
		{PID: 32, Parent: 30, NSpid: []int{32, 6}, PIDNS: 300, Comm: "rootlesskit", Cmdline: "rootlesskit\x00"},
		{PID: 33, Parent: 32, NSpid: []int{33, 7, 1}, Start: 33, PIDNS: 400, Comm: "sleep"},
	}
	for i := range tasks[1:] {
		tasks[i+1].UID = 1000
	}
	return tasks
}

// What a user's engine counts in the pid namespace of its RootlessKit is found by
// that number; nobody else's is taken for it (A20).
func TestKit(t *testing.T) {
	for what, test := range map[string]struct {
		facts Facts
		want  int
	}{
		"by its parent":               {Facts{PID: 7, Parent: 13, Owner: 1000}, 14},
		"by its start":                {Facts{PID: 7, Start: 14, Owner: 1000}, 14},
		"by another's start":          {Facts{PID: 7, Start: 33, Owner: 1000}, 0},
		"by another's parent":         {Facts{PID: 7, Parent: 32, Owner: 1000}, 0},
		"in it":                       {Facts{PID: 5, Parent: 11, Owner: 1000}, 12},
		"further in":                  {Facts{PID: 8, Start: 15, Owner: 1000}, 0},
		"as the host counts":          {Facts{PID: 14, Start: 14, Owner: 1000}, 14},
		"another user's":              {Facts{PID: 7, Parent: 13, Owner: 1001}, 0},
		"root's":                      {Facts{PID: 7, Parent: 13}, 0},
		"by the number of its inside": {Facts{PID: 1, Start: 14, Owner: 1000}, 0},
	} {
		h := Recorded(t.TempDir(), kitted())
		init, err := h.Init(test.facts)
		if init.PID != test.want || (err == nil) != (test.want != 0) || err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %+v, %v, want %d", what, init, err, test.want)
		}
	}
	h := Recorded(t.TempDir(), kitted())
	for uid, want := range map[uint32]int{1000: 1, 0: 0, 1001: 0} {
		if found, err := h.Daemons(t.Context(), "dockerd", uid); err != nil || len(found) != want || want == 1 && found[0].PID != 12 {
			t.Errorf("daemons of %d: %+v, %v", uid, found, err)
		}
	}
}

// What an outline does not have of a process in a kit is read where it is asked
// for; of another process that has its number by then, it is not.
func TestKitArguments(t *testing.T) {
	testutil.RequireRoot(t)
	proc := openProc(t)
	c := testutil.Throwaway(t, throwaway.Spec{})
	tasks, err := proc.Outline(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h := NewHost(proc, tasks)
	i, ok := procfs.Search(tasks, c.Pid())
	if !ok {
		t.Fatalf("%d is not among %d processes", c.Pid(), len(tasks))
	}
	if tasks[i].Cmdline != "" {
		t.Errorf("%+v", tasks[i])
	}
	args := func() string { return h.withArguments(t.Context(), []procfs.Task{tasks[i]})[0].Cmdline }
	if args() == "" {
		t.Error("it has no arguments")
	}
	tasks[i].Start--
	if got := args(); got != "" {
		t.Errorf("another's are %q", got)
	}
}
