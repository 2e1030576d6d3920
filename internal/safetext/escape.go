// SPDX-License-Identifier: Apache-2.0

package safetext

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Escape returns s as one line in which everything is visible. What is not
// printable appears as Go writes it:
//
//	\n \r \t          these three
//	\x1b              other C0 controls and DEL
//	\xff              a byte that is not part of valid UTF-8
//	\u009b \U000e0001 C1, bidi controls, zero-width and other invisible runes,
//	                  spaces but U+0020, surrogates, unassigned code points
//
// Backslashes are doubled only where something else was escaped: text that is
// printable throughout is returned as it is, without a copy. So escaping twice
// is the same as escaping once, and where an escape appears beside a backslash,
// strconv.Unquote has the original. What this leaves open is whether text that
// looks like escapes only was so from the start; JSON tells.
func Escape(s string) string {
	if visible(s, false) {
		return s
	}
	return string(appendEscaped(make([]byte, 0, len(s)+len(s)/2), s, false))
}

// Lines is Escape for text of several lines: line feeds and tabs stay, and the
// rule on backslashes holds for each line by itself. A carriage return is
// escaped, since it would overwrite the line.
func Lines(s string) string {
	if visible(s, true) {
		return s
	}
	dst := make([]byte, 0, len(s)+len(s)/2)
	for line := range strings.SplitAfterSeq(s, "\n") {
		if visible(line, true) {
			dst = append(dst, line...)
			continue
		}
		body, ended := strings.CutSuffix(line, "\n")
		dst = appendEscaped(dst, body, true)
		if ended {
			dst = append(dst, '\n')
		}
	}
	return string(dst)
}

// visible tells whether s can be shown as it is. In lines, line feeds and tabs
// can.
func visible(s string, lines bool) bool {
	for i := 0; i < len(s); {
		if ' ' <= s[i] && s[i] <= '~' { // nearly always
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			return false
		case lines && (r == '\n' || r == '\t'):
		case !printable(r):
			return false
		}
		i += size
	}
	return true
}

// appendEscaped appends s, of which something has to be escaped. Tabs stay if
// asked for.
func appendEscaped(dst []byte, s string, tabs bool) []byte {
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			dst = appendHex(append(dst, `\x`...), uint32(s[i]), 2)
		case r == '\\':
			dst = append(dst, `\\`...)
		case r == '\t' && tabs, printable(r):
			dst = append(dst, s[i:i+size]...)
		default:
			dst = appendInvisible(dst, r)
		}
		i += size
	}
	return dst
}

// appendInvisible appends the escape of a rune that is not printable.
func appendInvisible(dst []byte, r rune) []byte {
	switch {
	case r == '\n':
		return append(dst, `\n`...)
	case r == '\r':
		return append(dst, `\r`...)
	case r == '\t':
		return append(dst, `\t`...)
	case r < utf8.RuneSelf:
		return appendHex(append(dst, `\x`...), uint32(r), 2)
	case r <= 0xffff: // \x9b would be a lone byte, hence \u009b for C1
		return appendHex(append(dst, `\u`...), uint32(r), 4)
	}
	return appendHex(append(dst, `\U`...), uint32(r), 8)
}

// appendHex appends the low digits of v.
func appendHex(dst []byte, v uint32, digits int) []byte {
	for shift := 4 * (digits - 1); shift >= 0; shift -= 4 {
		dst = append(dst, "0123456789abcdef"[v>>shift&0xf])
	}
	return dst
}

// printable tells whether r may reach a terminal (class A17). unicode.IsPrint
// leaves out all of Cc, Cf, Co, Cs, Cn, Zl, Zp and the spaces but U+0020; the
// two properties are letters, marks and fillers that show nothing, such as
// U+3164 and the variation selectors, in which a name can hide another.
func printable(r rune) bool {
	if r < utf8.RuneSelf {
		return ' ' <= r && r <= '~'
	}
	return unicode.IsPrint(r) &&
		!unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}
