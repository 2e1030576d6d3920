// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
)

// Docker is dockerd with its containerd and runc.
func Docker() *Engine {
	return &Engine{
		Name: "docker", version: []string{"dockerd", "--version"},
		Needs: []Program{{"dockerd", "docker.io"}, {"docker", "docker.io"}, {"containerd", "containerd"}, {"runc", "runc"}},
		setup: func(ctx context.Context, h *Host) error {
			// Its host has no network to forward, and no kernel of its own to load a
			// filter into.
			return h.daemon(ctx, []string{"docker", "version"}, "dockerd",
				"--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false", "--bridge=none",
				"--storage-driver=overlay2", "--shutdown-timeout=3")
		},
		run:    runDocker,
		exec:   func(name string) []string { return []string{"docker", "exec", name} },
		remove: func(name string) []string { return []string{"docker", "rm", "-f", name} },
	}
}

func runDocker(ctx context.Context, h *Host, name string, image *Image, o Options) (int, error) {
	if load, err := h.load(image, "docker", "load", "-q", "-i"); err != nil {
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
	args := append([]string{"docker", "run", "-d", "--pull=never", "--name", name}, options...)
	if _, err := h.Do(ctx, append(append(args, image.reference()), o.args(image)...)...); err != nil {
		return 0, err
	}
	return number(h.Do(ctx, "docker", "inspect", "-f", "{{.State.Pid}}", name))
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
			return h.daemon(ctx, []string{"ctr", "version"}, "containerd")
		},
		run: runContainerd,
		exec: func(name string) []string {
			return []string{"ctr", "task", "exec", "--exec-id", "lab", name}
		},
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
	return number(h.Do(ctx, "sh", "-c", `ctr task ls | awk -v n="$1" '$1 == n { print $2 }'`, "sh", name))
}
