// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"iter"
	"path"
	"strconv"
	"strings"

	"github.com/outband/outband/internal/safetext"
	"github.com/outband/outband/pidtree"
)

// line is one of a drawing.
type line struct {
	text string
	key  key // of whom it shows; zero for none
}

// key is a process's identity.
type key struct {
	pid   int
	start uint64
}

// drawing is a forest while it is drawn.
type drawing struct {
	style    style
	children func(*pidtree.Process) iter.Seq[*pidtree.Process]
	all      bool // the host's own processes too
	columns  []int
	// more tells of each level from a root down to the process that is drawn
	// whether others follow there. They share it: a container can nest tens of
	// thousands of levels, and lines for each of its own would be quadratic.
	more   []bool
	lines  []line
	hidden int
	wanted map[int]bool // of the host's processes, those that lead to a container
}

// draw draws a forest: a column for the numbers on each level, then the tree.
func draw(t *forest, s style, all bool) []line {
	d := &drawing{style: s, children: t.Children, all: all || !t.whole, wanted: map[int]bool{}}
	return d.draw(t.roots)
}

func (d *drawing) draw(roots []*pidtree.Process) []line {
	s := d.style
	for _, root := range roots {
		d.measure(root)
	}
	if s.width > 0 && d.numbersWidth() > s.width/2 {
		d.columns = nil // one column, with a slash between the levels
	}
	d.header()
	for _, root := range roots {
		d.process(root)
	}
	if d.hidden > 0 {
		r := row{style: s}
		r.add(dim, count(d.hidden, "process outside of containers is", "processes outside of containers are")+" not shown (--all)")
		d.lines = append(d.lines, line{text: r.text.String()})
	}
	return d.lines
}

// measure finds out how wide the numbers of each level are, and which of the
// host's processes have a container below them.
func (d *drawing) measure(p *pidtree.Process) (nested bool) {
	nested = p.Level() > 0
	for child := range d.children(p) {
		if d.measure(child) {
			nested = true
		}
	}
	d.wanted[p.PID()] = nested
	if !d.all && !nested {
		return false
	}
	for level, pid := range p.PIDs {
		if level == len(d.columns) {
			d.columns = append(d.columns, len(levelName(level)))
		}
		d.columns[level] = max(d.columns[level], len(strconv.Itoa(pid)))
	}
	return nested
}

func levelName(level int) string {
	if level == 0 {
		return "HOST"
	}
	return "L" + strconv.Itoa(level)
}

// gap is what stands between columns.
const gap = "  "

func (d *drawing) numbersWidth() int {
	n := 0
	for _, column := range d.columns {
		n += column + len(gap)
	}
	return n
}

func (d *drawing) header() {
	r := row{style: d.style}
	if d.columns == nil {
		r.add(dim, "NUMBERS"+gap)
	}
	for level, column := range d.columns {
		r.add(dim, fmt.Sprintf("%*s%s", column, levelName(level), gap))
	}
	r.add(dim, "PROCESS")
	d.lines = append(d.lines, line{text: r.text.String()})
}

// numbers adds the numbers of a process; that in its own namespace stands out.
func (d *drawing) numbers(r *row, p *pidtree.Process) {
	if d.columns == nil {
		words := make([]string, len(p.PIDs))
		for i, pid := range p.PIDs {
			words[i] = strconv.Itoa(pid)
		}
		r.add(plain, strings.Join(words, "/")+gap)
		return
	}
	for level, column := range d.columns {
		text, color := "", plain
		if level < len(p.PIDs) {
			text = strconv.Itoa(p.PIDs[level])
		}
		if level == p.Level() && level > 0 {
			color = bold
		}
		r.add(color, fmt.Sprintf("%*s%s", column, text, gap))
	}
}

// process draws a process and what is below it.
func (d *drawing) process(p *pidtree.Process) {
	if !d.all && !d.wanted[p.PID()] {
		d.hide(p)
		return
	}
	r := &row{style: d.style}
	d.numbers(r, p)
	r.add(dim, d.branches())
	d.describe(r, p)
	d.lines = append(d.lines, line{r.text.String(), key{p.PID(), p.Start}})
	var shown []*pidtree.Process
	for child := range d.children(p) {
		if d.all || d.wanted[child.PID()] {
			shown = append(shown, child)
		} else {
			d.hide(child)
		}
	}
	for i, child := range shown {
		d.more = append(d.more, i < len(shown)-1)
		d.process(child)
		d.more = d.more[:len(d.more)-1]
	}
}

// hide counts processes that are not shown.
func (d *drawing) hide(p *pidtree.Process) {
	d.hidden++
	for child := range d.children(p) {
		d.hide(child)
	}
}

// deepest is how many columns lines may take where there is no window.
const deepest = 200

// branches are the lines from a root down to a process's name. Those of a deep tree
// are kept from filling the window: what is left out is at their beginning, and is
// not made.
func (d *drawing) branches() string {
	most := deepest
	if d.style.width > 0 {
		most = d.style.width / 3
	}
	var pieces strings.Builder
	for i := max(0, len(d.more)-most); i < len(d.more); i++ { // of several columns each
		pieces.WriteString(d.style.lines.piece(i == len(d.more)-1, d.more[i]))
	}
	runes := []rune(pieces.String())
	if len(runes) <= most {
		return string(runes)
	}
	return "…" + string(runes[len(runes)-most+1:])
}

// describe adds a process's name, what there is to say of it, and its arguments.
func (d *drawing) describe(r *row, p *pidtree.Process) {
	color := plain
	if p.Kthread {
		color = dim
	}
	name := safetext.Column(p.Comm)
	if p.Kthread {
		name = "[" + name + "]"
	}
	r.add(color, name)
	if p.Container != "" {
		r.add(cyan, gap+p.Container)
	} else if p.Inner() == 1 && p.Level() > 0 {
		name := "pidns:?" // the reader may not know
		if p.PIDNS != 0 {
			name = fmt.Sprintf("pidns:%d", p.PIDNS)
		}
		r.add(dim, gap+name)
	}
	if p.Visitor {
		r.add(yellow, strings.TrimSuffix(gap+"← visitor, "+p.Via, ", "))
	}
	switch p.State {
	case 'Z', 'X':
		r.add(red, gap+"zombie")
	case 'T':
		r.add(purple, gap+"stopped")
	case 't':
		r.add(purple, gap+"traced")
	}
	if p.Silent {
		r.add(red, gap+"does not answer")
	}
	if args := arguments(p); args != "" {
		r.add(dim, gap+args)
	}
}

// arguments are those of a process, without the first where that is its name.
func arguments(p *pidtree.Process) string {
	args := p.Args()
	if len(args) > 0 && len(args[0]) < 4096 && path.Base(args[0]) == p.Comm {
		args = args[1:]
	}
	shown := make([]string, len(args))
	for i, arg := range args {
		shown[i] = safetext.Escape(arg)
	}
	return strings.Join(shown, " ")
}
