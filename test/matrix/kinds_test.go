// SPDX-License-Identifier: Apache-2.0

package matrix

import (
	"encoding/json"
	"testing"
)

// kindOf is what outband has to take the first process of a subject for; "" where
// that is no init.
func (c *target) kindOf() string {
	switch name := c.subject.name; {
	case name == "busybox-init":
		return "busybox"
	case name == "init": // what the engine puts before the command
		return map[string]string{"docker": "tini", "podman": "catatonit", "podman-rootless": "catatonit"}[c.host.Engine.Name]
	case c.subject.image == nil: // a system
		return name
	}
	return ""
}

// knowsInit compares what ls takes the first process for.
func (c *target) knowsInit(t *testing.T) {
	want := c.kindOf()
	if want == "" {
		return
	}
	r := c.run(t, c.host.Command(outband, "ls", "-o", "json"))
	var list []struct {
		Init *struct {
			PID       int
			Kind, Exe string
		}
	}
	if err := json.Unmarshal([]byte(r.Out), &list); err != nil {
		t.Fatalf("%v: %+v", err, r)
	}
	for _, l := range list {
		if l.Init != nil && l.Init.PID == c.HostPid {
			if l.Init.Kind != want {
				t.Errorf("ls takes it for %q (%s), not %q", l.Init.Kind, l.Init.Exe, want)
			}
			return
		}
	}
	t.Errorf("ls does not have it: %s", r.Out)
}
