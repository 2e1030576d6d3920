// SPDX-License-Identifier: Apache-2.0

package matrix

import (
	"fmt"
	"strings"
	"testing"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/test/lab"
)

// TestStates enters containers of docker's that are not simply running: each
// answer comes in time, and is an entry or one line that says why not.
func TestStates(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	host := open(t, lab.Docker(), build(t))
	for name, test := range map[string]func(*testing.T, *target){
		"crash-loop": testCrashLoop, "pids-max": testPidsMax, "paused": testPaused, "gone": testGone,
	} {
		s := subject{name: name, image: lab.Busybox}
		if name == "crash-loop" {
			s.options.Args = []string{"sh", "-c", "sleep 0.2; exit 1"}
			s.options.Extra = []string{"--restart=always"}
		}
		t.Run(name, func(t *testing.T) {
			c := start(t, host, s.with(host.Engine.Name))
			test(t, c)
			c.nothingLeft(t)
		})
	}
}

// with is a subject of one engine's, with the options that it has.
func (s subject) with(engine string) subject {
	s.extra = map[string][]string{engine: s.options.Extra}
	return s
}

// errorOf fails the test unless r is an error of the program's own, in a line
// and at most a hint.
func errorOf(t *testing.T, r lab.Result, word string) {
	t.Helper()
	if r.Code != codeError || !strings.HasPrefix(r.Err, "outband: ") || strings.Count(r.Err, "\n") > 2 || !strings.Contains(r.Err, word) {
		t.Errorf("no error that says %q: %+v", word, r)
	}
}

// testCrashLoop enters a container that ends all the time: in it, or refused.
func testCrashLoop(t *testing.T, c *target) {
	entered := 0
	for range 20 {
		out, err := c.host.Do(t.Context(), "docker", "inspect", "-f", "{{.State.Pid}}", c.Name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Sscan(out, &c.HostPid); err != nil || c.HostPid == 0 {
			continue // between two lives
		}
		if r := c.run(t, c.host.Command(c.args(nil, "true")...)); r.Code == 0 {
			entered++
		} else if r.Code != 128+9 { // killed with the container
			errorOf(t, r, "")
		}
	}
	t.Logf("entered %d times of 20", entered)
}

// testPidsMax enters a container that has as many processes as it may.
func testPidsMax(t *testing.T, c *target) {
	group, ok := strings.CutPrefix(c.cgroups(c.HostPid)["pids"], c.host.Group)
	if !ok {
		t.Skip("skipped: no pids controller of version 1")
	}
	if _, err := c.host.Do(t.Context(), "sh", "-c", `echo 1 >"/sys/fs/cgroup/pids$0/pids.max"`, group); err != nil {
		t.Fatal(err)
	}
	if r := c.run(t, c.host.Command(c.args(nil, "sh", "-c", "true; true & wait")...)); r.Code == codeError {
		errorOf(t, r, "limit")
	}
	outside := []string{"--cgroup", "none"}
	if r := c.run(t, c.host.Command(c.args(outside, "sh", "-c", "sleep 0 & wait; echo in")...)); r.Code != 0 || r.Out != "in\n" {
		t.Errorf("outside of its limit: %+v", r)
	}
}

// testPaused enters a container that is frozen: it is refused, with the ways out.
func testPaused(t *testing.T, c *target) {
	if _, err := c.host.Do(t.Context(), "docker", "pause", c.Name); err != nil {
		t.Fatal(err)
	}
	errorOf(t, c.run(t, c.host.Command(c.args(nil, "true")...)), "--thaw")
	if _, err := c.host.Do(t.Context(), "docker", "unpause", c.Name); err != nil {
		t.Fatal(err)
	}
	if r := c.run(t, c.host.Command(c.args(nil, "true")...)); r.Code != 0 {
		t.Errorf("after that: %+v", r)
	}
}

// testGone enters a container that was removed.
func testGone(t *testing.T, c *target) {
	if err := c.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	errorOf(t, c.run(t, c.host.Command(c.args(nil, "true")...)), "")
}
