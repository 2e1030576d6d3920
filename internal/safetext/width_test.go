// SPDX-License-Identifier: Apache-2.0

package safetext

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestWidth(t *testing.T) {
	for s, want := range map[string]int{
		"": 0, "abc": 3, "äöü": 3, "e\u0301": 1, "日本": 4, "한": 2, "ｆ": 2, "🐳": 2, "│├└─…←": 6, "שלום": 4, "क्": 1, "⌚": 2, "\u1112\u1161\u11ab": 2,
	} {
		if got := Width(s); got != want {
			t.Errorf("%q: %d, want %d", s, got, want)
		}
	}
}

func TestCut(t *testing.T) {
	for _, test := range []struct {
		s       string
		columns int
		want    string
	}{
		{"abc", 3, "abc"}, {"abcd", 3, "ab…"}, {"abcd", 1, "…"}, {"abcd", 0, ""}, {"abcd", -1, ""}, {"日本語", 6, "日本語"}, {"日本語", 5, "日本…"},
		{"日本語", 4, "日…"}, {"日本", 1, "…"}, {"e\u0301e\u0301e\u0301", 3, "e\u0301e\u0301e\u0301"}, {"e\u0301e\u0301e\u0301", 2, "e\u0301…"},
	} {
		if got := Cut(test.s, test.columns); got != test.want {
			t.Errorf("%q in %d: %q, want %q", test.s, test.columns, got, test.want)
		}
	}
	if Pad("日", 4) != "日  " || Pad("abc", 2) != "abc" {
		t.Errorf("%q", Pad("日", 4))
	}
}

func FuzzCut(f *testing.F) {
	f.Add("日本語e\u0301", 3)
	f.Fuzz(func(t *testing.T, s string, columns int) {
		s = Escape(s)
		got := Cut(s, columns)
		if Width(got) > max(columns, 0) || !utf8.ValidString(got) || got != s && !strings.HasPrefix(s, strings.TrimSuffix(got, "…")) {
			t.Errorf("%q in %d: %q", s, columns, got)
		}
	})
}
