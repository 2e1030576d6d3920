// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// manager is a daemon whose containers are LXC's below. Incus and LXD have one
// ancestor, and are told the same in the same words.
type manager struct {
	name, service string
	client        string   // the program that people use
	ready         []string // waits for the daemon
	exec          string   // its own way in, as outband calls it
}

// TestIncus starts containers by the daemon, unprivileged as is its custom.
func TestIncus(t *testing.T) {
	incus(t).test(t)
}

// incus is the manager of that name, where there is one.
func incus(t *testing.T) manager {
	t.Helper()
	asRoot(t)
	has(t, "incus")
	return manager{"incus", "incus.service", "incus", []string{"incus", "admin", "waitready", "--timeout", "80"}, "incus exec"}
}

// TestLXD is TestIncus with the other, of which Debian has had one version.
func TestLXD(t *testing.T) {
	asRoot(t)
	hasOn(t, "bookworm", "lxd")
	manager{"lxd", "lxd.service", "lxc", []string{"lxd", "waitready", "--timeout", "80"}, "lxc exec"}.test(t)
}

// test looks at containers of the same name in two projects.
func (m manager) test(t *testing.T) {
	m.prepare(t)
	plain := m.name + ":plain"
	pid := m.run(t, "default", "plain")
	check(t, box{pid: pid, exec: []string{m.client, "exec", "plain", "--mode", "non-interactive", "--"}, differ: []string{"Umask"}, name: plain})
	t.Run("visited", func(t *testing.T) {
		spawn(t, m.client, "exec", "plain", "--mode", "non-interactive", "--", "sleep", "1000")
		checkVisitor(t, plain, "sleep", m.exec)
	})
	call(t, m.client, "project", "create", "other", "-c", "features.images=false", "-c", "features.profiles=false")
	t.Cleanup(func() { call(t, m.client, "project", "delete", "other") })
	t.Run("of another project", func(t *testing.T) {
		other := m.name + ":other/plain"
		checkNamed(t, other, m.run(t, "other", "plain"))
		checkNamed(t, plain, pid)
		answer(t, "power", "--through-engine", other, "kill")
		checkStopped(t, other)
		checkNamed(t, plain, pid)
	})
}

// prepare starts the daemon, and gives it a place for containers and an image.
func (m manager) prepare(t *testing.T) {
	t.Helper()
	m.start(t)
	if _, err := try(t, m.client, "storage", "show", "default"); err != nil {
		call(t, m.client, "storage", "create", "default", "dir")
	}
	if _, err := try(t, m.client, "image", "info", "busybox"); err != nil {
		m.load(t)
	}
}

// start starts the daemon, which may take longer than one call may.
func (m manager) start(t *testing.T) {
	t.Helper()
	call(t, "systemctl", "start", "--no-block", m.service)
	_, err := try(t, m.ready...)
	for tries := 1; err != nil && tries < 3; tries++ {
		_, err = try(t, m.ready...)
	}
	if err != nil {
		log, _ := try(t, "journalctl", "-b", "-n", "30", "--no-pager", "-u", m.service)
		t.Fatalf("%v\n%s", err, log)
	}
}

// run starts a container that ends with the test, and returns its first process.
func (m manager) run(t *testing.T, project, name string) int {
	t.Helper()
	in := func(args ...string) string {
		return call(t, append([]string{m.client, "--project", project}, args...)...)
	}
	in("launch", "busybox", name, "--storage", "default")
	t.Cleanup(func() { in("delete", "-f", name) })
	var info []struct {
		State struct{ Pid int } `json:"state"`
	}
	if err := json.Unmarshal([]byte(in("list", name, "--format", "json")), &info); err != nil || len(info) != 1 {
		t.Fatal(err, info)
	}
	return info[0].State.Pid
}

// load makes an image; the init of busybox runs in it.
func (m manager) load(t *testing.T) {
	t.Helper()
	dir, _ := rootfs(t)
	top := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "sbin"), 0o755); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{
		filepath.Join(top, "metadata.yaml"): "architecture: x86_64\ncreation_date: 1\nproperties:\n  description: busybox\n",
		filepath.Join(dir, "etc/inittab"):   "::sysinit:/bin/true\n::respawn:/bin/sleep 100000\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../bin/busybox", filepath.Join(dir, "sbin/init")); err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(top, "image.tar")
	call(t, "tar", "-C", top, "-cf", archive, "metadata.yaml")
	call(t, "tar", "-C", dir, "--transform", "s,^\\.,rootfs,S", "-rf", archive, ".")
	call(t, m.client, "image", "import", archive, "--alias", "busybox")
}
