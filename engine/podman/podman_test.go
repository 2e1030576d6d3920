// SPDX-License-Identifier: Apache-2.0

package podman

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/outband/outband/engine"
	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/testutil"
)

const id = "f45c935f80106955187fee0302fe35b105626c6a3ac398f26e359284ca80dbfd"

// machine is the processes of the machine on which testdata was recorded: Podman
// 4.3.1 with a container that runs and one that was never started.
func machine(t *testing.T) []procfs.Task {
	t.Helper()
	line, err := os.ReadFile("testdata/conmon.cmdline")
	if err != nil {
		t.Fatal(err)
	}
	return []procfs.Task{
		{PID: 1, NSpid: []int{1}, Start: 1},
		{PID: 24598, Parent: 1, NSpid: []int{24598}, Start: 2, Comm: "conmon", Cmdline: string(line)},
		{PID: 24625, Parent: 24598, NSpid: []int{24625, 1}, Start: 3, PIDNS: 4026532474},
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
	if got, want := list(t, root, machine(t)), []string{"podman:pnever stopped", "podman:pweb running"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	// Another process with the number has another parent.
	tasks := machine(t)
	tasks[2].Parent = 1
	if got := list(t, root, tasks); !slices.Contains(got, "podman:pweb stopped") {
		t.Errorf("%q", got)
	}
}

// A user's containers are named as the user's.
func TestRootless(t *testing.T) {
	root := testutil.Private(t, "testdata/host")
	for path, text := range map[string]string{"etc/passwd": "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n", "run/user/1000/x": ""} {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	home := filepath.Join(root, "home/ann/.local/share/containers/storage")
	if err := os.MkdirAll(filepath.Dir(home), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(root, "srv/pm/root"), home); err != nil {
		t.Fatal(err)
	}
	tasks := machine(t)
	tasks[1].UID = 1000
	tasks[1].Cmdline = strings.ReplaceAll(tasks[1].Cmdline, "/srv/pm/root", "/home/ann/.local/share/containers/storage")
	if got, want := list(t, root, tasks), []string{"podman@ann:pnever stopped", "podman@ann:pweb running"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// What leads podman to a storage that is not where it is by default.
func TestVia(t *testing.T) {
	all, err := engine.Recorded(testutil.Private(t, "testdata/host"), machine(t)).List(context.Background(), []engine.Engine{Engine{}})
	want := []string{"--root=/srv/pm/root", "--runroot=/srv/pm/run", "--tmpdir=/srv/pm/tmp", "--storage-driver=vfs"}
	if err != nil || len(all) != 2 || !slices.Equal(all[0].Via, want) || !slices.Equal(all[1].Via, want) {
		t.Errorf("%+v, %v", all, err)
	}
	all, err = engine.Recorded(recorded(t, "5.8", "db.sql", "db.sql"), nil).List(context.Background(), []engine.Engine{Engine{}})
	if err != nil || len(all) == 0 || all[0].Via != nil {
		t.Errorf("where it is by default: %+v, %v", all, err)
	}
	if via := Via([]string{"conmon", "--exit-command-arg", "--root", "--exit-command-arg"}); via != nil {
		t.Errorf("%q", via)
	}
}

func TestParseMonitor(t *testing.T) {
	line, err := os.ReadFile("testdata/conmon.cmdline")
	if err != nil {
		t.Fatal(err)
	}
	args := procfs.Strings(line)
	if got, storage := ParseMonitor(args); got != id || storage != "/srv/pm/root/vfs-containers" {
		t.Errorf("%s, %s", got, storage)
	}
	for _, extra := range []string{"-e", "--exec-attach", "--exec-process-spec"} {
		if got, _ := ParseMonitor(append(slices.Clone(args), extra)); got != "" {
			t.Errorf("%s: %s", extra, got)
		}
	}
	for _, args := range [][]string{nil, {"conmon"}, {"conmon", "-c"}, {"conmon", "-c", "x"}, {"conmon", "-c", strings.Repeat("g", 64)}} {
		if got, storage := ParseMonitor(args); got != "" || storage != "" {
			t.Errorf("%q: %s, %s", args, got, storage)
		}
	}
	if _, storage := ParseMonitor([]string{"conmon", "-c", id, "-b", "/x/" + id[:63] + "/userdata"}); storage != "" {
		t.Errorf("another's bundle: %s", storage)
	}
}

// An id is no path: what a user's file calls one is left out, and told.
func TestParseContainers(t *testing.T) {
	for _, bad := range []string{"", "../../..", id[:63], strings.ToUpper(id), strings.Repeat("../", 21) + "x"} {
		all, err := ParseContainers([]byte(`[{"id":"` + bad + `","names":["x"]},{"id":"` + id + `","names":["web"]}]`))
		if !errors.Is(err, ErrFormat) || !slices.Equal(all, []Stored{{id, "web"}}) {
			t.Errorf("%q: %+v, %v", bad, all, err)
		}
	}
}

func FuzzParseContainers(f *testing.F) {
	f.Add([]byte(`[{"id":"a","names":["web"]},{"id":"` + id + `"}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, _ := ParseContainers(b)
		for _, c := range all {
			if !isID(c.ID) || c.Name == "" {
				t.Errorf("%+v", c)
			}
		}
	})
}
