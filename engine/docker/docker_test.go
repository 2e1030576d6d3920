// SPDX-License-Identifier: Apache-2.0

package docker

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/outband/outband/engine"
	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/testutil"
)

const (
	webID = "3d7795291c568394d0fe3b081db8169695e7971b77374214226437ee6498f0dc"
	dbID  = "fa18976fc132a50cbb06dda54ba689f64a6884bcf89a75d4f751c3e24d8787d3"
)

// machine is the processes of the machine on which testdata/host was recorded:
// Docker 20.10.24 with one container that runs, one that is paused, one that was
// never started.
func machine() []procfs.Task {
	return []procfs.Task{
		{PID: 1, NSpid: []int{1}, Start: 1, Comm: "init"},
		{PID: 11734, Parent: 1, NSpid: []int{11734}, Start: 348800, Comm: "dockerd",
			Cmdline: "dockerd\x00-H\x00unix:///srv/dk/docker.sock\x00--data-root\x00/srv/dk/data\x00--exec-root\x00/srv/dk/exec\x00"},
		{PID: 11820, Parent: 1, NSpid: []int{11820}, Start: 349060, Comm: "containerd-shim"},
		{PID: 11843, Parent: 11820, NSpid: []int{11843, 1}, Start: 349068, PIDNS: 4026532329, Comm: "busybox"},
		{PID: 11947, Parent: 1, NSpid: []int{11947, 1}, Start: 349090, PIDNS: 4026532402, Comm: "busybox"},
	}
}

func list(t *testing.T, root string, tasks []procfs.Task) (names []string, all []engine.Container, err error) {
	t.Helper()
	all, err = engine.Recorded(root, tasks).List(context.Background(), []engine.Engine{Engine{}})
	for i := range all {
		names = append(names, all[i].FullName()+" "+string(all[i].State))
	}
	return names, all, err
}

func TestList(t *testing.T) {
	names, all, err := list(t, testutil.Private(t, "testdata/host"), machine())
	if want := []string{"docker:db paused", "docker:never stopped", "docker:web running"}; err != nil || !slices.Equal(names, want) {
		t.Fatalf("%q, %v, want %q", names, err, want)
	}
	if all[2].Init.PID != 11843 || all[2].ID != webID || all[0].Init.PID != 11947 || all[1].Init.PID != 0 {
		t.Errorf("%+v", all)
	}
}

// A number that another process has by now is nobody's container.
func TestReused(t *testing.T) {
	root := testutil.Private(t, "testdata/host")
	groups := filepath.Join(root, "proc/11843/cgroup")
	if err := os.WriteFile(groups, []byte("0::/docker/"+dbID+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	names, _, err := list(t, root, machine())
	if err != nil || !slices.Contains(names, "docker:web stopped") {
		t.Errorf("%q, %v", names, err)
	}
}

// Files that others can write, or that are about another container, are none.
func TestUntrusted(t *testing.T) {
	root := testutil.Private(t, "testdata/host")
	dir := filepath.Join(root, "srv/dk/data/containers")
	web, err := os.ReadFile(filepath.Join(dir, webID, "config.v2.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, dbID, "config.v2.json"), 0o666); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, strings.Repeat("a", 64))
	if err := os.Mkdir(other, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(other, "config.v2.json"), web, 0o600); err != nil {
		t.Fatal(err)
	}
	names, _, err := list(t, root, machine())
	if want := []string{"docker:never stopped", "docker:web running"}; !slices.Equal(names, want) || err == nil {
		t.Errorf("%q, %v", names, err)
	}
}

// A daemon is one of root's, on the host; a process inside is none.
func TestDaemons(t *testing.T) {
	for what, change := range map[string]func(*procfs.Task){
		"inside":       func(t *procfs.Task) { t.NSpid = []int{11734, 7} },
		"another user": func(t *procfs.Task) { t.UID = 1000 },
		"another name": func(t *procfs.Task) { t.Cmdline = "x" + t.Cmdline },
	} {
		tasks := machine()
		change(&tasks[1])
		if names, _, err := list(t, testutil.Private(t, "testdata/host"), tasks); err != nil || len(names) != 0 {
			t.Errorf("%s: %q, %v", what, names, err)
		}
	}
}

func TestParseDaemon(t *testing.T) {
	for text, want := range map[string]string{`{"data-root":"/srv/docker"}`: "/srv/docker", `{}`: "", ``: "", `{"data-root":7}`: "", `[`: ""} {
		if got := ParseDaemon([]byte(text)); got != want {
			t.Errorf("%s: %q", text, got)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(`{"ID":"a","Name":"/web","State":{"Running":true,"Pid":7}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := ParseConfig(b); err == nil && (c.ID == "" || c.Name == "" || c.PID < 0) {
			t.Errorf("%+v", c)
		}
	})
}
