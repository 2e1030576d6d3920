// SPDX-License-Identifier: Apache-2.0

package safetext

import (
	"bytes"
	"encoding/json"
	"unicode/utf16"
	"unicode/utf8"
)

// String is text that is safe wherever it ends up: it prints escaped and
// marshals as JSON that is printable and true. It serves encoders other than
// Marshal, and formats such as %s.
type String string

// String returns what Escape makes of s.
func (s String) String() string { return Escape(string(s)) }

// MarshalJSON returns s as a JSON string in which every rune that is not
// printable is written \uXXXX, beyond the basic plane as a surrogate pair. A
// byte that is not part of valid UTF-8 becomes \ufffd, since JSON has no way
// to say it: see Raw.
func (s String) MarshalJSON() ([]byte, error) {
	return appendString(make([]byte, 0, len(s)+len(s)/4+2), string(s)), nil
}

// AppendJSON appends what MarshalJSON returns of s.
func AppendJSON(dst []byte, s string) []byte { return appendString(dst, s) }

// Raw returns the bytes of s if it is not valid UTF-8, else nil: the value of
// the field that accompanies it, which encoding/json writes in base64.
//
//	Name    safetext.String `json:"name"`
//	NameRaw []byte          `json:"nameRaw,omitempty"`
//
// Marshal adds such fields by itself.
func Raw(s string) []byte {
	if utf8.ValidString(s) {
		return nil
	}
	return []byte(s)
}

// appendString appends s as a JSON string.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := 0; i < len(s); {
		n := plainLen(s[i:])
		dst = append(dst, s[i:i+n]...)
		if i += n; i == len(s) {
			break
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			dst = append(dst, `\ufffd`...)
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		default:
			dst = appendRune(dst, r)
		}
		i += size
	}
	return append(dst, '"')
}

// plainLen returns for how many bytes s is ASCII that JSON has as it is.
func plainLen(s string) int {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return i
		}
	}
	return len(s)
}

// appendRune appends r as it may stand in a JSON string.
func appendRune(dst []byte, r rune) []byte {
	switch {
	case printable(r):
		return utf8.AppendRune(dst, r)
	case r <= 0xffff:
		return appendHex(append(dst, `\u`...), uint32(r), 4)
	}
	high, low := utf16.EncodeRune(r)
	dst = appendHex(append(dst, `\u`...), uint32(high), 4)
	return appendHex(append(dst, `\u`...), uint32(low), 4)
}

// appendForeign appends JSON that another encoder made. In compact JSON only
// strings can hold what is not printable, and there \uXXXX says the same.
func appendForeign(dst, src []byte) ([]byte, error) {
	var compact bytes.Buffer
	if err := json.Compact(&compact, src); err != nil {
		return dst, err
	}
	for _, r := range compact.String() { // a stray byte is U+FFFD already
		dst = appendRune(dst, r)
	}
	return dst, nil
}
