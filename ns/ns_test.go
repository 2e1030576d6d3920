// SPDX-License-Identifier: Apache-2.0

package ns

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
)

func TestMain(m *testing.M) { testutil.Main(m) }

// names are the kinds as namespaces(7) has them, with the flag of clone(2).
var names = []struct {
	kind Kind
	name string
	flag uint64
}{
	{PID, "pid", unix.CLONE_NEWPID}, {Mount, "mnt", unix.CLONE_NEWNS}, {Net, "net", unix.CLONE_NEWNET},
	{IPC, "ipc", unix.CLONE_NEWIPC}, {UTS, "uts", unix.CLONE_NEWUTS}, {User, "user", unix.CLONE_NEWUSER},
	{Cgroup, "cgroup", unix.CLONE_NEWCGROUP}, {Time, "time", unix.CLONE_NEWTIME},
}

func TestKinds(t *testing.T) {
	if len(Kinds()) != len(names) {
		t.Fatalf("%d kinds, want %d", len(Kinds()), len(names))
	}
	for i, want := range names {
		k := Kinds()[i]
		if k != want.kind || k.String() != want.name || k.Flag() != want.flag {
			t.Errorf("%d: %v, flag %#x, want %+v", i, k, k.Flag(), want)
		}
		if got, err := ParseKind(want.name); err != nil || got != k {
			t.Errorf("ParseKind(%q) = %v, %v", want.name, got, err)
		}
	}
	if got := Kind(99).String(); got != "kind 99" {
		t.Errorf("a kind that is none is called %q", got)
	}
}

func TestParseKinds(t *testing.T) {
	tests := []struct {
		list string
		want []Kind // nil: an error that quotes
		bad  string
	}{
		{"pid", []Kind{PID}, ""}, {"pid,mnt", []Kind{PID, Mount}, ""}, {" net , ipc ", []Kind{Net, IPC}, ""},
		{"user,cgroup,time,uts", []Kind{User, Cgroup, Time, UTS}, ""}, {"pid,pid", []Kind{PID, PID}, ""},
		{"", nil, `""`}, {"pid,", nil, `""`}, {"PID", nil, `"PID"`}, {"mount", nil, `"mount"`}, {"pid mnt", nil, `"pid mnt"`},
		{"pid,\x1b[2J", nil, `\x1b`},
	}
	for _, test := range tests {
		got, err := ParseKinds(test.list)
		if test.want != nil {
			if err != nil || !slices.Equal(got, test.want) {
				t.Errorf("%q: %v, %v, want %v", test.list, got, err, test.want)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), test.bad) {
			t.Errorf("%q: %v, %v, want an error with %s", test.list, got, err, test.bad)
		}
	}
}

// FuzzParseKinds: a list that is read is the same when written and read again.
func FuzzParseKinds(f *testing.F) {
	f.Add("pid,mnt, net")
	f.Fuzz(func(t *testing.T, list string) {
		kinds, err := ParseKinds(list)
		if err != nil {
			return
		}
		var words []string
		for _, k := range kinds {
			words = append(words, k.String())
		}
		if again, err := ParseKinds(strings.Join(words, ",")); err != nil || !slices.Equal(again, kinds) {
			t.Errorf("%q: %v, then %v, %v", list, kinds, again, err)
		}
	})
}

func TestKindJSON(t *testing.T) {
	b, err := json.Marshal(map[Kind]ID{Net: 5})
	if err != nil || string(b) != `{"net":5}` {
		t.Errorf("%s, %v", b, err)
	}
	var kinds []Kind
	if err := json.Unmarshal([]byte(`["time","pid"]`), &kinds); err != nil || !slices.Equal(kinds, []Kind{Time, PID}) {
		t.Errorf("%v, %v", kinds, err)
	}
	if err := json.Unmarshal([]byte(`["clock"]`), &kinds); err == nil {
		t.Errorf("%v: clock was read as a kind", kinds)
	}
}

func TestParseLink(t *testing.T) {
	tests := []struct {
		link, kind string
		want       ID // 0: an error
	}{
		{"pid:[4026531836]", "pid", 4026531836}, {"mnt:[1]", "mnt", 1}, {"net:[18446744073709551615]", "net", 1<<64 - 1},
		{"pid:[1]", "mnt", 0}, {"pid:[]", "pid", 0}, {"pid:[1", "pid", 0}, {"pid:1]", "pid", 0}, {"pid:[-1]", "pid", 0},
		{"pid:[+1]", "pid", 0}, {"pid:[1]]", "pid", 0}, {"pid:[1] (deleted)", "pid", 0}, {"", "pid", 0}, {"1", "pid", 0},
		{"pid:[18446744073709551616]", "pid", 0}, {"pid:[0x1]", "pid", 0},
	}
	for _, test := range tests {
		got, err := parseLink(test.link, test.kind)
		if got != test.want || (err == nil) != (test.want != 0) {
			t.Errorf("%q as %s: %d, %v, want %d", test.link, test.kind, got, err, test.want)
		}
	}
}

// FuzzParseLink: only what the kernel writes is read.
func FuzzParseLink(f *testing.F) {
	f.Add("pid:[4026531836]", "pid")
	f.Add("pid:[01]", "pid")
	f.Fuzz(func(t *testing.T, link, kind string) {
		id, err := parseLink(link, kind)
		if err != nil {
			return
		}
		number := strings.TrimLeft(strings.TrimSuffix(strings.TrimPrefix(link, kind+":["), "]"), "0")
		if want := strings.TrimLeft(fmt.Sprint(id), "0"); number != want {
			t.Errorf("%q was read as %d", link, id)
		}
	})
}

func TestDiffer(t *testing.T) {
	a := Set{PID: 1, Mount: 2, User: 3, Time: 4}
	tests := []struct {
		name string
		b    Set
		want []Kind
	}{
		{"same", a, nil},
		{"one", Set{PID: 1, Mount: 2, User: 9, Time: 4}, []Kind{User}},
		{"in the order of Kinds", Set{PID: 9, Mount: 2, User: 3, Time: 9}, []Kind{PID, Time}},
		{"a kind that one of them does not have", Set{PID: 1, Mount: 2, User: 3}, []Kind{Time}},
	}
	for _, test := range tests {
		if got := a.Differ(test.b); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
		if got := test.b.Differ(a); !slices.Equal(got, test.want) {
			t.Errorf("%s, the other way: %v, want %v", test.name, got, test.want)
		}
	}
}

// dirOf opens the /proc directory of a process.
func dirOf(t *testing.T, pid int) *os.File {
	t.Helper()
	dir, err := os.Open(fmt.Sprintf("/proc/%d", pid))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return dir
}

func TestOf(t *testing.T) {
	testutil.NoLeaks(t)
	own, err := Of(dirOf(t, os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range Kinds() {
		want, err := os.Readlink("/proc/self/ns/" + k.String())
		if got := fmt.Sprintf("%s:[%d]", k, own[k]); err != nil || got != want {
			t.Errorf("%s, %v, want %s", got, err, want)
		}
	}
	c := testutil.Throwaway(t, throwaway.Spec{Namespaces: unix.CLONE_NEWUTS | unix.CLONE_NEWIPC, Tree: throwaway.TreeHost})
	set, err := Of(dirOf(t, c.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	want := []Kind{IPC, UTS}
	if os.Geteuid() != 0 {
		want = append(want, User)
	}
	if got := set.Differ(own); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestOfWhatIsNot(t *testing.T) {
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if set, err := Of(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, %v, want fs.ErrNotExist", set, err)
	}
	if err := os.MkdirAll(dir.Name()+"/ns", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("pid:[1] and more than that", dir.Name()+"/ns/pid"); err != nil {
		t.Fatal(err)
	}
	if set, err := Of(dir); err == nil {
		t.Errorf("%v of links that are none of the kernel's", set)
	}
	dir.Close()
	if set, err := Of(dir); err == nil {
		t.Errorf("%v of a closed directory", set)
	}
}
