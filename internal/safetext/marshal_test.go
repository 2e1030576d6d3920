// SPDX-License-Identifier: Apache-2.0

package safetext

import (
	"encoding/json"
	"math"
	"math/big"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestString(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"plain", `a <b> & "c"\`, `"a <b> & \"c\"\\"`},
		{"controls", "\x1b\n\x7f\u009b", `"\u001b\u000a\u007f\u009b"`},
		{"bidi", "\u202ea\u2069", `"\u202ea\u2069"`},
		{"surrogate pair", "\U000e0041\U0010ffff", `"\udb40\udc41\udbff\udfff"`},
		{"printable", "é容\U0001f4e6\ufffd", "\"é容\U0001f4e6\ufffd\""},
		{"invalid", "a\xffb", `"a\ufffdb"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := String(tt.in).MarshalJSON()
			if err != nil || string(got) != tt.want {
				t.Errorf("got %s, %v, want %s", got, err, tt.want)
			}
			if got, err := Marshal(tt.in); err != nil || string(got) != tt.want {
				t.Errorf("Marshal: got %s, %v, want %s", got, err, tt.want)
			}
		})
	}
}

func TestRaw(t *testing.T) {
	if got := Raw("é\x1b"); got != nil {
		t.Errorf("valid text has raw bytes %q", got)
	}
	if got := Raw("\xe9"); string(got) != "\xe9" {
		t.Errorf("got %q", got)
	}
}

type label string

type base struct {
	ID    string `json:"id"`
	inner int
}

type extra struct {
	Note string `json:"note"`
}

// evil says of itself what no terminal should see.
type evil struct{ s string }

func (e evil) MarshalJSON() ([]byte, error) { return []byte("{ \"k\": \"" + e.s + "\" }"), nil }

type byPointer struct{ n int }

func (p *byPointer) MarshalText() ([]byte, error) { return []byte("by\u202epointer"), nil }

func TestMarshal(t *testing.T) {
	s := "x\xff"
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	tests := []struct {
		name string
		in   any
		want string
	}{
		{"nil", nil, `null`},
		{"numbers", []any{1, int8(-1), uint64(math.MaxUint64), 1.5, true}, `[1,-1,18446744073709551615,1.5,true]`},
		{"nil slice and map", struct {
			A []string
			B map[string]int
			C *int
			D any
		}{}, `{"A":[],"B":{},"C":null,"D":null}`},
		{"tags", struct {
			Skip   string `json:"-"`
			Dash   string `json:"-,"`
			Empty  string `json:"empty,omitempty"`
			Zero   time.Time
			ZeroT  time.Time `json:"zero,omitzero"`
			hidden string
		}{Skip: "s", Zero: at}, `{"-":"","Zero":"2026-01-02T03:04:05.000000006Z"}`},
		{"embedded", struct {
			base
			*extra
			More *extra `json:"more"`
		}{base{"i", 1}, nil, &extra{"n"}}, `{"id":"i","more":{"note":"n"}}`},
		{"embedded pointer", struct {
			*extra
			A int
		}{&extra{"n\xff"}, 1}, `{"note":"n\ufffd","noteRaw":"bv8=","A":1}`},
		{"bytes", struct{ B []byte }{[]byte{0xff, 0}}, `{"B":"/wA="}`},
		{"raw string", struct{ Name string }{s}, `{"Name":"x\ufffd","NameRaw":"eP8="}`},
		{"raw named types", struct {
			A String
			B label
			C *string
			D any
		}{String(s), label(s), &s, s}, `{"A":"x\ufffd","ARaw":"eP8=","B":"x\ufffd","BRaw":"eP8=",` +
			`"C":"x\ufffd","CRaw":"eP8=","D":"x\ufffd","DRaw":"eP8="}`},
		{"raw list", struct{ Args []string }{[]string{"ok", s}}, `{"Args":["ok","x\ufffd"],"ArgsRaw":[null,"eP8="]}`},
		{"raw nested list", struct{ L [][]string }{[][]string{{"a"}, {s, ""}}},
			`{"L":[["a"],["x\ufffd",""]],"LRaw":[null,["eP8=",null]]}`},
		{"raw map", struct{ M map[string]string }{map[string]string{"a": "1", "b": s}},
			`{"M":{"a":"1","b":"x\ufffd"},"MRaw":{"b":"eP8="}}`},
		{"raw only where it is", struct{ L []extra }{[]extra{{"a"}, {s}}},
			`{"L":[{"note":"a"},{"note":"x\ufffd","noteRaw":"eP8="}]}`},
		{"keys", map[string]int{"b": 1, "a\x1b": 2, "k\xff": 3}, `{"a\u001b":2,"b":1,"k\\xff":3}`},
		{"first key after brace text", struct{ A, B string }{"{", "{"}, `{"A":"{","B":"{"}`},
		{"marshaler is made safe", struct{ E evil }{evil{"a\u202e\u009b\xffé"}}, `{"E":{"k":"a\u202e\u009b` + "\ufffd" + `é"}}`},
		{"raw message", json.RawMessage("{\n\"a\" : \"\u200b\"}"), `{"a":"\u200b"}`},
		{"text marshaler", netip.MustParseAddr("::1"), `"::1"`},
		{"methods of the pointer", []any{*big.NewInt(7), byPointer{1}, struct{ P byPointer }{}},
			`[7,"by\u202epointer",{"P":"by\u202epointer"}]`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Marshal(tt.in)
			if err != nil || string(got) != tt.want {
				t.Errorf("got  %s, %v\nwant %s", got, err, tt.want)
			}
			checkSafe(t, string(got), "")
		})
	}
}

func TestMarshalRefuses(t *testing.T) {
	tests := []struct {
		name string
		in   any
		want string
	}{
		{"channel", struct{ C chan int }{}, "C: "},
		{"number that is none", math.NaN(), "NaN"},
		{"quoted", struct {
			N int `json:"n,string"`
		}{}, "field N"},
		{"key", map[int]string{1: ""}, "map[int]string"},
		{"broken marshaler", evil{`"`}, "json"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := Marshal(tt.in); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %s, %v, want an error with %q", got, err, tt.want)
			}
		})
	}
}

// For what both can say, Marshal means the same as encoding/json.
func TestMarshalAgreesWithJSON(t *testing.T) {
	in := rowOf("web", "a\U000e0041\n<\u2028", []string{"ps", "--", "é"}, -3)
	mine, err := Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var a, b any
	if err := json.Unmarshal(mine, &a); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(theirs, &b); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(a, b) {
		t.Errorf("got  %s\nwant %s", mine, theirs)
	}
}

// row has what rows of the tool's tables have.
type row struct {
	Name     string   `json:"name"`
	Args     []string `json:"args"`
	Pids     []int    `json:"pids"`
	Parent   *row     `json:"parent,omitempty"`
	Children []row    `json:"children"`
	Deep     [][]String
	Where    *string `json:"where"`
	extra
}

func rowOf(name, note string, args []string, pid int) row {
	leaf := row{Name: note, Args: args, Pids: []int{pid}, Children: []row{}, Deep: [][]String{}}
	return row{Name: name, Args: append([]string{note}, args...), Pids: []int{1, pid}, Parent: &leaf,
		Children: []row{leaf}, Deep: [][]String{{String(name)}, {"", String(note)}}, Where: &name, extra: extra{note}}
}

func FuzzMarshal(f *testing.F) {
	for i, tt := range hostile {
		f.Add(tt.in, hostile[len(hostile)-1-i].in)
	}
	f.Fuzz(func(t *testing.T, name, note string) {
		want := rowOf(name, note, strings.Split(note, " "), len(name))
		b, err := Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		checkSafe(t, string(b), "")
		if !json.Valid(b) {
			t.Fatalf("%s is not JSON", b)
		}
		var got row
		if err := Unmarshal(b, &got); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s\ngives %+v\nwant  %+v", b, got, want)
		}
		keys, err := Marshal(map[string]any{name: note, note: []string{name}})
		if err != nil || !json.Valid(keys) {
			t.Fatalf("map: %s, %v", keys, err)
		}
		checkSafe(t, string(keys), "")
	})
}

// What is read need not be what Marshal wrote.
func FuzzUnmarshal(f *testing.F) {
	for _, s := range []string{
		`{"name":"a","nameRaw":"/w==","args":["x"],"argsRaw":[null,"/w=="],"children":[{"noteRaw":"/w=="}]}`,
		`{"nameRaw":[[]],"argsRaw":"/w==","whereRaw":"/w==","DeepRaw":[["/w=="]],"pidsRaw":["/w=="]}`,
		`{"nameRaw":"!"}`, `{"parent":null,"parentRaw":{"a":1}}`, `[]`, `null`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var a, b row
		err := Unmarshal(data, &a)
		if jerr := json.Unmarshal(data, &b); jerr != nil && err == nil {
			t.Errorf("%q is read although %v", data, jerr)
		}
		if err != nil {
			return
		}
		again, err := Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		checkSafe(t, string(again), "")
	})
}

func TestUnmarshalRefuses(t *testing.T) {
	var r row
	for _, s := range []string{`{`, `{"name":1}`, `{"name":"","nameRaw":"!"}`} {
		if err := Unmarshal([]byte(s), &r); err == nil {
			t.Errorf("%s was read", s)
		}
	}
}

func BenchmarkMarshal(b *testing.B) {
	r := rowOf("web", "/system.slice/docker-0123456789abcdef.scope", []string{"ps", "ax"}, 4711)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Marshal(r); err != nil {
			b.Fatal(err)
		}
	}
}

// A grade is a byte that has a text.
type grade uint8

func (g grade) MarshalText() ([]byte, error) { return []byte{'A' + byte(g)}, nil }

// A list of bytes that have an encoding of their own is a list, as in
// encoding/json.
func TestMarshalBytesWithText(t *testing.T) {
	got, err := Marshal(struct{ Grades []grade }{[]grade{0, 2}})
	if want := `{"Grades":["A","C"]}`; err != nil || string(got) != want {
		t.Errorf("%s, %v, want %s", got, err, want)
	}
}
