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
		t.Skip("starts eight engines")
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
	for _, name := range []string{"docker web", "podman db", "podman podman@lab:notes", "containerd default/cache", "lxc mail", "nspawn build", "runc job", "bare pid:[0-9]+"} {
		engine, name, _ := strings.Cut(name, " ")
		row := regexp.MustCompile(`(?m)^` + name + ` +` + engine + ` +running +[0-9]+ `)
		if n := len(row.FindAllString(list, -1)); n != 1 || !row.Match(readme) {
			t.Errorf("%s %s: %d rows, and in the README: %v", engine, name, n, row.Match(readme))
		}
		short := name[strings.LastIndexByte(name, ':')+1:]
		if engine != "bare" && !regexp.MustCompile(` +1 .*─ sleep  `+engine+`(@lab)?:`+short).MatchString(tree) {
			t.Errorf("%s:%s is not in the tree", engine, short)
		}
	}
	if !strings.Contains(inside, " ps\n") || t.Failed() {
		t.Errorf("%s", out.String())
	}
}
