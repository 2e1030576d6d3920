// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/outband/outband/engine"
)

// TestNamesFor: a name without a prefix is offered where it leads to one container.
func TestNamesFor(t *testing.T) {
	c := func(kind, user, name string) engine.Container {
		return engine.Container{Engine: kind, User: user, Name: name, Init: engine.Init{PID: 1, Comm: "init"}}
	}
	all := []engine.Container{
		c("docker", "", "web"), c("docker", "", "twin"), c("podman", "", "twin"), c("podman", "ann", "weft"), c("containerd", "", "default/web"),
		c("docker", "", "4242"), c(engine.Bare, "", "pid:7"),
	}
	full := []string{"docker:web", "docker:twin", "podman:twin", "podman@ann:weft", "containerd:default/web", "docker:4242", "pid:7"}
	for word, bare := range map[string][]string{
		"": {"web", "default/web"}, "we": {"web"}, "def": {"default/web"}, "docker:": nil, "tw": nil, "42": nil,
	} {
		var got []string
		for _, name := range namesFor(word, all, running) {
			name, _, _ = strings.Cut(name, "\t")
			got = append(got, name)
		}
		want := slices.Concat(full, bare)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
	all = append(all, engine.Container{Engine: "podman", Name: "web", State: engine.Stopped}) // the running one is meant
	if got := namesFor("we", all, func(c *engine.Container) bool { return c.Engine == "podman" && c.Name == "web" }); len(got) != 1 {
		t.Errorf("a stopped one: %q", got)
	}
}
