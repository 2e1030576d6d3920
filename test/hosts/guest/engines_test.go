// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
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
		exec: []string{"docker", "exec", name}, name: named("docker:", name, flags),
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
	check(t, box{pid: pid, exec: []string{"ctr", "task", "exec", "--exec-id", "x", "plain"}, name: "containerd:default/plain"})
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
		exec: []string{"podman", "exec", name}, differ: podmanDiffers, name: named("podman:", name, flags),
	}
}

// named is what outband calls a container. One without a pid namespace of its own
// has no number 1 that is its own.
func named(prefix, name string, flags []string) string {
	if slices.Contains(flags, "--pid=host") {
		return ""
	}
	return prefix + name
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
		exec: []string{"podman", "--runtime", "runc", "exec", "withrunc"}, differ: podmanDiffers, name: "podman:withrunc",
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
	check(t, box{pid: pid, exec: []string{"lxc-attach", "-P", path, "-n", "plain", "--"}, differ: []string{"Umask"}, name: "lxc:plain"})
}
