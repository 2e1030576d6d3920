// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
	"time"

	"github.com/outband/outband/doctor"
	"github.com/outband/outband/engine"
)

// For how long a container has run is known, for how long it has been paused or
// stopped is not.
func TestReportInit(t *testing.T) {
	for _, test := range []struct {
		state engine.State
		init  string
		want  string
	}{
		{engine.Running, "S", "running for 4m"}, {engine.Paused, "S", "paused, started 4m ago"}, {engine.Running, "T", "stopped, started 4m ago"},
		{engine.Running, "t", "traced, started 4m ago"}, {engine.Running, "Z", "zombie, started 4m ago"},
	} {
		r := &doctor.Report{State: string(test.state), Init: &doctor.Init{PIDs: []int{40, 1}, Comm: "x", Exe: "/x", State: test.init}}
		r.Init.Started = time.Now().Add(-4*time.Minute - 30*time.Second)
		text := strings.Join(drawReport(r, style{}), "\n")
		if want := "init          40 → 1 x /x, " + test.want; !strings.Contains(text, want) {
			t.Errorf("%q, want %q", text, want)
		}
	}
}

// That a file of the container's has more than is told, is told.
func TestReportNames(t *testing.T) {
	text := strings.Join(drawReport(&doctor.Report{Names: &doctor.Names{Search: []string{"a", "b"}, More: true}}, style{}), "\n")
	if want := "names         no server, search a b, and more"; !strings.Contains(text, want) {
		t.Errorf("%q, want %q", text, want)
	}
}
