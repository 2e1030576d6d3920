// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"slices"
	"strings"
)

// dockerd is the daemon's command line. A host has no network to forward, and no
// kernel of its own to load a filter into.
var dockerd = []string{
	"dockerd", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false", "--bridge=none",
	"--storage-driver=overlay2", "--shutdown-timeout=3",
}

// Docker is dockerd with its containerd and runc.
func Docker() *Engine {
	return dockerBy("docker", func(ctx context.Context, h *Host) error {
		return h.daemon(ctx, h.Command(dockerd...), "docker", "version")
	}, "docker")
}

// DockerUserNS is a dockerd whose containers are in a user namespace of the
// daemon's.
func DockerUserNS() *Engine {
	return dockerBy("docker-userns", func(ctx context.Context, h *Host) error {
		if err := h.addUser(); err != nil {
			return err
		}
		return h.daemon(ctx, h.Command(append(slices.Clone(dockerd), "--userns-remap="+userName)...), "docker", "version")
	}, "docker")
}

// DockerRootless is a user's dockerd, as dockerd-rootless.sh starts it, without a
// network; flags are more of RootlessKit's.
func DockerRootless(flags ...string) *Engine {
	client := []string{"docker", "-H", "unix://" + userRun + "/docker.sock"}
	e := dockerBy("docker-rootless", func(ctx context.Context, h *Host) error {
		if err := h.addUser(); err != nil {
			return err
		}
		kit := []string{"rootlesskit", "--net=host", "--copy-up=/etc", "--copy-up=/run", "--propagation=rslave"}
		// What is in the way belongs to the machine's own.
		start := append(append(kit, flags...), "sh", "-c", `rm -f /run/docker /run/containerd /run/xtables.lock; exec "$@"`, "sh")
		return h.daemon(ctx, h.As(append(append(start, dockerd...), "--rootless")...), append(client, "version")...)
	}, client...)
	e.User = &User{userID, userID}
	delete(e.words, Pause) // takes a cgroup of its own
	e.Needs = append(e.Needs, Program{"rootlesskit", "rootlesskit"}, Program{"newuidmap", "uidmap"})
	return e
}

// dockerBy is docker as a client talks to it.
func dockerBy(name string, setup func(context.Context, *Host) error, client ...string) *Engine {
	call := func(args ...string) []string { return append(slices.Clone(client), args...) }
	return &Engine{
		Name: name, version: []string{"dockerd", "--version"},
		Needs: []Program{{"dockerd", "docker.io"}, {"docker", "docker.io"}, {"containerd", "containerd"}, {"runc", "runc"}},
		setup: setup,
		run: func(ctx context.Context, h *Host, name string, image *Image, o Options) (int, error) {
			return runDocker(ctx, h, call, name, image, o)
		},
		exec:   func(name string) []string { return call("exec", name) },
		remove: func(name string) []string { return call("rm", "-f", name) },
		pid:    func(name string) []string { return call("inspect", "-f", "{{.State.Pid}}", name) },
		words: words(map[Verb]string{
			Pause: strings.Join(call("pause"), " "), Resume: strings.Join(call("unpause"), " "),
			Stop: strings.Join(call("stop", "-t", "0"), " "), Again: strings.Join(call("start"), " "),
		}),
	}
}

func runDocker(ctx context.Context, h *Host, call func(...string) []string, name string, image *Image, o Options) (int, error) {
	if load, err := h.load(image, call("load", "-q", "-i")...); err != nil {
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
	args := append(call("run", "-d", "--pull=never", "--name", name), options...)
	if _, err := h.As(append(append(args, image.reference()), o.args(image)...)...).output(ctx); err != nil {
		return 0, err
	}
	return number(h.As(h.Engine.pid(name)...).output(ctx))
}

// storeOptions are the flags of docker's and of podman's that o means.
func (h *Host) storeOptions(o Options) (args []string, err error) {
	if o.NoMkdir {
		path, err := h.noMkdirFile()
		if err != nil {
			return nil, err
		}
		args = append(args, "--security-opt", "seccomp="+path)
	}
	return append(args, o.Extra...), nil
}

// Containerd is containerd as ctr uses it.
func Containerd() *Engine {
	return &Engine{
		Name: "containerd", version: []string{"containerd", "--version"},
		Needs: []Program{{"containerd", "containerd"}, {"ctr", "containerd"}, {"runc", "runc"}},
		setup: func(ctx context.Context, h *Host) error {
			if _, err := h.Command("ctr", "version").output(ctx); err == nil {
				return nil // there is one for pods
			}
			return h.daemon(ctx, h.Command("containerd"), "ctr", "version")
		},
		run: runContainerd,
		exec: func(name string) []string {
			return []string{"ctr", "task", "exec", "--exec-id", "lab", name}
		},
		pid: func(name string) []string {
			return []string{"sh", "-c", `ctr task ls | awk -v n="$1" '$1 == n { print $2 }'`, "sh", name}
		},
		words: words(map[Verb]string{Pause: "ctr task pause", Resume: "ctr task resume"}),
		remove: func(name string) []string {
			return []string{"sh", "-c", `ctr task kill -s KILL "$1" && ctr task rm -f "$1"; ctr container rm "$1"`, "sh", name}
		},
	}
}

func runContainerd(ctx context.Context, h *Host, name string, image *Image, o Options) (int, error) {
	if load, err := h.load(image, "ctr", "images", "import"); err != nil {
		return 0, err
	} else if load != nil {
		if _, err := load.output(ctx); err != nil {
			return 0, err
		}
	}
	args := []string{"ctr", "run", "-d"}
	if o.NoMkdir {
		path, err := h.noMkdirFile()
		if err != nil {
			return 0, err
		}
		args = append(args, "--seccomp", "--seccomp-profile", path)
	}
	args = append(append(args, o.Extra...), image.reference(), name)
	if _, err := h.Do(ctx, append(args, o.args(image)...)...); err != nil {
		return 0, err
	}
	return number(h.Do(ctx, h.Engine.pid(name)...))
}
