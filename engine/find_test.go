// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"errors"
	"strings"
	"testing"
)

// TestNamed: stopped containers have names too, running ones come first.
func TestNamed(t *testing.T) {
	stopped := func(engine, name, id string) Container {
		return Container{Engine: engine, Name: name, ID: id, State: Stopped}
	}
	idC, idD := strings.Repeat("cd12", 16), strings.Repeat("cd34", 16)
	all := []Container{
		running("docker", "web", idA, 10), stopped("podman", "web", idB),
		stopped("docker", "db", idC), stopped("docker", "old", idD), stopped("podman", "old", strings.Repeat("ef", 32)),
		stopped("lxc", "twin", "twin"), stopped("lxc", "twin", "twin"),
	}
	for name, want := range map[string]string{
		"web": "docker:web", "podman:web": "podman:web", "db": "docker:db", "cd12": "docker:db", "docker:old": "docker:old",
	} {
		if c, err := Named(all, name); err != nil || c.FullName() != want {
			t.Errorf("%s: %v, %v; want %s", name, c, err, want)
		}
	}
	for name, want := range map[string]error{
		"nope": ErrNotFound, "pid:10": ErrNotFound, "10": ErrNotFound, "/proc/10/ns/pid": ErrNotFound, "nspawn:web": ErrNotFound,
		"cd": ErrAmbiguous, "old": ErrAmbiguous, "twin": ErrAmbiguous, "": ErrInvalid, "-a": ErrInvalid, "a/b": ErrInvalid,
	} {
		if c, err := Named(all, name); !errors.Is(err, want) {
			t.Errorf("%q: %v, %v; want %v", name, c, err, want)
		}
	}
	if _, err := Named(all, "old"); !strings.Contains(err.Error(), "docker:old, podman:old") {
		t.Errorf("without the choices: %v", err)
	}
}
