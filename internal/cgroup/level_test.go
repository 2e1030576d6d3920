// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/testutil"
)

// pathsOf are the groups of an iteration.
func pathsOf(groups []procfs.Group, controller string, mounts func() []procfs.Mount) (paths []string) {
	for l := range Levels(groups, controller, mounts) {
		paths = append(paths, l.Path)
	}
	return paths
}

// TestLevels goes up from a group of the unified hierarchy and reads its files.
func TestLevels(t *testing.T) {
	testutil.NoLeaks(t)
	tree, outer := group(t)
	inner := filepath.Join(tree.root.Name(), outer, "inner")
	if err := os.Mkdir(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(inner) })
	writeFile(t, filepath.Join(inner, "cgroup.max.depth"), "7")
	in := groups(t, "0::"+outer+"/inner")
	var paths []string
	for l := range Levels(in, "", noMounts) {
		paths = append(paths, l.Path)
		depth, err := l.Number("cgroup.max.depth")
		if want := map[bool]uint64{true: 7, false: Unlimited}[l.Path == outer+"/inner"]; err != nil || depth != want || l.V1 {
			t.Errorf("%+v: depth %d, %v", l, depth, err)
		}
		events, err := l.Values("cgroup.events")
		if populated, ok := events["populated"]; err != nil || !ok || populated != 0 {
			t.Errorf("%s: %v, %v", l.Path, events, err)
		}
		if _, err := l.Number("cgroup.events"); err == nil {
			t.Errorf("%s: its events are a number", l.Path)
		}
		if _, err := l.Read("none"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", l.Path, err)
		}
	}
	if !slices.Equal(paths, []string{outer + "/inner", outer}) {
		t.Errorf("%q", paths)
	}
	for range Levels(in, "", noMounts) {
		break // what it has open is closed: NoLeaks
	}
	for _, none := range []string{"0::/", "0::/../x", "0::/..", "3:cpu:/x"} {
		if got := pathsOf(groups(t, none), "", noMounts); got != nil {
			t.Errorf("%s: %q", none, got)
		}
	}
}

// TestLevels1 goes up in a hierarchy of version 1, for which a directory stands.
func TestLevels1(t *testing.T) {
	testutil.NoLeaks(t)
	root, elsewhere := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{"a/b/memory.limit_in_bytes": "4096\n", "a/memory.limit_in_bytes": "9223372036854771712\n"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		writeNew(t, filepath.Join(root, name), text)
	}
	writeNew(t, filepath.Join(elsewhere, "memory.limit_in_bytes"), "1\n")
	if err := os.Symlink(elsewhere, filepath.Join(root, "a/link")); err != nil {
		t.Fatal(err)
	}
	mounts := func() []procfs.Mount {
		return []procfs.Mount{
			{Type: "cgroup", Root: "/", Point: elsewhere, SuperOptions: []string{"rw", "cpu"}},
			{Type: "cgroup", Root: "/a", Point: elsewhere, SuperOptions: []string{"rw", "memory"}}, // a part of it
			{Type: "tmpfs", Root: "/", Point: elsewhere, SuperOptions: []string{"rw", "memory"}},
			{Type: "cgroup", Root: "/", Point: root, SuperOptions: []string{"rw", "memory", "hugetlb"}},
		}
	}
	in := groups(t, "7:hugetlb,memory:/a/b 3:cpu:/x 0::/unified")
	var limits []uint64
	for l := range Levels(in, "memory", mounts) {
		n, err := l.Number("memory.limit_in_bytes")
		if limits = append(limits, n); err != nil || !l.V1 {
			t.Errorf("%+v: %v", l, err)
		}
	}
	if !slices.Equal(limits, []uint64{4096, Unlimited}) {
		t.Errorf("%d", limits)
	}
	// A38: a path is a container's, and leads nowhere else.
	for l := range Levels(groups(t, "7:memory:/a/link"), "memory", mounts) {
		if n, err := l.Number("memory.limit_in_bytes"); l.Path == "/a/link" && err == nil {
			t.Errorf("%s: a link is followed, to %d", l.Path, n)
		}
		break
	}
	for _, none := range []string{"7:memory:/", "7:memory:/../a", "7:pids:/a"} {
		controller := map[bool]string{true: "pids", false: "memory"}[none == "7:pids:/a"]
		if got := pathsOf(groups(t, none), controller, mounts); got != nil {
			t.Errorf("%s: %q", none, got)
		}
	}
}

func writeNew(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestParseBound(t *testing.T) {
	for text, want := range map[string]uint64{
		"max": Unlimited, "0": 0, "4096": 4096, "9223372036854771712": Unlimited, // of a page of 4 KiB
		"9223372036854710272": Unlimited, // of one of 64 KiB
		"1152921504606846976": 1 << 60,
	} {
		if got, err := parseBound(text); err != nil || got != want {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "-1", "max ", "1 2", "0x10"} {
		if got, err := parseBound(text); err == nil {
			t.Errorf("%q: %d", text, got)
		}
	}
}

func TestParseValues(t *testing.T) {
	got := parseValues("low 0\nmax 12\noom_kill 3\nbad\nworse x\nnegative -1\ntwo 1 2\n\nlast 7")
	want := map[string]uint64{"low": 0, "max": 12, "oom_kill": 3, "last": 7}
	if len(got) != len(want) {
		t.Errorf("%v", got)
	}
	for name, n := range want {
		if v, ok := got[name]; !ok || v != n {
			t.Errorf("%s: %d, want %d", name, v, n)
		}
	}
}
