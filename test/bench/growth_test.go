// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/outband/outband/internal/testutil"
)

// What has become too large stands out, and the picture has a mark for each size.
func TestGrowthPage(t *testing.T) {
	points := []point{
		{10, 100, summary{Median: 0.002, P10: 0.001, P90: 0.003, N: 3}, 8.25},
		{1000, 10000, summary{Median: 0.2, P10: 0.1, P90: 0.3, N: 3}, 64.5},
	}
	var page, chart strings.Builder
	growthMarkdown(&page, "a machine", points)
	for _, line := range []string{
		"| 10 | 100 | 2.0 | 1.0 – 3.0 | 20.0 | 8.2 |", "| 1000 | 10000 | 200.0 | 100.0 – 300.0 | 20.0 | **64.5** |", "a machine.", "below 64 MiB",
	} {
		if !strings.Contains(page.String(), line) {
			t.Errorf("the page lacks %q:\n%s", line, page.String())
		}
	}
	file := filepath.Join(t.TempDir(), "chart.svg")
	growthChart(&chart, points)
	if err := os.WriteFile(file, []byte(chart.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	checkXML(t, file)
	if n := strings.Count(chart.String(), "<rect"); n != len(points) {
		t.Errorf("%d marks for %d sizes", n, len(points))
	}
}

// A fence is asked until it has filled up; one that is not there is told.
func TestFilled(t *testing.T) {
	dir := t.TempDir()
	if err := filled(dir, 3); err == nil {
		t.Error("there is no such group")
	}
	if err := os.WriteFile(filepath.Join(dir, "pids.current"), []byte("3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := filled(dir, 3); err != nil {
		t.Error(err)
	}
}

// Of pid namespaces that were made nothing is left, not even zombies: what lists
// processes would count them in all contests that follow.
func TestSpacesLeaveNothing(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.RequireCommand(t, "cc", "gcc")
	testutil.NoLeaks(t)
	l := &lab{dir: t.TempDir()}
	program := l.compileScale(t.Context())
	if program == "" {
		t.Fatal(l.notes)
	}
	release, err := l.holdSpaces(program, 10, 3)
	if err == nil {
		err = release()
	}
	if err != nil {
		t.Error(err)
	}
}
