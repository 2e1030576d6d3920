// SPDX-License-Identifier: Apache-2.0

package matrix

import (
	"strconv"
	"strings"
	"testing"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/test/lab"
)

// policies are containers with a user namespace of their own, with what their
// engines do when they are pressed: the lines of docs and of power.Lasts are made
// of these.
func policies() []struct {
	engine *lab.Engine
	extra  []string
	off    string // "stays", or "refused" and what the engine does anyway: "back"
	reboot string
} {
	ids := []string{"--uidmap=0:100000:65536", "--gidmap=0:100000:65536"}
	with := func(more ...string) []string { return append(more, ids...) }
	return []struct {
		engine      *lab.Engine
		extra       []string
		off, reboot string
	}{
		{lab.Podman(), with(), "stays", "refused, stays"},
		{lab.Podman(), with("--restart=always"), "refused, back", "back"},
		{lab.Podman(), with("--restart=on-failure"), "refused, back", "refused, back"},
		{lab.Containerd(), ids, "stays", "refused, stays"},
		{lab.Unshare(), []string{"--user", "--map-root-user"}, "stays", "refused, stays"},
		{lab.Nspawn(), []string{"--private-users=100000:65536"}, "stays", "refused, stays"},
	}
}

// codeRefused is the exit code of what is refused for safety.
const codeRefused = 4

// TestPowerPolicies presses containers of engines: what outband refuses before it
// touches anything is what would not last, and what it says of who is back is so.
func TestPowerPolicies(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	program := build(t)
	for _, p := range policies() {
		t.Run(p.engine.Name+" "+p.off, func(t *testing.T) {
			testutil.NoLeaks(t)
			host := open(t, p.engine, program)
			for action, want := range map[string]string{"off": p.off, "reboot": p.reboot} {
				c, err := host.Run(t.Context(), action, lab.Busybox(t), lab.Options{Extra: p.extra, Args: []string{"sleep", "1000000"}})
				if err != nil {
					t.Fatal(err)
				}
				pressed(t, &target{Container: c, host: host}, action, want)
			}
		})
	}
}

// pressed presses a container and compares what comes of it.
func pressed(t *testing.T, c *target, action, want string) {
	name := "pid:" + strconv.Itoa(c.HostPid)
	r := c.run(t, c.host.Command(outband, "power", name, action, "--force"))
	refused, want, _ := strings.Cut(want, ", ")
	if refused != "refused" {
		want, refused = refused, ""
	}
	if (r.Code == codeRefused) != (refused != "") {
		t.Errorf("%s: %+v", action, r)
	}
	if refused != "" {
		if !strings.Contains(r.Err, "would not last") || c.status(c.HostPid) == nil {
			t.Errorf("%s: %+v", action, r)
		}
		r = c.run(t, c.host.Command(outband, "power", name, action, "--force", "--anyway"))
	}
	if r.Code != 0 || strings.Contains(r.Out, "it is back: its init is ") != (want == "back") {
		t.Errorf("%s, to be %s: %+v", action, want, r)
	}
	t.Logf("%s: %s%s", action, r.Out, r.Err)
}
