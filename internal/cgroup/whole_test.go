// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/testutil"
)

func TestCommon(t *testing.T) {
	unified := func(g procfs.Group) bool { return g.Hierarchy == 0 }
	for _, test := range []struct {
		paths []string
		want  string
	}{
		{nil, ""}, {[]string{"/a"}, "/a"}, {[]string{"/a", "/a"}, "/a"}, {[]string{"/a/b", "/a"}, "/a"}, {[]string{"/a", "/a/b/c"}, "/a"},
		{[]string{"/a/b", "/a/c"}, "/a"}, {[]string{"/a", "/ab"}, ""}, {[]string{"/ab/c", "/ab/cd"}, "/ab"}, {[]string{"/"}, ""},
		{[]string{"/a", "/"}, ""}, {[]string{"/../x"}, ""}, {[]string{"/a", "/../x"}, ""},
	} {
		members := map[int][]procfs.Group{}
		for i, p := range test.paths {
			members[i+1] = groups(t, "3:cpu:/elsewhere 0::"+p)
		}
		if got := common(members, unified); got != test.want {
			t.Errorf("%q: %q, want %q", test.paths, got, test.want)
		}
	}
	if got := common(map[int][]procfs.Group{1: groups(t, "3:cpu:/x")}, unified); got != "" {
		t.Errorf("without that hierarchy: %q", got)
	}
}

// A group is a container's where nobody else is in it, or below.
func TestWhole(t *testing.T) {
	testutil.NoLeaks(t)
	tree, outer := group(t)
	dir := filepath.Join(tree.root.Name(), outer)
	inner := filepath.Join(dir, "inner")
	if err := os.Mkdir(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(inner) })
	one := member(t, dir, func() {}).Process.Pid
	two := member(t, inner, func() {}).Process.Pid
	nobody := func(int) bool { return false }
	both := map[int][]procfs.Group{one: groups(t, "0::"+outer), two: groups(t, "0::"+outer+"/inner")}
	if f, err := Whole(both, nobody, noMounts); err != nil || f != (Freezer{outer, false}) {
		t.Errorf("both: %v, %v", f, err)
	}
	first := map[int][]procfs.Group{one: both[one]}
	if f, err := Whole(first, nobody, noMounts); !errors.Is(err, ErrShared) {
		t.Errorf("with another below: %v, %v", f, err)
	}
	if f, err := Whole(first, func(pid int) bool { return pid == two }, noMounts); err != nil || f.Path != outer {
		t.Errorf("with one born meanwhile: %v, %v", f, err)
	}
	second := map[int][]procfs.Group{two: both[two]}
	if f, err := Whole(second, nobody, noMounts); err != nil || f.Path != outer+"/inner" {
		t.Errorf("the inner one: %v, %v", f, err)
	}
	for text, members := range map[string]map[int][]procfs.Group{
		"nobody": nil, "the root": {one: groups(t, "0::/")}, "outside": {one: groups(t, "0::/../x")},
	} {
		if f, err := Whole(members, nobody, noMounts); !errors.Is(err, ErrShared) {
			t.Errorf("%s: %v, %v", text, f, err)
		}
	}
	if f, err := Whole(map[int][]procfs.Group{one: groups(t, "0::/no/such/group")}, nobody, noMounts); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no such group: %v, %v", f, err)
	}
}

// Of version 1 it is the freezer that counts.
func TestWholeV1(t *testing.T) {
	testutil.NoLeaks(t)
	outer, _ := freezerGroup(t)
	name := "/" + filepath.Base(outer)
	cmd := member(t, outer, func() { writeFile(t, filepath.Join(outer, "freezer.state"), "THAWED") })
	members := map[int][]procfs.Group{cmd.Process.Pid: groups(t, "7:freezer:"+name+" 0::/")}
	f, err := Whole(members, func(int) bool { return false }, noMounts)
	if err != nil || f != (Freezer{name, true}) {
		t.Fatalf("%v, %v", f, err)
	}
	if err := f.Freeze(noMounts); err != nil {
		t.Fatal(err)
	}
	if got := Frozen(members[cmd.Process.Pid], groups(t, "7:freezer:/ 0::/own"), noMounts); len(got) != 1 || got[0] != f {
		t.Errorf("frozen: %v", got)
	}
	if err := Thaw([]Freezer{f}, noMounts); err != nil {
		t.Error(err)
	}
}

// A group that is not there cannot be frozen.
func TestFreezeNothing(t *testing.T) {
	testutil.NoLeaks(t)
	for _, f := range []Freezer{{"/no/such/group", false}, {"/../x", false}, {"/no/such/group", true}} {
		if err := f.Freeze(noMounts); err == nil {
			t.Errorf("%v: no error", f)
		}
	}
}
