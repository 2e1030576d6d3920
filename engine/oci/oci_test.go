// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"context"
	"slices"
	"testing"

	"github.com/outband/outband/engine"
	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/testutil"
)

// machine is the processes of the machine on which testdata/host was recorded:
// one container each of runc 1.1.5 and crun 1.8.1.
func machine() []procfs.Task {
	return []procfs.Task{
		{PID: 735, Parent: 1, NSpid: []int{735, 1}, Start: 155094, PIDNS: 1, Comm: "sleep"},
		{PID: 31981, Parent: 1, NSpid: []int{31981, 1}, Start: 154133, PIDNS: 2, Comm: "sleep"},
	}
}

func list(t *testing.T, tasks []procfs.Task) (names []string) {
	t.Helper()
	h := engine.Recorded(testutil.Private(t, "testdata/host"), tasks)
	all, err := h.List(context.Background(), []engine.Engine{Engine{}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range all {
		names = append(names, all[i].FullName()+" "+string(all[i].State))
	}
	return names
}

func TestList(t *testing.T) {
	if got, want := list(t, machine()), []string{"crun:tree-crun running", "runc:tree-rec running"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	// The numbers are others' by now.
	tasks := machine()
	tasks[0].Start++
	tasks[1].Start++
	if got, want := list(t, tasks), []string{"crun:tree-crun stopped", "runc:tree-rec stopped"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := list(t, []procfs.Task{}), []string{"crun:tree-crun stopped", "runc:tree-rec stopped"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// What a runtime does not tell the kernel has to.
func TestFacts(t *testing.T) {
	if f := (State{PID: 7, Start: 5}).Facts("x", 0); f.Cgroup != "" || f.Start != 5 {
		t.Errorf("%+v", f)
	}
	if f := (State{PID: 7}).Facts("x", 1000); f.Cgroup != "x" || f.Owner != 1000 {
		t.Errorf("%+v", f)
	}
}

func fuzz(f *testing.F, parse func([]byte) (State, error), seed string) {
	f.Add([]byte(seed))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parse(b); err == nil && s.PID < 0 {
			t.Errorf("%+v", s)
		}
	})
}

func FuzzParseRunc(f *testing.F) {
	fuzz(f, ParseRunc, `{"id":"a","init_process_pid":7,"init_process_start":9}`)
}

func FuzzParseCrun(f *testing.F) {
	fuzz(f, ParseCrun, `{"pid":7,"process-start-time":9,"bundle":"/x"}`)
}

func FuzzParseYouki(f *testing.F) { fuzz(f, ParseYouki, `{"id":"a","pid":7}`) }
