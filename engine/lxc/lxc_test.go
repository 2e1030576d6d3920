// SPDX-License-Identifier: Apache-2.0

package lxc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/outband/outband/engine"
	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/testutil"
)

// machine is the processes of the machine on which testdata was recorded: LXC
// 5.0.2 with one container.
func machine(t *testing.T) []procfs.Task {
	t.Helper()
	title, err := os.ReadFile("testdata/monitor.cmdline")
	if err != nil {
		t.Fatal(err)
	}
	return []procfs.Task{
		{PID: 1, NSpid: []int{1}, Start: 1},
		{PID: 24708, Parent: 1, NSpid: []int{24708}, Start: 2, Comm: "lxc-start", Cmdline: string(title)},
		{PID: 24709, Parent: 24708, NSpid: []int{24709, 1}, Start: 3, PIDNS: 4026532547},
	}
}

func list(t *testing.T, root string, tasks []procfs.Task) (names []string) {
	t.Helper()
	all, err := engine.Recorded(root, tasks).List(context.Background(), []engine.Engine{Engine{}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range all {
		names = append(names, all[i].FullName()+" "+string(all[i].State))
	}
	return names
}

func TestList(t *testing.T) {
	root := testutil.Private(t, "testdata/host")
	stopped := filepath.Join(root, "var/lib/lxc/off")
	if err := os.MkdirAll(stopped, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(stopped, "config"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, want := list(t, root, machine(t)), []string{"lxc:lx1 running", "lxc:off stopped"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// A user's containers are found where LXC has them by default, and where one runs;
// what is configured is told.
func TestStopped(t *testing.T) {
	root := testutil.Private(t, "testdata/host")
	for path, text := range map[string]string{
		"etc/passwd":                              "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n",
		"run/user/1000/x":                         "",
		"home/ann/.local/share/lxc/web/config":    "# lxc.signal.halt = 9\nlxc.signal.halt = SIGTERM\n lxc.signal.halt=SIGRTMIN+3\n",
		"home/ann/.local/share/lxc/no/rootfs/x":   "",
		"srv/lxc/lx2/config":                      "lxc.include = /x\n",
		"home/ann/.local/share/lxc/file":          "",
		"var/lib/lxc/lx1/config":                  "",
		"home/nobody/.local/share/lxc/web/config": "",
	} {
		path = filepath.Join(root, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	// lx1 runs in /srv/lxc, and is stopped in /var/lib/lxc.
	want := []string{"lxc:lx1 running", "lxc:lx1 stopped", "lxc:lx2 stopped", "lxc@ann:web stopped"}
	if got := list(t, root, machine(t)); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	all, err := engine.Recorded(root, machine(t)).List(context.Background(), []engine.Engine{Engine{}})
	if err != nil || all[3].StopSignal != "SIGRTMIN+3" || all[2].StopSignal != "" || !all[0].Reboots {
		t.Errorf("%+v, %v", all, err)
	}
	if s := all[0].Supervisor; s == nil || s.Name != "lxc monitor" || s.PID != 24708 || s.Start != 2 || all[1].Supervisor != nil {
		t.Errorf("%+v", s)
	}
}

// Who only calls itself a monitor is none.
func TestForged(t *testing.T) {
	root := testutil.Private(t, "testdata/host")
	for what, change := range map[string]func(*procfs.Task){
		"inside":              func(t *procfs.Task) { t.NSpid = []int{24708, 7} },
		"no configuration":    func(t *procfs.Task) { t.Cmdline = "[lxc monitor] /srv/lxc lx2\x00" },
		"a user that is none": func(t *procfs.Task) { t.UID = 1000 },
	} {
		tasks := machine(t)
		change(&tasks[1])
		if got := list(t, root, tasks); len(got) != 0 {
			t.Errorf("%s: %q", what, got)
		}
	}
	if err := os.Chmod(filepath.Join(root, "srv/lxc/lx1/config"), 0o666); err != nil {
		t.Fatal(err)
	}
	got, err := Engine{}.List(context.Background(), engine.Recorded(root, machine(t)))
	if len(got) != 0 || !errors.Is(err, fs.ErrPermission) {
		t.Errorf("a configuration that others can write: %v, %v", got, err)
	}
}

// Where the containers lie tells LXC's from those of managers above it.
func TestManagers(t *testing.T) {
	root := testutil.Private(t, "testdata/host")
	for _, dir := range []string{"web", "lab_web", "lab_db", "_", "_x", "x_"} {
		if err := os.MkdirAll(filepath.Join(root, "var/lib/incus/containers", dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	others := []string{"incus:_ stopped", "incus:_x stopped", "incus:lab/db stopped"}
	for name, want := range map[string][]string{
		"web": {"incus:lab/web stopped", "incus:web running"}, "lab_web": {"incus:lab/web running", "incus:web stopped"},
	} {
		tasks := machine(t)
		tasks[1].Cmdline = "[lxc monitor] /var/lib/incus/containers " + name + "\x00"
		want = append(append(slices.Clone(others), want...), "incus:x_ stopped")
		if got := list(t, root, tasks); !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// Containers of one name have the same order each time.
func TestOrder(t *testing.T) {
	root := t.TempDir()
	passwd := "root:x:0:0::/root:/bin/sh\n"
	var want []string
	for _, path := range slices.Sorted(maps.Keys(managers())) {
		want = append(want, managers()[path]+":web stopped")
		if err := os.MkdirAll(filepath.Join(root, path, "web"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 5 {
		user := fmt.Sprint("u", i)
		want = append(want, "lxc@"+user+":web stopped")
		passwd += fmt.Sprintf("%s:x:%d:100::/home/%s:/bin/sh\n", user, 1000+i, user)
		path := filepath.Join(root, "home", user, ".local/share/lxc/web/config")
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.MkdirAll(filepath.Join(root, "etc"), 0o700), os.WriteFile(filepath.Join(root, "etc/passwd"), []byte(passwd), 0o600)); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if got := list(t, root, nil); !slices.Equal(got, want) {
			t.Fatalf("%q, want %q", got, want)
		}
	}
}

func TestParseTitle(t *testing.T) {
	for title, want := range map[string][2]string{
		"/var/lib/lxc web": {"/var/lib/lxc", "web"}, "/a b/c web": {"/a b/c", "web"}, "/x/ web": {"/x", "web"}, "web": {}, "": {}, "x web": {}, "/x ..": {}, "/x a/b": {}, "/x ": {},
	} {
		if path, name := ParseTitle(title); path != want[0] || name != want[1] {
			t.Errorf("%q: %q, %q", title, path, name)
		}
	}
}

func FuzzParseTitle(f *testing.F) {
	f.Add("/var/lib/lxc web")
	f.Fuzz(func(t *testing.T, title string) {
		if path, name := ParseTitle(title); name != "" && (!filepath.IsAbs(path) || filepath.Base(name) != name) {
			t.Errorf("%q: %q, %q", title, path, name)
		}
	})
}
