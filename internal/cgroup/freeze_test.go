// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/testutil"
)

// noMounts stands for a machine whose mounts nobody can tell.
func noMounts() []procfs.Mount { return nil }

// freezerGroup makes a group with one below it in the freezer of version 1 and
// returns their directories.
func freezerGroup(t *testing.T) (outer, inner string) {
	t.Helper()
	testutil.RequireRoot(t)
	root, err := openFreezer(noMounts)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("skipped: there is no freezer of cgroup version 1")
	}
	if err != nil {
		t.Fatal(err)
	}
	root.Close()
	outer = filepath.Join(usualFreezer, fmt.Sprintf("test-outband-%d-freezer", os.Getpid()))
	inner = filepath.Join(outer, "inner")
	if err := os.MkdirAll(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(os.Remove(inner), os.Remove(outer)); err != nil {
			t.Error(err)
		}
	})
	return outer, inner
}

// member puts a sleeping child into a group; it is thawed, killed and reaped
// before the group is removed.
func member(t *testing.T, dir string, thaw func()) *exec.Cmd {
	t.Helper()
	cmd := sleeper(t)
	t.Cleanup(func() { thaw(); end(cmd) })
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(itoa(cmd.Process.Pid)), 0); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0); err != nil {
		t.Fatal(err)
	}
}

// A frozen group is told, be it the process's own or one above, and thawing lets
// all of them go.
func TestFrozen(t *testing.T) {
	testutil.NoLeaks(t)
	tree, outer := group(t)
	dir := filepath.Join(tree.root.Name(), outer)
	inner := filepath.Join(dir, "inner")
	if err := os.Mkdir(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(inner); err != nil {
			t.Error(err)
		}
	})
	freeze := func(dir, word string) { writeFile(t, filepath.Join(dir, "cgroup.freeze"), word) }
	member(t, inner, func() { freeze(dir, "0"); freeze(inner, "0") })
	target, self := groups(t, "0::"+outer+"/inner"), groups(t, "0::/")
	testFreezers(t, target, self, []Freezer{{outer + "/inner", false}, {outer, false}}, func(i int, on bool) {
		freeze([]string{inner, dir}[i], map[bool]string{true: "1", false: "0"}[on])
	})
}

func TestFrozenV1(t *testing.T) {
	testutil.NoLeaks(t)
	outer, inner := freezerGroup(t)
	freeze := func(dir, word string) { writeFile(t, filepath.Join(dir, "freezer.state"), word) }
	member(t, inner, func() { freeze(outer, "THAWED"); freeze(inner, "THAWED") })
	name := "/" + filepath.Base(outer)
	target, self := groups(t, "7:freezer:"+name+"/inner"), groups(t, "7:freezer:/")
	testFreezers(t, target, self, []Freezer{{name + "/inner", true}, {name, true}}, func(i int, on bool) {
		freeze([]string{inner, outer}[i], map[bool]string{true: "FROZEN", false: "THAWED"}[on])
	})
}

// testFreezers freezes each of two groups, inner and outer, and both.
func testFreezers(t *testing.T, target, self []procfs.Group, all []Freezer, freeze func(i int, on bool)) {
	t.Helper()
	for _, which := range [][]int{{}, {0}, {1}, {0, 1}} {
		var want []Freezer
		for _, i := range which {
			freeze(i, true)
			want = append(want, all[i])
		}
		got := Frozen(target, self, noMounts)
		if !slices.Equal(got, want) {
			t.Errorf("%v: %v, want %v", which, got, want)
		}
		if got := Frozen(target, target, noMounts); got != nil {
			t.Errorf("%v: of one's own group: %v", which, got)
		}
		if err := Thaw(got, noMounts); err != nil {
			t.Error(err)
		}
		if got := Frozen(target, self, noMounts); got != nil {
			t.Errorf("%v: %v after it was thawed", which, got)
		}
	}
}

// What is not there is not frozen, and cannot be thawed.
func TestFrozenNothing(t *testing.T) {
	testutil.NoLeaks(t)
	for _, text := range []string{"", "0::/", "0::/no/such/group", "0::/../x", "0::/../../x", "7:freezer:/no/such/group", "7:freezer:/../x", "7:freezer:/"} {
		if got := Frozen(groups(t, text), groups(t, "0::/own 7:freezer:/own"), noMounts); got != nil {
			t.Errorf("%s: %v", text, got)
		}
	}
	for _, f := range []Freezer{{"/no/such/group", false}, {"/../x", false}, {"/no/such/group", true}, {"/../x", true}} {
		if err := Thaw([]Freezer{f}, noMounts); err == nil {
			t.Errorf("%v: no error", f)
		}
	}
}
