// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/sys"
	"github.com/outband/outband/internal/testutil"
)

func TestMain(m *testing.M) { testutil.Main(m) }

// groups makes a list of groups of lines as /proc/PID/cgroup has them.
func groups(t *testing.T, text string) []procfs.Group {
	t.Helper()
	gs, err := procfs.ParseGroups([]byte(strings.ReplaceAll(text, " ", "\n")))
	if err != nil {
		t.Fatal(err)
	}
	return gs
}

func TestUnified(t *testing.T) {
	tests := []struct{ text, want string }{
		{"0::/a/b", "/a/b"}, {"4:memory:/m 0::/u", "/u"}, {"0::/", "/"}, {"4:memory:/m", ""}, {"", ""},
		{"0::/..", ""}, {"0::/../../x", ""}, {"0::/..x", "/..x"}, {"0::/a/..b", "/a/..b"},
	}
	for _, test := range tests {
		if got := Unified(groups(t, test.text)); got != test.want {
			t.Errorf("%s: %q, want %q", test.text, got, test.want)
		}
	}
}

func TestTogether(t *testing.T) {
	tests := []struct {
		a, b string
		want bool
	}{
		{"0::/a", "0::/a", true}, {"0::/a", "0::/b", false}, {"0::/", "4:memory:/m 0::/", true}, {"4:memory:/m", "4:memory:/n", true},
		{"0::/../x", "0::/", false}, {"0::/../x", "", false},
	}
	for _, test := range tests {
		if got := Together(groups(t, test.a), groups(t, test.b)); got != test.want {
			t.Errorf("%s and %s: %v", test.a, test.b, got)
		}
	}
}

func TestElsewhere(t *testing.T) {
	tests := []struct{ target, self, want string }{
		{"0::/a", "0::/b", ""},
		{"4:memory:/m 3:cpu:/", "4:memory:/ 3:cpu:/", "4:memory:/m"},
		{"4:memory:/m", "9:memory:/m", ""}, // numbers are the mount's
		{"4:memory:/m 1:name=systemd:/s", "", "4:memory:/m 1:name=systemd:/s"},
		{"", "4:memory:/", ""},
	}
	for _, test := range tests {
		target := groups(t, test.target)
		before := slices.Clone(target)
		got, want := Elsewhere(target, groups(t, test.self)), groups(t, test.want)
		if !slices.Equal(got, want) || !slices.Equal(target, before) {
			t.Errorf("%s without %s: %v, want %v", test.target, test.self, got, want)
		}
	}
}

func TestCarries(t *testing.T) {
	tests := []struct {
		options, controllers string
		want                 bool
	}{
		{"rw,cpu,cpuacct", "cpu,cpuacct", true}, {"rw,cpu,cpuacct", "cpuacct", true}, {"rw,cpu", "cpu,cpuacct", false},
		{"rw,xattr,name=systemd", "name=systemd", true}, {"rw,name=systemd", "systemd", false}, {"rw,cpuacct", "cpu", false},
	}
	for _, test := range tests {
		m := procfs.Mount{SuperOptions: strings.Split(test.options, ",")}
		if got := carries(m, test.controllers); got != test.want {
			t.Errorf("%s carries %s: %v", test.options, test.controllers, got)
		}
	}
}

// group makes a group for a test in the unified hierarchy and returns the tree
// and its path.
func group(t *testing.T) (*Tree, string) {
	t.Helper()
	testutil.RequireRoot(t)
	tree, err := OpenTree()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tree.Close() })
	dir, err := os.MkdirTemp(tree.root.Name(), "test-outband-"+itoa(os.Getpid())+"-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	return tree, "/" + filepath.Base(dir)
}

func TestOpenTree(t *testing.T) {
	testutil.NoLeaks(t)
	testutil.RequireRoot(t)
	for name, open := range map[string]func() (*Tree, error){"mounted": OpenTree, "attached nowhere": detached} {
		t.Run(name, func(t *testing.T) {
			testutil.NoLeaks(t)
			tree, err := open()
			if err != nil {
				t.Fatal(err)
			}
			defer tree.Close()
			if kind(tree.root) != unix.CGROUP2_SUPER_MAGIC {
				t.Errorf("%s is of another kind", tree.root.Name())
			}
			dir, err := tree.open("/")
			if err != nil {
				t.Fatal(err)
			}
			defer dir.Close()
			if names, err := dir.Readdirnames(-1); err != nil || !slices.Contains(names, "cgroup.procs") {
				t.Errorf("%v, %v", names, err)
			}
		})
	}
}

// The options of the hierarchy are the machine's; a mount without them would
// take them away, which TestOpenTree sees where there are any (with systemd).
func TestTreeOptions(t *testing.T) {
	const (
		none = "22 1 8:1 / / rw - ext4 /dev/vda rw\n25 22 0:22 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"
		some = none + "26 22 0:23 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"
		bare = none + "26 22 0:23 / /mnt ro - cgroup2 none ro\n"
	)
	for _, test := range []struct{ self, first, want string }{
		{some, none, "nsdelegate memory_recursiveprot"},
		{none, some, "nsdelegate memory_recursiveprot"},
		{bare, some, ""},
		{none, none, ""},
		{"", "", ""},
	} {
		dir := t.TempDir()
		self, first := filepath.Join(dir, "self"), filepath.Join(dir, "1")
		if err := os.WriteFile(first, []byte(test.first), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(self, []byte(test.self), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(treeOptions(filepath.Join(dir, "no"), self, first), " "); got != test.want {
			t.Errorf("%q, %q: %q, want %q", test.self, test.first, got, test.want)
		}
	}
}

// Both ways lead to the same hierarchy: a group made by one is seen by the other.
func TestDetachedTreeIsTheSame(t *testing.T) {
	testutil.NoLeaks(t)
	_, path := group(t)
	other, err := detached()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	s, err := other.NewSession(path, false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	if err := s.End(); err != nil {
		t.Error(err)
	}
}

// A38: a path from a container does not lead out of the hierarchy.
func TestOpenStaysBeneath(t *testing.T) {
	testutil.NoLeaks(t)
	tree, path := group(t)
	for _, p := range []string{"/..", path + "/../..", "/../../etc", path + "/../../memory"} {
		// EAGAIN (openat2(2)): somebody mounts or renames something meanwhile.
		if dir, err := tree.open(p); !errors.Is(err, unix.EXDEV) && !errors.Is(err, unix.EAGAIN) {
			t.Errorf("%s: %v, %v, want EXDEV", p, dir, err)
		}
	}
	for _, p := range []string{path + "/no", path + " (deleted)", "/" + strings.Repeat("x", 255)} {
		if dir, err := tree.open(p); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), p) {
			t.Errorf("%s: %v, %v, want fs.ErrNotExist that names it", p, dir, err)
		}
	}
	if dir, err := tree.open(path + "/cgroup.procs"); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("a file: %v, %v, want ENOTDIR", dir, err)
	}
	tree.Close()
	if _, err := tree.open("/"); err == nil || err.Error() == "" {
		t.Errorf("closed: %v", err)
	}
}

// The file of a group takes a process in.
func TestOpenProcs(t *testing.T) {
	testutil.NoLeaks(t)
	tree, path := group(t)
	procs, err := tree.OpenProcs(path)
	if err != nil {
		t.Fatal(err)
	}
	defer procs.Close()
	cmd := sleeper(t)
	if _, err := procs.WriteString(itoa(cmd.Process.Pid)); err != nil {
		t.Fatal(err)
	}
	if got := unifiedOf(t, cmd.Process.Pid); got != path {
		t.Errorf("it is in %s, want %s", got, path)
	}
	end(cmd)
	if f, err := tree.OpenProcs(""); err == nil {
		t.Errorf("%v of no group", f)
	}
}

func TestOpenTasks(t *testing.T) {
	testutil.NoLeaks(t)
	fence := testutil.FencedCgroup(t, 50, 64<<20)
	dir := fence.Dirs[0]
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	mounts := procfs.ParseMounts(b)
	i := slices.IndexFunc(mounts, func(m procfs.Mount) bool { return m.Point == filepath.Dir(dir) && m.Type == "cgroup" })
	if i < 0 {
		t.Skip("skipped: needs a hierarchy of version 1")
	}
	in := procfs.Group{Controllers: "pids", Path: "/" + filepath.Base(dir)}
	files, err := OpenTasks([]procfs.Group{in}, mounts)
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	defer files[0].Close()
	if _, err := files[0].WriteString("x"); !errors.Is(err, unix.EINVAL) {
		t.Errorf("writing no number: %v, want EINVAL", err)
	}
	tests := []struct {
		name  string
		group procfs.Group
		want  error // nil: any
	}{
		{"gone", procfs.Group{Controllers: "pids", Path: in.Path + "/no"}, fs.ErrNotExist},
		{"outside", procfs.Group{Controllers: "pids", Path: "/../memory"}, unix.EXDEV},
		{"not mounted", procfs.Group{Controllers: "nothing", Path: "/"}, nil},
	}
	for _, test := range tests {
		files, err := OpenTasks([]procfs.Group{in, test.group}, mounts) // the first is closed again
		if err == nil || test.want != nil && !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.group.Path) {
			t.Errorf("%s: %v, %v, want %v", test.name, files, err, test.want)
		}
	}
}

// What CanKill says of the version is true of the kernel.
func TestCanKill(t *testing.T) {
	testutil.NoLeaks(t)
	tree, path := group(t)
	dir, err := tree.open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	var st unix.Stat_t
	if err := sys.Control(dir, func(fd int) { err = unix.Fstatat(fd, "cgroup.kill", &st, 0) }); err != nil {
		t.Fatal(err)
	}
	if got := tree.CanKill(); got != (err == nil) {
		t.Errorf("it says %v, cgroup.kill: %v", got, err)
	}
}
