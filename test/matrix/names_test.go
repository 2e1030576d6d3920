// SPDX-License-Identifier: Apache-2.0

package matrix

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/test/lab"
)

// names are what outband calls a container that is called "named" by its engine.
// Of those that are not here nobody keeps a name.
func names() map[string]string {
	return map[string]string{
		"runc": "runc:named", "crun": "crun:named", "docker": "docker:named", "containerd": "containerd:default/named",
		"podman": "podman:named", "lxc": "lxc:named", "nspawn": "nspawn:named",
	}
}

// TestNames: every engine's containers have their engine's names, on the host of
// the engine, and lead to their first processes.
func TestNames(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	program := build(t)
	for _, engine := range lab.Engines() {
		name, ok := names()[engine.Name]
		if !ok || engine.User != nil {
			continue
		}
		t.Run(engine.Name, func(t *testing.T) {
			testutil.NoLeaks(t)
			host := open(t, engine, program)
			c, err := host.Run(t.Context(), "named", lab.Busybox(t), lab.Options{})
			if err != nil {
				t.Fatal(err)
			}
			out, err := host.Do(t.Context(), outband, "ls", "-o", "json")
			if err != nil {
				t.Fatal(err)
			}
			var list []struct {
				Name, Engine, State string
				Init                *struct{ Pid int }
			}
			if err := json.Unmarshal([]byte(out), &list); err != nil {
				t.Fatal(err)
			}
			found := ""
			for _, l := range list {
				if l.Init != nil && l.Init.Pid == c.HostPid {
					found = l.Engine + ":" + l.Name + " " + l.State
				}
			}
			if found != name+" running" {
				t.Errorf("%d is %q, want %q\n%s", c.HostPid, found, name, out)
			}
			short := strings.TrimPrefix(name, engine.Name+":")
			for _, target := range []string{name, c.Name, fmt.Sprint(c.HostPid)} {
				got, err := host.Do(t.Context(), outband, "inspect", target, "-o", "json")
				if want := fmt.Sprintf(`{"name":%q,"engine":%q,`, short, engine.Name); err != nil || !strings.HasPrefix(got, want) {
					t.Errorf("inspect %s: %q, %v, want %q", target, got, err, want)
				}
			}
			for _, target := range []string{name, c.Name} {
				got, err := host.Do(t.Context(), outband, "pid", target, "1")
				if want := fmt.Sprintf("%d → 1\n", c.HostPid); err != nil || !strings.HasSuffix(strings.TrimSpace(got), strings.TrimSpace(want)) {
					t.Errorf("%s: %q, %v, want %q", target, got, err, want)
				}
			}
		})
	}
}
