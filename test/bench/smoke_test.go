// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/outband/outband/internal/testutil"
	engines "github.com/outband/outband/test/lab"
)

func TestMain(m *testing.M) {
	engines.Main(os.Args)
	if helper := helpers()[first(os.Args[1:])]; helper != nil {
		if err := helper(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	testutil.Main(m)
}

// TestQuick runs the whole, so that nobody finds out on the day of a release
// that it no longer works. What it measures is of no interest here.
func TestQuick(t *testing.T) {
	testutil.RequireRoot(t)
	for name, pkg := range map[string]string{
		"busybox": "busybox-static", "nsenter": "util-linux", "runc": "runc", "crun": "crun", "dockerd": "docker.io", "cc": "gcc", "go": "golang",
	} {
		testutil.RequireCommand(t, name, pkg)
	}
	testutil.NoLeaks(t)
	dir := t.TempDir()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if err := bench(t.Context(), options{quick: true, out: dir}, null); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(dir, "benchmarks.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		"| Command line | outband / nsenter |", "| Command line, with pauses | outband / nsenter |",
		"runc exec |", "crun exec |", "| Library | library / C floor |", "| Library, with pauses | library, large heap / C floor |",
		"| Tree | outband tree / C loop on two threads |", "| Tree | outband tree / lsns |", "| List | outband ls / docker ps, then lsns |", "| Doctor | outband doctor / outband tree TARGET |", "| Power | power.Kill / cgroup.kill |", "| end of an init to its report |",
		"| Relay | outband enter … cat / cat |", "peak memory", "size of the binary", "| key to echo, added |", "| prompt of a session on a terminal |", "`enter docker:NAME`, added", "completion of names", "CPUs", "go run ./test/bench",
	} {
		if !strings.Contains(string(page), part) {
			t.Errorf("benchmarks.md lacks %q:\n%s", part, page)
		}
	}
	if strings.Contains(string(page), "NaN") || strings.Contains(string(page), os.TempDir()+"/") {
		t.Errorf("benchmarks.md has what is no number, or names a temporary file:\n%s", page)
	}
	checkXML(t, filepath.Join(dir, "benchmarks.svg"))
	checkXML(t, filepath.Join(dir, "benchmarks-tree.svg"))
}

// checkXML reads a file to its end as XML.
func checkXML(t *testing.T, name string) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	bars := 0
	for d := xml.NewDecoder(f); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "rect" {
			bars++
		}
	}
	if bars == 0 {
		t.Errorf("%s has no bars", name)
	}
}
