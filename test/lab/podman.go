// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// The host's ordinary user. The machine does not know it: the tables it is in
// are the host's.
const (
	userID   = 1001
	userName = "lab"
	userHome = "/home/lab"
	userRun  = "/run/user/1001"
)

var userEnv = []string{
	"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME=" + userHome, "USER=" + userName, "LANG=C.UTF-8",
	"XDG_RUNTIME_DIR=" + userRun,
}

// Podman is root's podman.
func Podman() *Engine {
	return &Engine{
		Name: "podman", version: []string{"podman", "--version"},
		// The network helpers are left out: no container has a network.
		Needs:  []Program{{"podman", "podman"}, {"conmon", "conmon"}, {"runc", "runc"}, {"catatonit", "catatonit"}},
		setup:  setupPodman,
		run:    runPodman,
		exec:   func(name string) []string { return []string{"podman", "exec", name} },
		remove: func(name string) []string { return []string{"podman", "rm", "-f", "-t", "0", name} },
		pid:    func(name string) []string { return []string{"podman", "inspect", "-f", "{{.State.Pid}}", name} },
		words:  words(map[Verb]string{Pause: "podman pause", Resume: "podman unpause", Stop: "podman stop -t 0", Again: "podman start"}),
	}
}

// PodmanRootless is a user's podman: user 1001 of the host's.
func PodmanRootless() *Engine { return rootless(Podman(), Program{"newuidmap", "uidmap"}) }

// podmanConf lowers limits that a machine without CAP_SYS_RESOURCE cannot raise,
// and asks no daemon for anything.
const podmanConf = `[containers]
default_ulimits = ["nofile=1024:4096", "nproc=1024:4096"]
netns = "none"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
`

func setupPodman(_ context.Context, h *Host) error {
	return h.write("/etc/containers/containers.conf", podmanConf, 0o644)
}

// write makes a file of the host's own.
func (h *Host) write(path, content string, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(h.Path(path)), 0o755); err != nil {
		return err
	}
	return os.WriteFile(h.Path(path), []byte(content), mode)
}

// addUser gives the host its ordinary user, with ids for user namespaces. It is the
// same one for all engines.
func (h *Host) addUser() error {
	if _, err := os.Stat(h.Path(userHome)); err == nil {
		return nil
	}
	for path, line := range map[string]string{
		"/etc/passwd": fmt.Sprintf("%s:x:%d:%d::%s:/bin/sh", userName, userID, userID, userHome),
		"/etc/group":  fmt.Sprintf("%s:x:%d:", userName, userID),
		"/etc/subuid": userName + ":100000:65536",
		"/etc/subgid": userName + ":100000:65536",
	} {
		old, err := os.ReadFile(h.Path(path))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := h.write(path, strings.TrimRight(string(old), "\n")+"\n"+line+"\n", 0o644); err != nil {
			return err
		}
	}
	for _, dir := range []string{userHome, userRun} {
		err := errors.Join(os.MkdirAll(filepath.Dir(h.Path(dir)), 0o755), os.Mkdir(h.Path(dir), 0o700), os.Chown(h.Path(dir), userID, userID))
		if err != nil {
			return err
		}
	}
	return nil
}

func runPodman(ctx context.Context, h *Host, name string, image *Image, o Options) (int, error) {
	if load, err := h.load(image, "podman", "load", "-q", "-i"); err != nil {
		return 0, err
	} else if load != nil {
		if _, err := load.output(ctx); err != nil {
			return 0, err
		}
	}
	options, err := h.storeOptions(o)
	if err != nil {
		return 0, err
	}
	args := append([]string{"podman", "run", "-d", "--pull=never", "--name", name}, options...)
	if _, err := h.As(append(append(args, image.reference()), o.args(image)...)...).output(ctx); err != nil {
		return 0, err
	}
	return number(h.As(h.Engine.pid(name)...).output(ctx))
}
