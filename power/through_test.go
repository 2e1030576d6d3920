// SPDX-License-Identifier: Apache-2.0

package power

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/outband/outband/engine"
)

func TestThrough(t *testing.T) {
	web := func(of string, via ...string) engine.Container {
		return engine.Container{Engine: of, Name: "web", ID: "3f2a", Via: via}
	}
	for _, row := range []struct {
		c     engine.Container
		a     Action
		grace time.Duration
		want  string // "" for ErrNoWay
	}{
		{web("docker"), Off, 0, "docker stop -- 3f2a"},
		{web("docker"), Off, 30 * time.Second, "docker stop -t=30 -- 3f2a"},
		{web("docker"), Reboot, 1500 * time.Millisecond, "docker restart -t=2 -- 3f2a"},
		{web("docker", "--host=unix:///run/d.sock"), On, time.Second, "docker --host=unix:///run/d.sock start -- 3f2a"},
		{web("docker"), Kill, time.Second, "docker kill -- 3f2a"},
		{web("docker"), Resume, 0, "docker unpause -- 3f2a"},
		{web("podman", "--root=/r", "--runroot=/rr"), Halt, time.Second, "podman --root=/r --runroot=/rr stop -t=1 -- 3f2a"},
		{web("podman"), Pause, 0, "podman pause -- 3f2a"},
		{web("lxc", "--lxcpath=/srv/a b"), Off, 9 * time.Second, "lxc-stop|--lxcpath=/srv/a b|--name=web|--timeout=9"},
		{web("lxc"), Reboot, 0, "lxc-stop --name=web --reboot"},
		{web("lxc"), Kill, 0, "lxc-stop --name=web --kill"},
		{web("lxc"), On, 0, "lxc-start --name=web"},
		{web("incus"), Reboot, 0, "incus restart -- web"},
		{engine.Container{Engine: "incus", Name: "lab/web", ID: "lab_web", Via: []string{"--project=lab"}}, Kill, 0, "incus --project=lab stop --force -- web"},
		{web("lxd"), Resume, 0, "lxc start -- web"},
		{web("nspawn"), Off, time.Second, "machinectl poweroff -- web"},
		{web("nspawn"), On, 0, "machinectl start -- web"},
		{web("nspawn"), Pause, 0, ""},
		{engine.Container{Engine: "nspawn", Name: "web", ID: "web", Unmanaged: true}, Off, 0, ""}, // machinectl does not know it
		{web("containerd", "--namespace=default"), Kill, 0, "ctr --namespace=default tasks kill -s=SIGKILL -- 3f2a"},
		{web("containerd"), Off, 0, ""},
		{web("runc"), Reboot, 0, ""},
		{web("crun"), Kill, 0, "crun kill -- 3f2a KILL"},
		{web(engine.Bare), Kill, 0, ""},
		{web("demo"), Off, 0, ""},
		{engine.Container{Engine: "containerd", Name: "ns/pod/web", ID: "3f2a", Pod: true}, Kill, 0, ""},
	} {
		sep := " "
		if strings.Contains(row.want, "|") {
			sep = "|"
		}
		cmd, err := Through(&row.c, row.a, row.grace)
		if got := strings.Join(cmd.Args, sep); got != row.want || (err == nil) != (row.want != "") {
			t.Errorf("%s %s: %q, %v; want %q", row.c.Engine, row.a, got, err, row.want)
		}
		if err != nil && !errors.Is(err, ErrNoWay) {
			t.Errorf("%s %s: %v", row.c.Engine, row.a, err)
		}
	}
}

// TestThroughNames: whatever a container is called, its name is one word and no
// flag. Without the "--" of the rows the second loop fails.
func TestThroughNames(t *testing.T) {
	for of, actions := range ways() {
		for a := range actions {
			for _, name := range []string{"--help", "-a", "a b", "{grace}", "{via}", "$(id)", "x\ny"} {
				c := engine.Container{Engine: of, Name: name, ID: name}
				cmd, err := Through(&c, a, time.Second)
				if err != nil {
					t.Errorf("%s %s: %v", of, a, err)
					continue
				}
				i := slices.IndexFunc(cmd.Args, func(w string) bool { return strings.HasSuffix(w, name) })
				if i < 0 {
					t.Errorf("%s %s: %q has not the name %q", of, a, cmd.Args, name)
					continue
				}
				flag := cmd.Args[i] != name && strings.HasPrefix(cmd.Args[i], "--name=")
				if !flag && cmd.Args[i-1] != "--" {
					t.Errorf("%s %s: %q may be taken for a flag in %q", of, a, name, cmd.Args)
				}
			}
		}
	}
}

// TestThroughUser: an engine of another user's is that user's to ask.
func TestThroughUser(t *testing.T) {
	c := engine.Container{Engine: "podman", User: "lab", Name: "web", ID: "3f2a"}
	if cmd, err := Through(&c, Off, 0); err != nil || cmd.User != "lab" {
		t.Errorf("%+v, %v", cmd, err)
	}
}
