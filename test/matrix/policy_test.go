// SPDX-License-Identifier: Apache-2.0

package matrix

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/test/lab"
)

// supervised are containers of an engine's, with a user namespace of their own, so
// that they may be pressed. power.Lasts is made of what their engines do then.
type supervised struct {
	engine   *lab.Engine
	extra    []string
	policies []policy
}

// policy is what an engine does when a container is pressed.
type policy struct {
	restart string // --restart, "" where the engine has no such thing or nothing is said
	off     pressing
	reboot  pressing
}

// pressing is one press.
type pressing struct {
	refused bool   // without --anyway: the engine would undo it, or not do its part
	back    bool   // the engine starts the container again
	says    string // the engine, afterwards
}

// words are what outband is told, the columns of the table.
func (p *policy) words() map[string]pressing {
	return map[string]pressing{"off": p.off, "reboot": p.reboot}
}

// stays is a policy that brings nothing back: what is off stays off, and a reboot
// is refused.
func stays(restart, off, reboot string) policy {
	return policy{restart, pressing{says: off}, pressing{refused: true, says: reboot}}
}

// pressed are all the rows of the table.
func pressed() []supervised {
	const again = "running, restarts 1"
	always := pressing{refused: true, back: true, says: again}
	ends := stays("", "exited 130, restarts 0", "exited 129, restarts 0")
	restarts := []policy{
		ends, {"always", always, pressing{back: true, says: again}}, {"on-failure", always, always},
	}
	docker := append(restarts[:len(restarts):len(restarts)], policy{"unless-stopped", always, pressing{back: true, says: again}})
	ids := []string{"--uidmap=0:100000:65536", "--gidmap=0:100000:65536"}
	stopped := []policy{stays("", "stopped", "stopped")}
	exits := []policy{stays("", "exits 130", "exits 129")}
	lxc := []policy{{"", pressing{says: "STOPPED"}, pressing{back: true, says: "RUNNING"}}}
	return []supervised{
		{lab.DockerUserNS(), nil, docker}, {lab.DockerRootless(), nil, restarts[:2]},
		{lab.Podman(), ids, restarts}, {lab.PodmanRootless(), nil, restarts[:2]},
		{lab.Containerd(), ids, []policy{stays("", "STOPPED", "STOPPED")}},
		{lab.RunC(), nil, stopped}, {lab.Crun(), nil, stopped},
		{lab.LXC(), nil, lxc}, {lab.LXCRootless(), nil, lxc},
		{lab.Nspawn(), []string{"--private-users=100000:65536"}, []policy{stays("", "exits 0", "exits 133")}},
		{lab.Bubblewrap(), nil, exits}, {lab.BubblewrapRootless(), nil, exits},
		{lab.Unshare(), []string{"--user", "--map-root-user"}, exits}, {lab.UnshareRootless(), nil, exits},
	}
}

// asks are how engines are asked what has become of a container; of those that
// are not here, how what started it has ended tells.
func asks() map[string]string {
	const inspect = ` inspect -f '{{.State.Status}}{{if not .State.Running}} {{.State.ExitCode}}{{end}}, restarts {{.RestartCount}}' "$0"`
	const state = ` state "$0" | sed -n 's/.*"status": *"\(.*\)".*/\1/p'`
	const lxc = `lxc-info -s -H -n "$0"`
	return map[string]string{
		"docker-userns": "docker" + inspect, "docker-rootless": "docker -H unix://$XDG_RUNTIME_DIR/docker.sock" + inspect,
		"podman": "podman" + inspect, "podman-rootless": "podman" + inspect,
		"containerd": `ctr tasks ls | awk -v n="$0" '$1 == n { print $3 }'`,
		"runc":       "runc" + state, "crun": "crun" + state, "lxc": lxc, "lxc-rootless": lxc,
	}
}

// codeRefused is the exit code of what is refused for safety.
const codeRefused = 4

// TestPowerPolicies presses containers of engines: what outband refuses before it
// touches anything is what would not last, and what it says of who is back is so.
// What was found is in docs/power.md.
func TestPowerPolicies(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	program := build(t)
	var table policyTable
	for _, s := range pressed() {
		t.Run(s.engine.Name, func(t *testing.T) {
			testutil.NoLeaks(t)
			host := open(t, s.engine, program)
			for _, p := range s.policies {
				t.Run(cmp.Or(p.restart, "plain"), func(t *testing.T) { table.add(pressAll(t, host, s.extra, &p)) })
			}
		})
	}
	table.finish(t)
}

// pressAll presses two containers with a policy and returns a row of the table.
func pressAll(t *testing.T, host *lab.Host, extra []string, p *policy) []string {
	row := []string{host.Engine.Name, p.restart, "root"}
	if p.restart != "" {
		extra = append([]string{"--restart=" + p.restart}, extra...)
	}
	for _, action := range []string{"off", "reboot"} {
		want := p.words()[action]
		o := lab.Options{Extra: extra, OwnUsers: host.Engine.User == nil, Args: []string{"sleep", "1000000"}}
		c, err := host.Run(t.Context(), action+p.restart, lab.Busybox(t), o)
		if err != nil {
			t.Fatal(err)
		}
		target := &target{Container: c, host: host}
		user := host.Engine.User != nil
		if user {
			row[2] = "its user"
		}
		row = append(row, target.press(t, action, user, want), target.afterwards(t, want.says))
	}
	return row
}

// press presses a container, as root or as its user, and returns what came of it.
func (c *target) press(t *testing.T, action string, user bool, want pressing) string {
	command := func(more ...string) *lab.Command {
		args := append([]string{outband, "power", "pid:" + strconv.Itoa(c.HostPid), action, "--force"}, more...)
		if user {
			return c.host.As(args...)
		}
		return c.host.Command(args...)
	}
	said, more := "", []string(nil)
	if want.refused {
		r := c.run(t, command())
		if r.Code != codeRefused || !strings.Contains(r.Err, "would not last") || c.status(c.HostPid) == nil {
			t.Fatalf("%s is not refused: %+v", action, r)
		}
		said, more = "refused; ", []string{"--anyway"}
	}
	r := c.run(t, command(append(more, "-o", "json")...))
	result, done := parseThrow(t, r.Out)
	signal := map[string]string{"off": "SIGINT", "reboot": "SIGHUP"}[action]
	if r.Code != 0 || !done || (result.back != 0) != want.back || result.exit != signal {
		t.Errorf("%s, to be %+v: %+v", action, want, r)
	}
	t.Logf("%s: %s%s", action, r.Out, r.Err)
	said += result.exit
	if result.back != 0 {
		said += fmt.Sprintf("; back, started by %s", result.by)
	}
	return said
}

// afterwards is what the engine says of the container, which may take it a moment.
func (c *target) afterwards(t *testing.T, want string) string {
	ask, ok := asks()[c.host.Engine.Name]
	if !ok {
		ended, err := c.Ended(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("exits %d", ended.Code); got != want {
			t.Errorf("%s %q, want %q", c.host.Engine.Name, got, want)
		}
		return want
	}
	var got string
	var failed error
	if !within(func() bool {
		r := c.run(t, c.host.As("sh", "-c", ask, c.Name))
		got = strings.TrimSpace(r.Out)
		if failed = nil; r.Code != 0 {
			failed = errors.New(r.Err)
		}
		return failed == nil && got == want
	}) {
		t.Errorf("%s: %s says %q, %v, want %q", c.Name, c.host.Engine.Name, got, failed, want)
	}
	return got
}
