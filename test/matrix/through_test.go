// SPDX-License-Identifier: Apache-2.0

package matrix

import (
	"strings"
	"testing"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/test/lab"
)

// throughs are what outband asks engines to do by their own commands, in this
// order, with one container called "named". Its init is a shell, which does not
// know LXC's word for a reboot.
func throughs() map[string]struct{ name, actions string } {
	const all = "off on reboot pause resume kill"
	return map[string]struct{ name, actions string }{
		"docker": {"docker:named", all}, "podman": {"podman:named", all}, "podman-rootless": {"podman@lab:named", "off on reboot kill"},
		"lxc": {"lxc:named", "off on pause resume kill"}, "lxc-rootless": {"lxc@lab:named", "off"},
		"containerd": {"containerd:default/named", "pause resume kill"},
		"runc":       {"runc:named", "pause resume kill"}, "crun": {"crun:named", "kill"},
	}
}

// TestThroughEngine: engines carry out what outband asks them for, and outband
// sees that they have. Who had it frozen is on record.
func TestThroughEngine(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	program := build(t)
	for _, engine := range lab.Engines() {
		test, ok := throughs()[engine.Name]
		if !ok {
			continue
		}
		t.Run(engine.Name, func(t *testing.T) {
			testutil.NoLeaks(t)
			host := open(t, engine, program)
			c, err := host.Run(t.Context(), "named", lab.Busybox(t), lab.Options{})
			if err != nil {
				t.Fatal(err)
			}
			target := &target{Container: c, host: host}
			for action := range strings.FieldsSeq(test.actions) {
				args := []string{outband, "power", test.name, action, "-o", "json", "--grace", "1s"}
				if action != "on" {
					args = append(args, "--through-engine")
				}
				r := target.run(t, host.Command(args...))
				t.Logf("%s", r.Out)
				if r.Code != 0 || !strings.Contains(r.Out, `{"done":true,`) {
					t.Fatalf("%s: %+v", action, r)
				}
				back := action == "on" || action == "reboot"
				if got := strings.Contains(r.Out, `"back":{"pid":`); got != back {
					t.Errorf("%s: back is %v: %s", action, got, r.Out)
				}
				target.frozenBy(t, test.name, action == "pause")
			}
		})
	}
}

// frozenBy looks whether it is told that outband has had the container frozen,
// though the engine did it, and of what is not frozen nothing.
func (c *target) frozenBy(t *testing.T, name string, frozen bool) {
	t.Helper()
	r := c.run(t, c.host.Command(outband, "power", name, "-o", "json"))
	want, state := `"frozen_by":null`, ""
	if frozen {
		want, state = `"frozen_by":{"tool":"outband","uid":0,`, `"state":"paused"`
	}
	if r.Code == 3 && !frozen { // its engine has forgotten it
		return
	}
	if !strings.Contains(r.Out, want) || !strings.Contains(r.Out, state) {
		t.Errorf("without %s: %+v", want, r)
	}
	rows := c.run(t, c.host.Command(outband, "ls", "-a", "-o", "json"))
	if strings.Contains(rows.Out, `"tool":"outband"`) != frozen {
		t.Errorf("ls: %+v", rows)
	}
}
