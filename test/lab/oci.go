// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// RunC is runc without anything above it.
func RunC() *Engine { return ociEngine("runc", Program{"runc", "runc"}) }

// Crun is crun without anything above it. It cannot do with cgroup2 beside
// version 1 if both have controllers.
func Crun() *Engine {
	e := ociEngine("crun", Program{"crun", "crun"})
	e.hideUnified = true
	return e
}

func ociEngine(name string, program Program) *Engine {
	return &Engine{
		Name: name, Needs: []Program{program}, version: []string{name, "--version"},
		run: func(ctx context.Context, h *Host, id string, image *Image, o Options) (int, error) {
			return h.runOCI(ctx, name, id, image, o)
		},
		exec:   func(id string) []string { return []string{name, "exec", id} },
		remove: func(id string) []string { return []string{name, "delete", "-f", id} },
		words:  words(map[Verb]string{Pause: name + " pause", Resume: name + " resume"}),
	}
}

func (h *Host) runOCI(ctx context.Context, runtime, id string, image *Image, o Options) (int, error) {
	bundle := "/lab/" + runtime + "/" + id
	if err := errors.Join(os.RemoveAll(h.Path(bundle)), image.unpack(h.Path(bundle+"/rootfs"))); err != nil {
		return 0, err
	}
	if _, err := h.Do(ctx, runtime, "spec", "--bundle", bundle); err != nil {
		return 0, err
	}
	if err := editConfig(h.Path(bundle+"/config.json"), image, o); err != nil {
		return 0, err
	}
	args := append([]string{runtime, "run", "-d", "--pid-file", bundle + "/pid", "--bundle", bundle}, o.Extra...)
	if _, err := h.Do(ctx, append(args, id)...); err != nil {
		return 0, err
	}
	text, err := os.ReadFile(h.Path(bundle + "/pid"))
	pid, err := number(string(text), err)
	if err != nil {
		return 0, err
	}
	// crun returns when its child is about to execute: not all filters are in place.
	return pid, poll(ctx, func() error {
		comm, err := os.ReadFile(h.Path(fmt.Sprintf("/proc/%d/comm", pid)))
		if err == nil && strings.HasPrefix(string(comm), runtime) {
			return errors.New("the runtime has not executed the container's command")
		}
		return nil
	})
}

// The ids of a user namespace, as seen outside.
const firstID, manyIDs = 100000, 65536

// editConfig changes what `runc spec` proposes.
func editConfig(path string, image *Image, o Options) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var config map[string]any
	if err := json.Unmarshal(data, &config); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	process, ok := config["process"].(map[string]any)
	linux, also := config["linux"].(map[string]any)
	if !ok || !also {
		return fmt.Errorf("%s: not understood", path)
	}
	process["terminal"], process["args"] = false, o.args(image)
	process["env"] = []string{"PATH=/bin:/sbin"}
	config["root"] = map[string]any{"path": "rootfs", "readonly": false}
	if o.OwnUsers {
		ids := []map[string]int{{"containerID": 0, "hostID": firstID, "size": manyIDs}}
		spaces, _ := linux["namespaces"].([]any)
		linux["namespaces"] = append(spaces, map[string]string{"type": "user"})
		linux["uidMappings"], linux["gidMappings"] = ids, ids
	}
	if o.NoMkdir {
		linux["seccomp"] = noMkdirProfile()
	}
	if data, err = json.Marshal(config); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

// noMkdirProfile lets everything pass but mkdir(2) and its kin, which fail with
// EROFS: an error that nothing else gives here.
func noMkdirProfile() map[string]any {
	const erofs = 30
	return map[string]any{
		"defaultAction": "SCMP_ACT_ALLOW",
		"syscalls": []map[string]any{{
			"names": []string{"mkdir", "mkdirat"}, "action": "SCMP_ACT_ERRNO", "errnoRet": erofs,
		}},
	}
}

// noMkdirFile writes the profile where the engines that take a path find it.
func (h *Host) noMkdirFile() (string, error) {
	const path = "/lab/no-mkdir.json"
	data, err := json.Marshal(noMkdirProfile())
	if err != nil {
		return "", err
	}
	return path, errors.Join(os.MkdirAll(filepath.Dir(h.Path(path)), 0o755), os.WriteFile(h.Path(path), data, 0o644))
}
