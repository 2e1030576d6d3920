// SPDX-License-Identifier: Apache-2.0

package safetext

import (
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// hostile is text that has been used, or could be, to fool who reads a listing.
// It seeds the fuzzers too.
var hostile = []struct{ name, in, escaped, lines string }{
	{"empty", "", "", ""},
	{"plain", "web-1 (prod) 100% ~/x", "web-1 (prod) 100% ~/x", "web-1 (prod) 100% ~/x"},
	{"letters", "zażółć 容器 é ü", "zażółć 容器 é ü", "zażółć 容器 é ü"},
	{"emoji", "\U0001f4e6", "\U0001f4e6", "\U0001f4e6"},
	{"backslash alone", `C:\new \x1b`, `C:\new \x1b`, `C:\new \x1b`},
	{"backslash beside escape", "\\n\x1b", `\\n\x1b`, `\\n\x1b`},
	{"escape sequence", "\x1b]52;c;cm0=\a", `\x1b]52;c;cm0=\x07`, `\x1b]52;c;cm0=\x07`},
	{"overwrites the line", "root\rweb", `root\rweb`, `root\rweb`},
	{"line feed", "a) S 1\nb", `a) S 1\nb`, "a) S 1\nb"},
	{"tab", "a\tb", `a\tb`, "a\tb"},
	{"tab beside escape", "a\t\x00\nb\\", `a\t\x00\nb\\`, "a\t" + `\x00` + "\nb\\"},
	{"crlf", "a\r\n", `a\r\n`, "a\\r\n"},
	{"nul and delete", "\x00\x7f", `\x00\x7f`, `\x00\x7f`},
	{"c1 control sequence", "\u009b31m", `\u009b31m`, `\u009b31m`},
	{"lone bytes", "\x9b\xff\xc3", `\x9b\xff\xc3`, `\x9b\xff\xc3`},
	{"surrogate", "\xed\xa0\x80", `\xed\xa0\x80`, `\xed\xa0\x80`},
	{"overlong", "\xc0\x9b", `\xc0\x9b`, `\xc0\x9b`},
	{"right to left override", "\u202egpj.exe", `\u202egpj.exe`, `\u202egpj.exe`},
	{"bidi isolate", "a\u2066b\u2069", `a\u2066b\u2069`, `a\u2066b\u2069`},
	{"arabic letter mark", "\u061c", `\u061c`, `\u061c`},
	{"zero width", "w\u200be\u200db\u2060\ufeff", `w\u200be\u200db\u2060\ufeff`, `w\u200be\u200db\u2060\ufeff`},
	{"soft hyphen", "we\u00adb", `we\u00adb`, `we\u00adb`},
	{"spaces", "a\u00a0b\u3000c", `a\u00a0b\u3000c`, `a\u00a0b\u3000c`},
	{"line separators", "a\u0085b\u2028c\u2029", `a\u0085b\u2028c\u2029`, `a\u0085b\u2028c\u2029`},
	{"invisible letter", "a\u3164b\u115f", `a\u3164b\u115f`, `a\u3164b\u115f`},
	{"joiner and selectors", "a\u034fb\ufe0fc\U000e0100", `a\u034fb\ufe0fc\U000e0100`, `a\u034fb\ufe0fc\U000e0100`},
	{"tags", "\U000e0041", `\U000e0041`, `\U000e0041`},
	{"private use", "\ue000\U00100000", `\ue000\U00100000`, `\ue000\U00100000`},
	{"unassigned", "\u0378\U0010ffff", `\u0378\U0010ffff`, `\u0378\U0010ffff`},
	{"replacement character", "\ufffd", "\ufffd", "\ufffd"},
}

func TestEscape(t *testing.T) {
	for _, tt := range hostile {
		t.Run(tt.name, func(t *testing.T) {
			if got := Escape(tt.in); got != tt.escaped {
				t.Errorf("Escape(%q) = %q, want %q", tt.in, got, tt.escaped)
			}
			if got := Lines(tt.in); got != tt.lines {
				t.Errorf("Lines(%q) = %q, want %q", tt.in, got, tt.lines)
			}
			if got := String(tt.in).String(); got != tt.escaped {
				t.Errorf("String(%q).String() = %q, want %q", tt.in, got, tt.escaped)
			}
		})
	}
}

// unsafeRune is the test's own account of what may not reach a terminal: by
// general category, and by blocks, not by the function under test.
func unsafeRune(r rune) bool {
	switch {
	case unicode.In(r, unicode.C, unicode.Zl, unicode.Zp), unicode.Is(unicode.Zs, r) && r != ' ':
		return true
	case unicode.In(r, unicode.Bidi_Control, unicode.Join_Control, unicode.White_Space) && r != ' ':
		return true
	case 0xfe00 <= r && r <= 0xfe0f, 0xe0000 <= r && r <= 0xe0fff, 0x180b <= r && r <= 0x180f:
		return true
	case strings.ContainsRune("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0", r):
		return true
	}
	return false
}

// checkSafe fails if s holds anything that may not reach a terminal but what
// is in allowed.
func checkSafe(t *testing.T, s, allowed string) {
	t.Helper()
	if !utf8.ValidString(s) {
		t.Fatalf("%q is not valid UTF-8", s)
	}
	for i, r := range s {
		if unsafeRune(r) && !strings.ContainsRune(allowed, r) {
			t.Fatalf("%q has %U at %d", s, r, i)
		}
	}
}

// Every code point; combinations are the fuzzer's. Of the planes in which
// nothing is assigned, or all is for private use, a part stands for all.
func TestEveryRune(t *testing.T) {
	const page = 256
	for first := rune(0); first <= unicode.MaxRune; first += page {
		if plane := first >> 16; plane > 3 && plane != 14 && first&0xffff > 2*page && first&0xffff < 0xff00 {
			continue
		}
		var all strings.Builder
		for r := first; r < first+page; r++ {
			all.WriteRune(r)
		}
		s := all.String()
		checkSafe(t, Escape(s), "")
		checkSafe(t, Lines(s), "\n\t")
		js, err := String(s).MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		checkSafe(t, string(js), "")
	}
}

// What is ordinary in some script has to stay readable.
func TestOrdinaryTextStays(t *testing.T) {
	for _, table := range []*unicode.RangeTable{unicode.Latin, unicode.Cyrillic, unicode.Greek, unicode.Han,
		unicode.Hiragana, unicode.Arabic, unicode.Hebrew, unicode.Devanagari, unicode.Thai} {
		kept, all := 0, 0
		for r := rune(0x80); r <= unicode.MaxRune; r++ {
			if unicode.Is(table, r) {
				all++
				if Escape(string(r)) == string(r) {
					kept++
				}
			}
		}
		if kept*1000 < all*990 { // a few format characters belong to a script
			t.Errorf("only %d of %d kept", kept, all)
		}
	}
}

// original reads escapes as Go does; escaped text beside which something was
// escaped gives its source back.
func original(escaped string) (string, error) {
	return strconv.Unquote(`"` + strings.ReplaceAll(escaped, `"`, `\"`) + `"`)
}

func FuzzEscape(f *testing.F) {
	for _, tt := range hostile {
		f.Add(tt.in)
	}
	f.Fuzz(func(t *testing.T, s string) {
		one, many := Escape(s), Lines(s)
		checkSafe(t, one, "")
		checkSafe(t, many, "\n\t")
		if again := Escape(one); again != one {
			t.Errorf("Escape is not idempotent: %q, then %q", one, again)
		}
		if again := Lines(many); again != many {
			t.Errorf("Lines is not idempotent: %q, then %q", many, again)
		}
		if got, err := original(one); one != s && (err != nil || got != s) {
			t.Errorf("Escape(%q) = %q reads as %q, %v", s, one, got, err)
		}
		if got, want := strings.Count(many, "\n"), strings.Count(s, "\n"); got != want {
			t.Errorf("Lines(%q) has %d line feeds, want %d", s, got, want)
		}
		if !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) && one != s {
			t.Errorf("Escape(%q) = %q: printable ASCII was changed", s, one)
		}
	})
}

func TestEscapeDoesNotCopy(t *testing.T) {
	s := strings.Repeat("容器 and \\ more ", 100)
	if n := testing.AllocsPerRun(10, func() { Escape(s); Lines(s) }); n != 0 {
		t.Errorf("%v allocations for printable text", n)
	}
}

// recorder keeps writes apart and takes at most limit bytes of each.
type recorder struct {
	writes []string
	limit  int
	err    error
}

func (r *recorder) Write(p []byte) (int, error) {
	n := min(len(p), r.limit)
	r.writes = append(r.writes, string(p[:n]))
	return n, r.err
}

func TestWriter(t *testing.T) {
	r := &recorder{limit: 1 << 20}
	w := NewWriter(r)
	const message = "outband: enter \x1b[2Jweb\n\tend\xff\n"
	for _, in := range []string{message, "", "é"[:1], "é"[1:]} {
		if n, err := io.WriteString(w, in); n != len(in) || err != nil {
			t.Errorf("writing %q: %d, %v", in, n, err)
		}
	}
	want := []string{`outband: enter \x1b[2Jweb` + "\n\t" + `end\xff` + "\n", "", `\xc3`, `\xa9`}
	if strings.Join(r.writes, "|") != strings.Join(want, "|") {
		t.Errorf("wrote %q, want %q", r.writes, want)
	}
}

func TestWriterFails(t *testing.T) {
	full := errors.New("no space")
	tests := []struct {
		name string
		to   recorder
		want error
	}{
		{"error", recorder{limit: 2, err: full}, full},
		{"short", recorder{limit: 2}, io.ErrShortWrite},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if n, err := NewWriter(&tt.to).Write([]byte("\x1babc")); n != 0 || !errors.Is(err, tt.want) {
				t.Errorf("got %d, %v, want 0, %v", n, err, tt.want)
			}
		})
	}
}

func BenchmarkEscape(b *testing.B) {
	for _, bb := range []struct{ name, in string }{
		{"plain", "/system.slice/docker-0123456789abcdef.scope"},
		{"hostile", "/system.slice/\x1b[2Jdocker\u202e.scope\xff"},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Escape(bb.in)
			}
		})
	}
}
