// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// view is the part of a drawing that a window shows. It keeps its place: the line
// at its top stays where it is when others come and go.
type view struct {
	title  string
	all    bool
	forest *forest

	lines  []line // below the header
	header string
	top    int
	anchor key // of the line at the top
	height int // lines that fit
	style  style
	escape string // the beginning of a key that is several bytes
	last   string // what the window shows
}

// update takes a new picture.
func (v *view) update(t *forest) {
	v.forest = t
	v.style = styleOf(canvas())
	v.height = 22
	if size, err := unix.IoctlGetWinsize(1, unix.TIOCGWINSZ); err == nil && size.Row > 0 {
		v.height = max(1, int(size.Row)-2) // the header and the line at the bottom
	}
	v.set(draw(t, v.style, v.all))
}

// set takes new lines and finds the place again.
func (v *view) set(lines []line) {
	v.header, v.lines = lines[0].text, lines[1:]
	at := slices.IndexFunc(v.lines, func(l line) bool { return l.key == v.anchor && l.key != key{} })
	if at >= 0 {
		v.top = at
	}
	v.move(0)
}

// move goes so many lines down.
func (v *view) move(by int) {
	v.top = max(0, min(v.top+by, len(v.lines)-v.height))
	v.anchor = key{}
	if v.top > 0 && v.top < len(v.lines) { // the beginning is the place, whoever is there
		v.anchor = v.lines[v.top].key
	}
}

// press does what a key says, and tells whether that is to end.
func (v *view) press(b byte) (end bool) {
	if v.escape != "" || b == 0x1b {
		v.escape += string(rune(b))
		moves := map[string]int{
			"\x1b[A": -1, "\x1bOA": -1, "\x1b[B": 1, "\x1bOB": 1, "\x1b[5~": -v.height, "\x1b[6~": v.height,
			"\x1b[H": -len(v.lines), "\x1bOH": -len(v.lines), "\x1b[F": len(v.lines), "\x1bOF": len(v.lines),
		}
		if by, ok := moves[v.escape]; ok {
			v.move(by)
			v.escape = ""
		} else if len(v.escape) > 3 || len(v.escape) == 2 && b != '[' && b != 'O' {
			v.escape = ""
		}
		return false
	}
	switch b {
	case 'q', 'Q', 0x04: // ^D
		return true
	case 'k':
		v.move(-1)
	case 'j', '\n':
		v.move(1)
	case ' ', 'f':
		v.move(v.height)
	case 'b':
		v.move(-v.height)
	case 'g':
		v.move(-len(v.lines))
	case 'G':
		v.move(len(v.lines))
	case 'a':
		v.all = !v.all
		v.update(v.forest)
	}
	return false
}

// frame is all that the window shows.
func (v *view) frame() string {
	var b strings.Builder
	b.WriteString(home)
	b.WriteString(v.header + clearLine + "\r\n")
	end := min(v.top+v.height, len(v.lines))
	for _, l := range v.lines[v.top:end] {
		b.WriteString(l.text + clearLine + "\r\n")
	}
	b.WriteString(clearBelow)
	r := row{style: v.style}
	r.add(dim, fmt.Sprintf("%s  %d-%d of %d  q ends, a: all processes, arrows move", v.title, min(v.top+1, end), end, len(v.lines)))
	b.WriteString(r.text.String())
	return b.String()
}

// show brings the window up to date; nothing is written where nothing changed.
func (v *view) show(w io.Writer) error {
	frame := v.frame()
	if frame == v.last {
		return nil
	}
	v.last = frame
	_, err := io.WriteString(w, frame)
	return err
}
