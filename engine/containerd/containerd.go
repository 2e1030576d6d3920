// SPDX-License-Identifier: Apache-2.0

// Package containerd lists containerd's tasks by the directories that its shims
// keep for them, among them the containers of pods; the daemon is not asked.
package containerd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/outband/outband/engine"
)

// Engine reads containerd's state.
type Engine struct{}

// Name returns "containerd".
func (Engine) Name() string { return "containerd" }

// Prefixes are the names for containers of pods.
func (Engine) Prefixes() []string { return []string{"pod"} }

// List returns the tasks of each daemon that runs, and of those that are where
// they are by default, and the containers that have no task.
func (Engine) List(ctx context.Context, h *engine.Host) ([]engine.Container, error) {
	dirs, err := directories(ctx, h)
	var all []engine.Container
	for _, d := range dirs {
		if late := engine.Late(ctx); late != nil {
			return all, errors.Join(err, late)
		}
		list, lerr := listState(ctx, h, d.state)
		list, serr := complete(ctx, h, d.data, list)
		all = append(all, list...)
		err = errors.Join(err, lerr, serr)
	}
	return all, err
}

// daemon is where one keeps the state of what runs, and its data.
type daemon struct{ state, data string }

// directories are those of daemons: containerd's own, Docker's, k3s's, and what
// running ones were told.
func directories(ctx context.Context, h *engine.Host) ([]daemon, error) {
	dirs := []daemon{
		{"/run/containerd", "/var/lib/containerd"}, {"/run/docker/containerd/daemon", "/var/lib/docker/containerd/daemon"},
		{"/run/k3s/containerd", "/var/lib/rancher/k3s/agent/containerd"},
	}
	daemons, err := h.Daemons(ctx, "containerd", 0)
	for _, d := range daemons {
		at := dirs[0]
		told := func(state, data string) {
			if filepath.IsAbs(state) {
				at.state = state
			}
			if filepath.IsAbs(data) {
				at.data = data
			}
		}
		if config := engine.Flag(d.Args, "--config", "-c"); config != "" {
			if b, err := h.ReadFile(config, 0); err == nil {
				told(ParseConfig(string(b), "state"), ParseConfig(string(b), "root"))
			}
		}
		told(engine.Flag(d.Args, "--state"), engine.Flag(d.Args, "--root"))
		if known := func(k daemon) bool { return k.state == at.state }; !slices.ContainsFunc(dirs, known) {
			dirs = append(dirs, at)
		}
	}
	return dirs, err
}

// ParseConfig returns a key of config.toml, "state" or "root", which stands before
// the first table; "" if it does not say.
func ParseConfig(text, want string) string {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			break
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok || strings.TrimSpace(key) != want {
			continue
		}
		value = strings.TrimSpace(value)
		if len(value) > 1 && value[0] == '\'' && value[len(value)-1] == '\'' {
			return value[1 : len(value)-1]
		}
		dir, err := strconv.Unquote(value)
		if err != nil {
			return ""
		}
		return dir
	}
	return ""
}

// tasks is where shims keep a directory for each task, by namespace and id.
const tasks = "io.containerd.runtime.v2.task"

func listState(ctx context.Context, h *engine.Host, state string) ([]engine.Container, error) {
	spaces, err := h.ReadDir(filepath.Join(state, tasks), 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var all []engine.Container
	for _, space := range spaces {
		ids, lerr := h.ReadDir(filepath.Join(state, tasks, space), 0)
		err = errors.Join(err, lerr)
		for _, id := range ids {
			if late := engine.Late(ctx); late != nil {
				return all, errors.Join(err, late)
			}
			c, ok, cerr := task(h, filepath.Join(state, tasks, space, id), space, id)
			if cerr != nil {
				err = errors.Join(err, fmt.Errorf("%s/%s: %w", space, id, cerr))
			}
			if ok {
				all = append(all, c)
			}
		}
	}
	return all, err
}

// via leads ctr to a namespace that is not its own by default.
func via(space string) []string {
	if space == "default" {
		return nil
	}
	return []string{"--namespace=" + space}
}

// task reads the directory of one task.
func task(h *engine.Host, dir, space, id string) (c engine.Container, ok bool, err error) {
	b, err := h.ReadFile(filepath.Join(dir, "init.pid"), 0)
	if errors.Is(err, fs.ErrNotExist) {
		return c, false, nil // not started yet, or being removed
	}
	var pid int
	if err == nil {
		pid, err = strconv.Atoi(strings.TrimSpace(string(b)))
	}
	if err != nil {
		return c, false, err
	}
	c = engine.Container{Engine: "containerd", Name: space + "/" + id, ID: id, State: engine.Stopped, Via: via(space)}
	b, err = h.ReadFile(filepath.Join(dir, "config.json"), 0)
	if err == nil {
		var pod string
		if pod, err = ParseSpec(b); pod != "" {
			c.Name, c.Pod = pod, true
		}
	}
	if init, ierr := h.Init(engine.Facts{PID: pid, Cgroup: id}); ierr == nil {
		c.Init, c.State = init, engine.Running
	}
	return c, true, err
}

// ErrFormat is a file that is not as containerd writes it.
var ErrFormat = errors.New("unexpected format")

// Annotations of the container runtime interface.
const (
	podName      = "io.kubernetes.cri.sandbox-name"
	podNamespace = "io.kubernetes.cri.sandbox-namespace"
	podContainer = "io.kubernetes.cri.container-name"
	podType      = "io.kubernetes.cri.container-type"
)

// ParseSpec parses config.json: "namespace/pod/container" for a container of a
// pod, "" for another.
func ParseSpec(b []byte) (pod string, err error) {
	var spec struct {
		Annotations map[string]string `json:"annotations"`
	}
	if err := json.Unmarshal(b, &spec); err != nil {
		return "", fmt.Errorf("%w: %w", ErrFormat, err)
	}
	a := spec.Annotations
	name := a[podContainer]
	if a[podType] == "sandbox" {
		name = engine.Sandbox
	}
	return joinPod(a[podNamespace], a[podName], name), nil
}

// joinPod is the name of a container of a pod; "" if it is none.
func joinPod(namespace, pod, container string) string {
	for _, part := range []string{namespace, pod, container} {
		if part == "" || strings.Contains(part, "/") {
			return ""
		}
	}
	return namespace + "/" + pod + "/" + container
}
