// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// number reads a process number that an engine has printed.
func number(t testing.TB, text string) int {
	t.Helper()
	pid, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil || pid <= 0 {
		t.Fatalf("no process number: %q", text)
	}
	return pid
}

// docker starts the daemon, with an image of busybox.
func docker(t *testing.T) {
	t.Helper()
	asRoot(t)
	has(t, "dockerd")
	service(t, "docker.service")
	if _, err := try(t, "docker", "image", "inspect", "lab/busybox"); err != nil {
		_, archive := rootfs(t)
		call(t, "docker", "import", archive, "lab/busybox")
	}
}

// dockerRun starts a container of docker's that ends with the test.
func dockerRun(t *testing.T, name string, flags ...string) box {
	t.Helper()
	args := append([]string{"docker", "run", "-d", "--pull=never", "--network", "none", "--name", name}, flags...)
	call(t, append(args, "lab/busybox", "sleep", "100000")...)
	t.Cleanup(func() { call(t, "docker", "rm", "-f", name) })
	return box{
		pid:  number(t, call(t, "docker", "inspect", "-f", "{{.State.Pid}}", name)),
		exec: []string{"docker", "exec", name},
	}
}

func TestDocker(t *testing.T) {
	docker(t)
	check(t, dockerRun(t, "plain"))
}

// TestDockerUnfiltered has the label of AppArmor alone.
func TestDockerUnfiltered(t *testing.T) {
	docker(t)
	check(t, dockerRun(t, "unfiltered", "--security-opt", "seccomp=unconfined", "--user", "1:2"))
}

func TestDockerPrivileged(t *testing.T) {
	docker(t)
	check(t, dockerRun(t, "privileged", "--privileged"))
}

// TestDockerHostPID enters a container that has no pid namespace of its own.
func TestDockerHostPID(t *testing.T) {
	docker(t)
	b := dockerRun(t, "hostpid", "--pid=host", "--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined")
	out, err := outbandEnter(t, b.pid, nil, "cat", "/etc/group")
	if err != nil || !strings.Contains(out, "nogroup") || strings.Contains(out, "systemd") {
		t.Errorf("entered: %q, %v", out, err)
	}
	check(t, b)
}

func TestContainerd(t *testing.T) {
	asRoot(t)
	has(t, "ctr")
	service(t, "containerd.service")
	dir, _ := rootfs(t)
	call(t, "ctr", "run", "-d", "--rootfs", "--env", "PATH=/bin", dir, "plain", "sleep", "100000")
	t.Cleanup(func() {
		call(t, "ctr", "task", "kill", "-s", "KILL", "plain")
		await(t, "the end of the task", func() bool { _, err := try(t, "ctr", "task", "rm", "plain"); return err == nil })
		call(t, "ctr", "container", "rm", "plain")
	})
	pid := 0
	for line := range strings.Lines(call(t, "ctr", "task", "ls")) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "plain" {
			pid = number(t, fields[1])
		}
	}
	check(t, box{pid: pid, exec: []string{"ctr", "task", "exec", "--exec-id", "x", "plain"}})
}

// podman imports an image of busybox for the user who asks.
func podman(t *testing.T) {
	t.Helper()
	onHost(t)
	has(t, "podman")
	if _, err := try(t, "podman", "image", "exists", "localhost/busybox"); err != nil {
		_, archive := rootfs(t)
		call(t, "podman", "import", archive, "localhost/busybox")
	}
}

// podmanDiffers: podman exec adds the user's own group to the groups.
var podmanDiffers = []string{"Groups"}

// podmanRun starts a container of podman's that ends with the test.
func podmanRun(t *testing.T, name string, flags ...string) box {
	t.Helper()
	args := append([]string{"podman", "run", "-d", "--pull=never", "--network", "none", "--name", name}, flags...)
	call(t, append(args, "localhost/busybox", "sleep", "100000")...)
	t.Cleanup(func() { call(t, "podman", "rm", "-f", "-t", "0", name) })
	return box{
		pid:  number(t, call(t, "podman", "inspect", "-f", "{{.State.Pid}}", name)),
		exec: []string{"podman", "exec", name}, differ: podmanDiffers,
	}
}

// TestPodman runs as root and as an ordinary user, whose containers are rootless.
func TestPodman(t *testing.T) {
	podman(t)
	check(t, podmanRun(t, "plain"))
}

func TestPodmanUnfiltered(t *testing.T) {
	podman(t)
	check(t, podmanRun(t, "unfiltered", "--security-opt", "seccomp=unconfined"))
}

// TestPodmanRunC is podman with the other runtime.
func TestPodmanRunC(t *testing.T) {
	podman(t)
	has(t, "runc")
	args := []string{"podman", "--runtime", "runc", "run", "-d", "--pull=never", "--network", "none", "--name", "withrunc", "localhost/busybox", "sleep", "100000"}
	call(t, args...)
	t.Cleanup(func() { call(t, "podman", "--runtime", "runc", "rm", "-f", "-t", "0", "withrunc") })
	check(t, box{
		pid:  number(t, call(t, "podman", "inspect", "-f", "{{.State.Pid}}", "withrunc")),
		exec: []string{"podman", "--runtime", "runc", "exec", "withrunc"}, differ: podmanDiffers,
	})
}

func TestPodmanHostPID(t *testing.T) {
	podman(t)
	check(t, podmanRun(t, "hostpid", "--pid=host", "--security-opt", "seccomp=unconfined"))
}

// TestLXC starts a container by LXC's commands, with its own profile.
func TestLXC(t *testing.T) {
	asRoot(t)
	has(t, "lxc-start")
	dir, _ := rootfs(t)
	path := t.TempDir()
	config := fmt.Sprintf(`lxc.uts.name = plain
lxc.rootfs.path = dir:%s
lxc.net.0.type = empty
lxc.apparmor.profile = generated
lxc.mount.auto = proc:mixed sys:mixed cgroup:mixed
lxc.init.cmd = /bin/sleep 100000
`, dir)
	if err := os.Mkdir(filepath.Join(path, "plain"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(path, "plain/config"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	call(t, "lxc-start", "-P", path, "-n", "plain", "-o", filepath.Join(path, "log"), "-l", "INFO")
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(path, "log"))
			t.Logf("%s", log)
		}
		call(t, "lxc-stop", "-k", "-P", path, "-n", "plain")
	})
	pid := number(t, call(t, "lxc-info", "-P", path, "-n", "plain", "-p", "-H"))
	await(t, "sleep", func() bool { return file(t, pid, "comm") == "sleep" })
	check(t, box{pid: pid, exec: []string{"lxc-attach", "-P", path, "-n", "plain", "--"}, differ: []string{"Umask"}})
}

// TestIncus starts a container by the daemon, unprivileged as is its custom.
func TestIncus(t *testing.T) {
	asRoot(t)
	has(t, "incus")
	service(t, "incus.service")
	call(t, "incus", "admin", "waitready", "--timeout", "80")
	if _, err := try(t, "incus", "storage", "show", "default"); err != nil {
		call(t, "incus", "storage", "create", "default", "dir")
	}
	if _, err := try(t, "incus", "image", "info", "busybox"); err != nil {
		importIncus(t)
	}
	pid := incusRun(t, "default", "plain")
	check(t, box{pid: pid, exec: []string{"incus", "exec", "plain", "--mode", "non-interactive", "--"}, differ: []string{"Umask"}, name: "incus:plain"})
	call(t, "incus", "project", "create", "other", "-c", "features.images=false", "-c", "features.profiles=false")
	t.Cleanup(func() { call(t, "incus", "project", "delete", "other") })
	t.Run("of another project", func(t *testing.T) {
		checkNamed(t, "incus:other/plain", incusRun(t, "other", "plain"))
		checkNamed(t, "incus:plain", pid)
		answer(t, "power", "--through-engine", "incus:other/plain", "kill")
		checkStopped(t, "incus:other/plain")
		checkNamed(t, "incus:plain", pid)
	})
}

// incusRun starts a container that ends with the test, and returns its first
// process.
func incusRun(t *testing.T, project, name string) int {
	t.Helper()
	incus := func(args ...string) string {
		return call(t, append([]string{"incus", "--project", project}, args...)...)
	}
	incus("launch", "busybox", name, "--storage", "default")
	t.Cleanup(func() { incus("delete", "-f", name) })
	var info []struct {
		State struct{ Pid int } `json:"state"`
	}
	if err := json.Unmarshal([]byte(incus("list", name, "--format", "json")), &info); err != nil || len(info) != 1 {
		t.Fatal(err, info)
	}
	return info[0].State.Pid
}

// importIncus makes an image for Incus; the init of busybox runs in it.
func importIncus(t *testing.T) {
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
	call(t, "incus", "image", "import", archive, "--alias", "busybox")
}

// nspawn starts systemd in a container of the host's own files, whose /usr it
// sees, and waits until init has put itself into a cgroup below the
// container's, whose processes are in others beside it.
func nspawn(t *testing.T, flags ...string) int {
	t.Helper()
	asRoot(t)
	has(t, "systemd-nspawn")
	args := append([]string{"systemd-nspawn", "--quiet", "--directory=/", "--volatile=yes", "--machine=" + strings.ToLower(t.Name()),
		"--private-network", "--register=no", "--console=pipe"}, flags...)
	outer := spawn(t, append(args, "--boot", "systemd.unit=multi-user.target", "systemd.log_level=warning")...)
	pid := childOf(t, outer.Process.Pid, "systemd")
	await(t, "an init in a cgroup of its own", func() bool { return strings.HasSuffix(unified(t, pid), "/init.scope") })
	childOf(t, pid, "systemd-journal") // it has raised its limits by now
	return pid
}

// TestNspawn enters an init that stays in a cgroup whose parent has controllers
// enabled, and so can have no processes itself.
func TestNspawn(t *testing.T) {
	check(t, box{pid: nspawn(t)})
}

func TestNspawnUser(t *testing.T) {
	check(t, box{pid: nspawn(t, "--private-users=pick")})
}
