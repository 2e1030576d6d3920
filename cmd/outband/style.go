// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/safetext"
)

// style is how facts are shown to people: what depends on where they go to.
type style struct {
	width int  // columns; 0: no end
	color bool // escape sequences of outband's own may be used
	lines lines
}

// lines are what trees are drawn with, each of the same width.
type lines struct{ branch, last, through, blank string }

func unicodeLines() lines { return lines{"├─ ", "└─ ", "│  ", "   "} }
func asciiLines() lines   { return lines{"|- ", "`- ", "|  ", "   "} }

// piece is what stands for a level: the last one leads to a name, the others pass
// by. more says that others follow on that level.
func (l lines) piece(last, more bool) string {
	switch {
	case last && more:
		return l.branch
	case last:
		return l.last
	case more:
		return l.through
	}
	return l.blank
}

// styleOf looks at what w is. Colours need a terminal that has them; NO_COLOR
// (no-color.org) and TERM=dumb are kept, as without TERM.
func styleOf(w io.Writer) style {
	s := style{lines: unicodeLines()}
	if !utf8Locale(os.Getenv) {
		s.lines = asciiLines()
	}
	f, ok := w.(*os.File)
	if !ok {
		return s
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return s
	}
	s.width = int(size.Col)
	if s.width == 0 {
		s.width = 80
	}
	s.color = os.Getenv("NO_COLOR") == "" && !dumb()
	return s
}

// dumb tells that no escape sequences may be sent to a terminal: it has none, or
// nobody knows which.
func dumb() bool {
	term := os.Getenv("TERM")
	return term == "" || term == "dumb"
}

// utf8Locale tells whether text is UTF-8, by the first of the variables that
// locale(7) asks; without any, it is taken for granted.
func utf8Locale(getenv func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if value := strings.ToUpper(getenv(name)); value != "" {
			return strings.Contains(value, "UTF-8") || strings.Contains(value, "UTF8")
		}
	}
	return true
}

// count is a number with the word for it.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// canvas is where drawings go to: past the sink, which would show the colours and
// movements as text. Each piece of a drawing that may be anybody's passes
// internal/safetext in row.add.
func canvas() *os.File { return os.Stdout }

// Colours, as SGR sequences (ECMA-48).
const (
	plain  = ""
	dim    = "2"
	red    = "31"
	yellow = "33"
	purple = "35"
	cyan   = "36"
	bold   = "1"
)

// row is a line of text that is put together from pieces, and is cut where the
// window ends. Pieces are made safe here.
type row struct {
	style style
	text  strings.Builder
	used  int
	full  bool
}

// add adds text that may be anybody's.
func (r *row) add(color, text string) {
	if r.full || text == "" {
		return
	}
	text = safetext.Escape(text)
	if r.style.width > 0 {
		left := r.style.width - r.used
		if safetext.Width(text) > left {
			text, r.full = safetext.Cut(text, left), true
		}
	}
	r.used += safetext.Width(text)
	if r.style.color && color != plain {
		text = "\x1b[" + color + "m" + text + "\x1b[0m"
	}
	r.text.WriteString(text)
}
