// SPDX-License-Identifier: Apache-2.0

package safetext

import "testing"

func TestWord(t *testing.T) {
	for s, want := range map[string]string{
		"docker:web": "docker:web", "podman@user:a_b-c.d/e+f,g=h%i": "podman@user:a_b-c.d/e+f,g=h%i", "": "''", "x; id #": "'x; id #'",
		"a b": "'a b'", "it's": `'it'\''s'`, "'": `''\'''`, "$(id)": "'$(id)'", "`id`": "'`id`'", `a\b`: `'a\b'`, "~": "'~'", "*": "'*'",
		"é": "'é'", "a\nid": `'a\nid'`, "\x1b[2J": `'\x1b[2J'`, "'\n'": `''\''\n'\'''`,
	} {
		got := Word(s)
		if got != want {
			t.Errorf("%q: %q, want %q", s, got, want)
		}
		checkSafe(t, got, "")
	}
}

func TestColumn(t *testing.T) {
	for s, want := range map[string]string{
		"": "", "web": "web", "a b c": "a b c", "web  docker:web": `web \x20docker:web`, "a   b    c": `a \x20 b \x20 \x20c`,
		`a\  b`: `a\\ \x20b`, "a\n  b": `a\n \x20b`, "a\u00a0\u00a0b": `a\u00a0\u00a0b`,
	} {
		if got := Column(s); got != want || Column(got) != got || Escape(got) != got {
			t.Errorf("%q: %q, want %q", s, got, want)
		}
	}
}
