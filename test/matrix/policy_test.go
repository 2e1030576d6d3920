// SPDX-License-Identifier: Apache-2.0

package matrix

import (
	"strconv"
	"strings"
	"testing"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/test/lab"
)

// policy is a container with a user namespace of its own, and what its engine does
// when it is pressed: the lines of docs and of power.Lasts are made of these.
type policy struct {
	engine *lab.Engine
	extra  []string
	// What outband says, and what the engine does: "refused, back" where it brings
	// the container back though it is to be off.
	off, reboot string
	// What the engine says afterwards: its state, the exit code, how often it has
	// started it again.
	offSays, rebootSays string
}

// name is the engine's, with the restart policy.
func (p *policy) name() string {
	for _, arg := range p.extra {
		if restart, ok := strings.CutPrefix(arg, "--restart="); ok {
			return p.engine.Name + " " + restart
		}
	}
	return p.engine.Name
}

func policies() []policy {
	ids := []string{"--uidmap=0:100000:65536", "--gidmap=0:100000:65536"}
	with := func(more ...string) []string { return append(more, ids...) }
	const again = "running 0 1"
	return []policy{
		{lab.DockerUserNS(), nil, "stays", "refused, stays", "exited 130 0", "exited 129 0"},
		{lab.DockerUserNS(), []string{"--restart=always"}, "refused, back", "back", again, again},
		{lab.DockerUserNS(), []string{"--restart=unless-stopped"}, "refused, back", "back", again, again},
		{lab.DockerUserNS(), []string{"--restart=on-failure"}, "refused, back", "refused, back", again, again},
		{lab.Podman(), with(), "stays", "refused, stays", "exited 130 0", "exited 129 0"},
		{lab.Podman(), with("--restart=always"), "refused, back", "back", again, again},
		{lab.Podman(), with("--restart=on-failure"), "refused, back", "refused, back", again, again},
		{lab.Containerd(), ids, "stays", "refused, stays", "", ""},
		{lab.RunC(), nil, "stays", "refused, stays", "stopped", "stopped"},
		{lab.Crun(), nil, "stays", "refused, stays", "stopped", "stopped"},
		{lab.LXC(), nil, "stays", "back", "STOPPED", "RUNNING"},
		{lab.Unshare(), []string{"--user", "--map-root-user"}, "stays", "refused, stays", "", ""},
		{lab.Nspawn(), []string{"--private-users=100000:65536"}, "stays", "refused, stays", "", ""},
	}
}

// says are how engines are asked what has become of a container.
func says() map[string]string {
	const inspect = ` inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}}' "$0"`
	const state = ` state "$0" | sed -n 's/.*"status": *"\(.*\)".*/\1/p'`
	return map[string]string{
		"docker-userns": "docker" + inspect, "podman": "podman" + inspect,
		"runc": "runc" + state, "crun": "crun" + state, "lxc": `lxc-info -s -H -n "$0"`,
	}
}

// codeRefused is the exit code of what is refused for safety.
const codeRefused = 4

// TestPowerPolicies presses containers of engines: what outband refuses before it
// touches anything is what would not last, and what it says of who is back is so.
func TestPowerPolicies(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	program := build(t)
	for _, p := range policies() {
		t.Run(p.name(), func(t *testing.T) {
			testutil.NoLeaks(t)
			host := open(t, p.engine, program)
			for action, want := range map[string][2]string{"off": {p.off, p.offSays}, "reboot": {p.reboot, p.rebootSays}} {
				o := lab.Options{Extra: p.extra, OwnUsers: true, Args: []string{"sleep", "1000000"}}
				c, err := host.Run(t.Context(), action, lab.Busybox(t), o)
				if err != nil {
					t.Fatal(err)
				}
				pressed(t, &target{Container: c, host: host}, action, want[0])
				said(t, host, action, want[1])
			}
		})
	}
}

// pressed presses a container and compares what comes of it.
func pressed(t *testing.T, c *target, action, want string) {
	name := "pid:" + strconv.Itoa(c.HostPid)
	r := c.run(t, c.host.Command(outband, "power", name, action, "--force"))
	refused, want, _ := strings.Cut(want, ", ")
	if refused != "refused" {
		want, refused = refused, ""
	}
	if (r.Code == codeRefused) != (refused != "") {
		t.Errorf("%s: %+v", action, r)
	}
	if refused != "" {
		if !strings.Contains(r.Err, "would not last") || c.status(c.HostPid) == nil {
			t.Errorf("%s: %+v", action, r)
		}
		r = c.run(t, c.host.Command(outband, "power", name, action, "--force", "--anyway"))
	}
	if r.Code != 0 || strings.Contains(r.Out, "it is back: its init is ") != (want == "back") {
		t.Errorf("%s, to be %s: %+v", action, want, r)
	}
	t.Logf("%s: %s%s", action, r.Out, r.Err)
}

// said compares what an engine says of a container, which may take it a moment.
func said(t *testing.T, host *lab.Host, name, want string) {
	ask, ok := says()[host.Engine.Name]
	if !ok {
		return
	}
	var got string
	if !within(func() bool {
		out, err := host.Do(t.Context(), "sh", "-c", ask, name)
		got = strings.TrimSpace(out)
		return err == nil && got == want
	}) {
		t.Errorf("%s: %s says %q, want %q", name, host.Engine.Name, got, want)
	}
}
