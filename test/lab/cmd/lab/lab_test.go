// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/test/lab"
)

func TestMain(m *testing.M) {
	lab.Main(os.Args)
	testutil.Main(m)
}

// TestAll starts all engines on one host: each container is in the list once, by
// its engine's name, and in the tree; the transcript of the README is of this
// form. Then all of them have ended.
func TestAll(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	if testing.Short() {
		t.Skip("starts fourteen engines")
	}
	for _, b := range beside() {
		for _, p := range b.engine.Needs {
			testutil.RequireCommand(t, p.Name, p.Package)
		}
	}
	program := filepath.Join(t.TempDir(), "outband")
	build := exec.CommandContext(t.Context(), testutil.RequireCommand(t, "go", "golang"), "build", "-o", program, "./cmd/outband")
	build.Dir, build.Env = "../../../..", append(os.Environ(), "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, said)
	}
	var out bytes.Buffer
	if err := showAll(t.Context(), &out, program); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	list, rest, _ := strings.Cut(out.String(), "$ outband enter db -- ps")
	inside, tree, _ := strings.Cut(rest, "$ outband tree")
	readme, err := os.ReadFile("../../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name, engine, tree string // patterns; bare ones have no name in the tree
		count              int
	}{
		{"web", "docker", "docker:web", 1}, {"docker@lab:shop", "docker", "docker@lab:shop", 1},
		{"db", "podman", "podman:db", 1}, {"podman@lab:notes", "podman", "podman@lab:notes", 1},
		{"default/cache", "containerd", "containerd:default/cache", 1}, {"pod:lab/pod-front/front", "containerd", "pod:lab/pod-front/front", 1},
		{"mail", "lxc", "lxc:mail", 1}, {"lxc@lab:chat", "lxc", "lxc@lab:chat", 1}, {"build", "nspawn", "nspawn:build", 1},
		{"job", "runc", "runc:job", 1}, {"task", "crun", "crun:task", 1}, {"pid:[0-9]+", "bare", "pidns:[0-9]+", 3},
	} {
		listed := regexp.MustCompile(`(?m)^` + row.name + ` +` + row.engine + ` +running +[0-9]+ `)
		drawn := regexp.MustCompile(` +1 .*─ [a-z]+  ` + row.tree + `  `)
		for _, part := range []struct {
			what, text string
			pattern    *regexp.Regexp
		}{{"list", list, listed}, {"README", string(readme), listed}, {"tree", tree, drawn}, {"README", string(readme), drawn}} {
			if n := len(part.pattern.FindAllString(part.text, -1)); n != row.count {
				t.Errorf("%s: %d times in the %s, want %d", row.name, n, part.what, row.count)
			}
		}
	}
	if !strings.Contains(inside, " ps\n") || t.Failed() {
		t.Errorf("%s", out.String())
	}
}
