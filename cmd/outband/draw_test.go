// SPDX-License-Identifier: Apache-2.0

package main

import (
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/outband/outband/internal/safetext"
	"github.com/outband/outband/pidtree"
)

// drawn draws a forest in which children are below each process, by numbers; 1 is
// the root.
func drawn(s style, all bool, children map[int][]int) (text []string) {
	process := func(pid int) *pidtree.Process {
		return &pidtree.Process{PIDs: []int{pid}, Comm: "p"}
	}
	d := &drawing{style: s, all: all, wanted: map[int]bool{}, children: func(p *pidtree.Process) iter.Seq[*pidtree.Process] {
		return func(yield func(*pidtree.Process) bool) {
			for _, pid := range children[p.PID()] {
				if !yield(process(pid)) {
					return
				}
			}
		}
	}}
	for _, l := range d.draw([]*pidtree.Process{process(1)}) {
		text = append(text, l.text)
	}
	return text
}

func TestDrawLines(t *testing.T) {
	children := map[int][]int{1: {2, 5}, 2: {3, 4}, 3: {6}, 5: {7}}
	want := []string{"HOST  PROCESS", "   1  p", "   2  ├─ p", "   3  │  ├─ p", "   6  │  │  └─ p", "   4  │  └─ p", "   5  └─ p", "   7     └─ p"}
	if got := drawn(style{lines: unicodeLines()}, true, children); !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
	if got, want := drawn(style{lines: asciiLines(), width: 18}, true, children)[4], "   6  …  `- p"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	for _, test := range []struct {
		children map[int][]int
		want     string
	}{
		{nil, "1 process outside of containers is not shown (--all)"}, {children, "7 processes outside of containers are not shown (--all)"},
	} {
		if got := drawn(style{lines: asciiLines()}, false, test.children); got[len(got)-1] != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}

// However deep processes are nested and however narrow the window is, what is
// drawn stays within it, and is as long as there are processes.
func TestDrawDeep(t *testing.T) {
	const depth = 20_000
	children := map[int][]int{}
	for pid := 1; pid < depth; pid++ {
		children[pid] = []int{pid + 1}
	}
	for _, width := range []int{0, 1, 2, 3, 4, 5, 6, 80, 1000} {
		total := 0
		for _, text := range drawn(style{width: width, lines: unicodeLines()}, true, children) {
			total += len(text)
			if width > 0 && safetext.Width(text) > width {
				t.Fatalf("%q is wider than %d", text, width)
			}
		}
		if most := depth * len("─") * max(width, 200+len("HOST  p")+1); total > most {
			t.Errorf("in %d columns: %d bytes, want at most %d", width, total, most)
		}
	}
	last := drawn(style{lines: unicodeLines()}, true, children)[depth]
	if !strings.HasPrefix(last, "20000  …  ") || !strings.HasSuffix(last, "  └─ p") {
		t.Errorf("%q", last)
	}
}

// A process that calls itself what looks like two columns is no container (A20).
func TestDrawLabel(t *testing.T) {
	d := &drawing{style: style{lines: unicodeLines()}}
	for comm, want := range map[string]string{"a b": "a b", "web  docker:web": `web \x20docker:web`} {
		r := &row{style: d.style}
		d.describe(r, &pidtree.Process{PIDs: []int{1}, Comm: comm})
		if got := r.text.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
