// SPDX-License-Identifier: Apache-2.0

package matrix

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"strings"
	"testing"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/test/lab"
)

// told is what "outband ls -a" has to tell of a container.
type told struct {
	name    string
	options lab.Options
	// stop ends it by the engine's own means.
	stop bool
	// host are commands that make it, in place of the engine's run.
	host []string
	want string
}

// shell is what a container runs.
func shell(script string) []string { return []string{"/bin/sh", "-c", script} }

// stored are containers of docker's and podman's.
func stored(supervisor string) []told {
	return []told{
		{name: "always", options: lab.Options{Extra: []string{"--restart=always", "--stop-signal=SIGUSR1"}},
			want: "running always SIGUSR1 no-end " + supervisor},
		{name: "plain", options: lab.Options{Extra: []string{"--stop-signal=37"}}, want: "running no SIGRTMIN+3 no-end " + supervisor},
		{name: "done", options: lab.Options{Extra: []string{"--restart=on-failure:3"}, Args: shell("sleep 2")},
			want: "stopped on-failure:3 SIGTERM exit-0 nobody"},
		{name: "failed", options: lab.Options{Args: shell("sleep 2; exit 7")}, want: "stopped no SIGTERM exit-7 nobody"},
	}
}

// far makes a container in a storage that only its conmon tells of.
const far = `p="podman --root=/lab/far --runroot=/run/far --storage-driver=vfs" && $p load -q -i /lab/busybox.tar &&
$p run -d --pull=never --name far lab/busybox sleep 100000`

// facts are the containers of each engine.
func facts() map[string][]told {
	const shim = "containerd-shim"
	return map[string][]told{
		"docker": stored(shim), "docker-userns": stored(shim), "docker-rootless": stored(shim),
		"podman": append(stored("conmon"), told{name: "far", host: shell(far), want: "running no SIGTERM no-end conmon"}), "podman-rootless": stored("conmon"),
		"lxc": {
			{name: "on", want: "running reboots no-end lxc monitor"},
			{name: "off", stop: true, want: "stopped reboots no-end nobody"},
		},
		"lxc-rootless": {
			{name: "on", want: "running reboots no-end lxc monitor"},
		},
		"nspawn": {
			{name: "on", want: "running no-end systemd-nspawn"}, // --keep-unit, and no unit
			{name: "off", host: []string{"mkdir", "-p", "/var/lib/machines/off"}, want: "stopped no-end nobody"},
		},
		"containerd": {
			{name: "default/on", want: "running SIGTERM no-end containerd-shim"},
			{name: "default/off", host: shell(`ctr container create --label containerd.io/restart.status=running --label containerd.io/restart.policy=on-failure:3 ` +
				`"$(ctr images ls -q | head -n 1)" off true`), want: "stopped on-failure:3 SIGTERM no-end nobody"},
		},
		"cri": {
			{name: "lab/pod-on/on", want: "running no-end containerd-shim"},
			{name: "lab/pod-on/POD", host: []string{"true"}, want: "running no-end containerd-shim"}, // made with the first
			{name: "lab/pod-off/off", host: shell(`criclient /run/containerd/containerd.sock run lab pod-off off docker.io/lab/busybox:latest sh -c "exit 7"`),
				want: "stopped exit-7 nobody"},
			{name: "lab/pod-off/POD", host: []string{"true"}, want: "running no-end containerd-shim"},
		},
		"runc": {{name: "on", want: "running no-end nobody"}},
	}
}

// TestFacts: what engines know of their containers, those that do not run
// included, is told, and their names lead to them, users' by the user's name alone.
func TestFacts(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	program := build(t)
	for _, engine := range lab.Engines() {
		list, ok := facts()[engine.Name]
		if !ok {
			continue
		}
		t.Run(engine.Name, func(t *testing.T) {
			testutil.NoLeaks(t)
			host := open(t, engine, program)
			want := map[string]string{}
			for _, c := range list {
				begin(t, host, c)
				want[c.name] = c.want
			}
			var rows map[string]fact
			if !within(func() bool { rows = listed(t, host); return maps.Equal(texts(rows), want) }) {
				t.Errorf("%q, want %q", texts(rows), want)
			}
			for _, c := range list {
				find(t, host, rows[c.name])
			}
		})
	}
}

// TestDockerHost: a daemon whose files nobody may read is asked where DOCKER_HOST
// says, and its socket is left alone when it does not run.
func TestDockerHost(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	host := open(t, lab.Docker(), build(t))
	c, err := host.Run(t.Context(), "named", lab.Busybox(t), lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	// As a file that others may write to, its state is not believed.
	if _, err := host.Do(t.Context(), "sh", "-c", "chmod 666 /var/lib/docker/containers/*/config.v2.json"); err != nil {
		t.Fatal(err)
	}
	pid := func(env string) (string, error) {
		return host.Do(t.Context(), "env", env, outband, "pid", "docker:named", "1")
	}
	if out, err := pid("DOCKER_HOST="); err == nil {
		t.Errorf("by its files: %q", out)
	}
	want := fmt.Sprintf("%d ", c.HostPid)
	if out, err := pid("DOCKER_HOST=unix:///run/docker.sock"); err != nil || !strings.HasPrefix(out, want) {
		t.Errorf("%q, %v, want %q", out, err, want)
	}
	if out, err := pid("DOCKER_HOST=unix:///nothing.sock"); err == nil {
		t.Errorf("no socket: %q", out)
	}
}

// TestDockerPIDNS: a user's daemon in a pid namespace of its own counts processes
// as that does; its containers are found all the same, and are not said to have
// ended.
func TestDockerPIDNS(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	host := open(t, lab.DockerRootless("--pidns"), build(t))
	_, _ = host.Run(t.Context(), "named", lab.Busybox(t), lab.Options{}) // whose number is not the host's
	k := &known{target: &target{host: host}, full: "docker@lab:named"}
	rows := k.list(t, called(k.full), "-a")
	if len(rows) != 1 || rows[0].State != "running" || len(rows[0].Init.Pids) != 3 {
		t.Fatalf("%+v", rows)
	}
	pid, row := rows[0].Init.Pid, rows[0]
	for _, name := range []string{k.full, "runc@lab:" + row.ID} {
		if found, err := k.leadsTo(t, name); err != nil || found != pid {
			t.Errorf("%s leads to %d, %v, not to %d", name, found, err, pid)
		}
	}
	if out, err := host.Do(t.Context(), outband, "enter", k.full, "--", "cat", "/proc/1/comm"); err != nil || out != "sleep\n" {
		t.Errorf("%q, %v", out, err)
	}
	if out, err := host.Do(t.Context(), "docker", "-H", "unix:///run/user/1001/docker.sock", "stop", "-t", "0", "named"); err != nil {
		t.Fatal(out, err)
	}
	if rows := k.list(t, called(k.full), "-a"); len(rows) != 1 || rows[0].State != "stopped" {
		t.Errorf("after its end: %+v", rows)
	}
}

// begin makes a container.
func begin(t *testing.T, host *lab.Host, c told) {
	t.Helper()
	if c.host != nil {
		if _, err := host.Do(t.Context(), c.host...); err != nil {
			t.Fatal(err)
		}
		return
	}
	made, err := host.Run(t.Context(), path.Base(c.name), lab.Busybox(t), c.options)
	if err == nil && c.stop {
		err = made.Remove(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// fact is a row of "outband ls".
type fact struct {
	Name, Engine, User, State, Restart string
	Signal                             string `json:"stop_signal"`
	Reboots                            bool
	Init                               *struct{ Pid int }
	Exit                               *struct{ Code int }
	Supervisor                         *struct{ Name string }
}

func (f fact) String() string {
	words := []string{f.State, f.Restart, f.Signal}
	if f.Reboots {
		words = append(words, "reboots")
	}
	if f.Exit != nil {
		words = append(words, fmt.Sprintf("exit-%d", f.Exit.Code))
	} else {
		words = append(words, "no-end")
	}
	if f.Supervisor != nil {
		words = append(words, f.Supervisor.Name)
	} else {
		words = append(words, "nobody")
	}
	return strings.Join(strings.Fields(strings.Join(words, " ")), " ")
}

// listed are the rows of a host, by name.
func listed(t *testing.T, host *lab.Host) map[string]fact {
	t.Helper()
	out, err := host.Do(t.Context(), outband, "ls", "-a", "-o", "json")
	var list []fact
	if err = errors.Join(err, json.Unmarshal([]byte(out), &list)); err != nil {
		t.Fatal(err)
	}
	rows := map[string]fact{}
	for _, f := range list {
		rows[f.Name] = f
	}
	return rows
}

func texts(rows map[string]fact) map[string]string {
	all := map[string]string{}
	for name, f := range rows {
		all[name] = f.String()
	}
	return all
}

// find looks a container up by its names.
func find(t *testing.T, host *lab.Host, f fact) {
	t.Helper()
	full, others := f.Engine+":"+f.Name, []string{}
	if f.User != "" {
		full, others = f.Engine+"@"+f.User+":"+f.Name, []string{f.Engine + ":" + f.Name, f.Name, f.Engine + "@root:" + f.Name}
	}
	out, err := host.Do(t.Context(), outband, "pid", full, "1")
	switch {
	case f.Init == nil && (err == nil || !strings.Contains(err.Error(), "not running")):
		t.Errorf("%s: %q, %v", full, out, err)
	case f.Init != nil && (err != nil || !strings.HasPrefix(out, fmt.Sprintf("%d ", f.Init.Pid))):
		t.Errorf("%s: %q, %v, want %d", full, out, err, f.Init.Pid)
	}
	for _, name := range others {
		if out, err := host.Do(t.Context(), outband, "pid", name, "1"); err == nil || !strings.Contains(err.Error(), "no such container") {
			t.Errorf("%s: %q, %v", name, out, err)
		}
	}
}
