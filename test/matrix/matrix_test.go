// SPDX-License-Identifier: Apache-2.0

// Package matrix enters containers of every engine that package lab starts, as
// a user would: with the program, on the host of the engine. What was tested
// with which versions is in docs/matrix.md, which a run with -update writes.
package matrix

import (
	"context"
	"errors"
	"flag"
	"os"
	"testing"
	"time"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/test/cve/rig"
	"github.com/outband/outband/test/lab"
)

var update = flag.Bool("update", false, "write docs/matrix.md")

const (
	// commandTime bounds one use of the program.
	commandTime = 20 * time.Second
	// settleTime is how long what is on its way out may take.
	settleTime = 5 * time.Second
	// codeError is the exit code of enter for every error of its own.
	codeError = 125
)

func TestMain(m *testing.M) {
	lab.Main(os.Args)
	rig.Main(m, nil)
}

// outband is where the program is on each host.
const outband = "/usr/local/bin/outband"

// build builds the program, static, with changes where it is to be worse.
func build(t *testing.T, changes ...rig.Change) []byte {
	t.Helper()
	data, err := os.ReadFile(rig.Build(t, changes...).Path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestMatrix is all of it: go test ./test/matrix -run TestMatrix/docker/busybox.
func TestMatrix(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	program := build(t)
	var r results
	for _, engine := range lab.Engines() {
		t.Run(engine.Name, func(t *testing.T) {
			testutil.NoLeaks(t)
			host := open(t, engine, program)
			version := host.Version(t.Context())
			for _, s := range subjects() {
				if _, ok := s.of(engine.Name); ok {
					t.Run(s.name, func(t *testing.T) { r.add(s, engine.Name, version, enterSubject(t, host, s)) })
				}
			}
		})
	}
	t.Run("inits", func(t *testing.T) { bootAll(t, program, &r) })
	r.finish(t)
}

// bootAll boots each init under nspawn, on one host, and enters it.
func bootAll(t *testing.T, program []byte, r *results) {
	testutil.NoLeaks(t)
	lab.RequireSystems(t)
	host := open(t, lab.Nspawn(), program)
	version := host.Version(t.Context())
	for _, system := range lab.Systems() {
		s := subject{name: system.Name, about: "this init, booted"}
		t.Run(system.Name, func(t *testing.T) {
			c, err := host.Boot(t.Context(), system)
			if err != nil {
				t.Fatal(err)
			}
			r.add(s, host.Engine.Name, version, (&target{Container: c, host: host, subject: s}).enterAll(t))
		})
	}
}

// enterSubject starts a container and enters it; nil where the engine has none.
func enterSubject(t *testing.T, host *lab.Host, s subject) map[string]string {
	c := start(t, host, s)
	if c == nil {
		return nil
	}
	return c.enterAll(t)
}

// enterAll runs all checks, and returns what each has found.
func (c *target) enterAll(t *testing.T) map[string]string {
	t.Run("kind", c.knowsInit)
	found := map[string]string{}
	for _, check := range checks() {
		t.Run(check.name, func(t *testing.T) { found[check.name] = check.do(t, c) })
	}
	return found
}

// open makes a host with the program on it.
func open(t *testing.T, engine *lab.Engine, program []byte) *lab.Host {
	t.Helper()
	host := lab.Open(t, engine)
	if err := os.WriteFile(host.Path(outband), program, 0o755); err != nil {
		t.Fatal(err)
	}
	return host
}

// subject is a container to be entered.
type subject struct {
	name, about string
	image       func(testing.TB) *lab.Image
	options     lab.Options
	// extra are the engines that it is for, with their own words for what it is;
	// nil for all engines that offer it.
	extra map[string][]string
	// before runs on the host first.
	before []string
}

// stores gives the engines with docker's command line the same words.
func stores(args ...string) map[string][]string {
	return map[string][]string{"docker": args, "podman": args, "podman-rootless": args}
}

// subjects are all of them.
func subjects() []subject {
	return []subject{
		{name: "busybox", about: "a shell and its tools, the engine's defaults", image: lab.Busybox},
		{name: "scratch", about: "one static program, no shell", image: lab.Scratch},
		{name: "filter", about: "a seccomp profile that lets mkdir fail", image: lab.Busybox, options: lab.Options{NoMkdir: true}},
		{name: "user", about: "init is user 1000", image: lab.Busybox, extra: stores("--user=1000:1000")},
		{name: "no-new-privs", about: "no_new_privs beside the default filter", image: lab.Busybox,
			extra: stores("--security-opt=no-new-privileges")},
		{name: "unconfined", about: "all capabilities that there are, no filter", image: lab.Busybox,
			extra: stores("--cap-add=ALL", "--cap-drop=SYS_RESOURCE", "--cap-drop=SYS_BOOT", "--security-opt=seccomp=unconfined")},
		{name: "read-only", about: "a root file system that nobody can write to", image: lab.Busybox, extra: stores("--read-only")},
		{name: "no-capabilities", about: "root without a capability", image: lab.Busybox, extra: stores("--cap-drop=ALL")},
		{name: "init", about: "init is tini or catatonit", image: lab.Busybox, extra: stores("--init")},
		{name: "pod", about: "a member of a pod: ipc, network and uts are another container's", image: lab.Busybox,
			before: []string{"podman", "pod", "create", "--name=members", "--network=none", "--share=ipc,net,uts"},
			extra:  map[string][]string{"podman": {"--pod=members"}}},
		{name: "user-namespace", about: "root inside is another user outside", image: lab.Busybox, extra: map[string][]string{
			"podman": {"--uidmap=0:100000:65536", "--gidmap=0:100000:65536"}, "nspawn": {"--private-users=100000:65536"},
			"unshare": {"--user", "--map-root-user"}, "containerd": {"--uidmap=0:100000:65536", "--gidmap=0:100000:65536"},
		}},
		{name: "three-filters", about: "no_new_privs and three filters", image: lab.Busybox,
			options: lab.Options{Filters: 3}, extra: map[string][]string{"bwrap": {}}},
	}
}

// of returns what an engine is asked for, false where it is not.
func (s subject) of(engine string) (lab.Options, bool) {
	extra, ok := s.extra[engine]
	o := s.options
	o.Extra = extra
	return o, ok || s.extra == nil
}

// start starts the container of a test; nil where the engine does not offer it.
func start(t *testing.T, host *lab.Host, s subject) *target {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTime)
	defer cancel()
	options, ok := s.of(host.Engine.Name)
	if !ok {
		return nil
	}
	image := s.image(t)
	if s.before != nil {
		if _, err := host.Do(ctx, s.before...); err != nil {
			t.Fatal(err)
		}
	}
	c, err := host.Run(ctx, s.name, image, options)
	if errors.Is(err, lab.ErrNotOffered) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return &target{Container: c, host: host, subject: s, scratch: image.Name == "scratch"}
}
