// SPDX-License-Identifier: Apache-2.0

package docker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

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

// Of what is sought by name or by the beginning of its id only that is told, and
// not when it is started again.
func TestSought(t *testing.T) {
	root := testutil.Private(t, "testdata/policies")
	for name, want := range map[string]string{"oom": "oom", "98aa832e1d": "oom", "oo": "", "OOM": "", "98ab": "", "/oom": "", `oom"`: ""} {
		all, err := engine.Recorded(root, []procfs.Task{}).Seek(name, "").List(context.Background(), []engine.Engine{Engine{}})
		got := ""
		for _, c := range all {
			got += c.Name + c.Restart
		}
		if err != nil || got != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// rootless makes of what was recorded the Docker of a user: at its default place,
// and in no cgroup that could tell.
func rootless(t *testing.T) (root string, tasks []procfs.Task) {
	t.Helper()
	root = testutil.Private(t, "testdata/host")
	for path, text := range map[string]string{"etc/passwd": "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n", "run/user/1000/x": ""} {
		path = filepath.Join(root, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	data := filepath.Join(root, "home/ann/.local/share/docker")
	err := errors.Join(os.MkdirAll(filepath.Dir(data), 0o700), os.Rename(filepath.Join(root, "srv/dk/data"), data), os.RemoveAll(filepath.Join(root, "proc")))
	if err != nil {
		t.Fatal(err)
	}
	tasks = machine()
	tasks[1].UID, tasks[1].Cmdline = 1000, "dockerd\x00--rootless\x00"
	shim := func(pid int, id string) procfs.Task {
		line := "/usr/bin/containerd-shim-runc-v2\x00-namespace\x00moby\x00-id\x00" + id + "\x00-address\x00/x\x00"
		return procfs.Task{PID: pid, Parent: 1, NSpid: []int{pid}, UID: 1000, Start: 5, Comm: "containerd-shim", Cmdline: line}
	}
	tasks[2], tasks[4].Parent = shim(11820, webID), 11940
	tasks = slices.Insert(tasks, 4, shim(11940, dbID))
	return root, tasks
}

// A user's containers are named as the user's. Without a cgroup that tells, the
// parent has to be the container's own shim.
func TestRootless(t *testing.T) {
	root, tasks := rootless(t)
	names, _, err := list(t, root, tasks)
	if want := []string{"docker@ann:db paused", "docker@ann:never stopped", "docker@ann:web running"}; err != nil || !slices.Equal(names, want) {
		t.Fatalf("%q, %v, want %q", names, err, want)
	}
	for what, change := range map[string]func(shim *procfs.Task){
		"of another container": func(shim *procfs.Task) { shim.Cmdline = strings.ReplaceAll(shim.Cmdline, webID, dbID) },
		"of another user":      func(shim *procfs.Task) { shim.UID = 1001 },
		"inside":               func(shim *procfs.Task) { shim.NSpid = append(shim.NSpid, 7) },
		"another program":      func(shim *procfs.Task) { shim.Cmdline = "x" + strings.TrimPrefix(shim.Cmdline, "/usr/bin/") },
	} {
		changed := slices.Clone(tasks)
		for i := range changed {
			if changed[i].PID == 11820 {
				change(&changed[i])
			}
		}
		if names, _, err := list(t, root, changed); err != nil || !slices.Contains(names, "docker@ann:web stopped") {
			t.Errorf("a shim %s: %q, %v", what, names, err)
		}
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

// What Docker wrote of containers that ended, in every way, and of those that it
// would start again: recorded with 20.10.24.
func TestPolicies(t *testing.T) {
	_, all, err := list(t, testutil.Private(t, "testdata/policies"), []procfs.Task{})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, c := range all {
		end := "no end"
		if c.Exit != nil {
			end = fmt.Sprintf("exit %d, %v, %s", c.Exit.Code, c.Exit.OOM, c.Exit.At.Format(time.RFC3339))
		}
		got[c.Name] = fmt.Sprintf("%s, %s, %s", c.Restart, c.StopSignal, end)
	}
	want := map[string]string{
		"always": "always, SIGUSR1, no end",
		"exited": "on-failure:3, SIGKILL, exit 0, false, 2026-11-29T18:58:29Z",
		"failed": "no, SIGTERM, exit 7, false, 2026-11-29T18:58:29Z",
		"never":  "unless-stopped, SIGRTMIN+3, no end",
		"oom":    "no, SIGTERM, exit 137, true, 2026-11-29T18:58:29Z",
	}
	if !maps.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// A container that Docker waits to start again has ended with this code; one that
// was started again has none of its own yet.
func TestRestarted(t *testing.T) {
	const text = `{"ID":"a","Name":"/a","State":{"Running":true,"Restarting":%v,"ExitCode":3,"FinishedAt":"2026-11-29T18:58:29Z"}}`
	for _, waits := range []bool{true, false} {
		c, err := ParseConfig(fmt.Appendf(nil, text, waits))
		if err != nil || (c.Exit != nil) != waits || waits && c.Exit.Code != 3 {
			t.Errorf("%v: %+v, %v", waits, c.Exit, err)
		}
	}
}

// A container is listed whatever became of the file that has its policy.
func TestNoPolicy(t *testing.T) {
	for what, change := range map[string]func(path string) error{
		"gone":    os.Remove,
		"broken":  func(path string) error { return os.WriteFile(path, []byte("{"), 0o600) },
		"anybody": func(path string) error { return os.Chmod(path, 0o666) },
	} {
		root := testutil.Private(t, "testdata/policies")
		paths, err := filepath.Glob(filepath.Join(root, "var/lib/docker/containers/*/hostconfig.json"))
		if err != nil || len(paths) != 5 {
			t.Fatal(paths, err)
		}
		for _, path := range paths {
			if err := change(path); err != nil {
				t.Fatal(err)
			}
		}
		_, all, err := list(t, root, []procfs.Task{})
		if len(all) != 5 || all[0].Restart != "" || all[0].StopSignal != "SIGUSR1" || (err != nil) != (what != "gone") {
			t.Errorf("%s: %+v, %v", what, all, err)
		}
	}
}

func TestVia(t *testing.T) {
	for line, want := range map[string]string{
		"dockerd": "", "dockerd -H fd://": "", "dockerd -H unix:///var/run/docker.sock": "", "dockerd -H": "",
		"dockerd -H fd:// -H unix:///srv/d.sock":    "--host=unix:///srv/d.sock",
		"dockerd --host=tcp://x --host=unix:///a":   "--host=unix:///a",
		"dockerd -Hunix:///b --data-root /srv/data": "--host=unix:///b",
	} {
		if got := strings.Join(Via(strings.Fields(line), ""), " "); got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
	_, all, err := list(t, testutil.Private(t, "testdata/host"), machine())
	if err != nil || !slices.Equal(all[0].Via, []string{"--host=unix:///srv/dk/docker.sock"}) {
		t.Errorf("%+v, %v", all, err)
	}
	root, tasks := rootless(t)
	if _, all, err = list(t, root, tasks); err != nil || !slices.Equal(all[0].Via, []string{"--host=unix:///run/user/1000/docker.sock"}) {
		t.Errorf("%+v, %v", all, err)
	}
	if _, all, err = list(t, testutil.Private(t, "testdata/policies"), nil); err != nil || all[0].Via != nil {
		t.Errorf("%+v, %v", all, err)
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

func FuzzParsePolicy(f *testing.F) {
	f.Add([]byte(`{"RestartPolicy":{"Name":"on-failure","MaximumRetryCount":3}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := ParsePolicy(b); (err == nil) != (p != "") {
			t.Errorf("%q, %v", p, err)
		}
	})
}
