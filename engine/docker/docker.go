// SPDX-License-Identifier: Apache-2.0

// Package docker lists Docker's containers by the files of its daemon, which
// need not run; the daemon is not asked.
package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/outband/outband/engine"
)

// Engine reads Docker's files.
type Engine struct{}

// Name returns "docker".
func (Engine) Name() string { return "docker" }

// List returns the containers of each daemon that runs, and of the one that is
// there by default.
func (Engine) List(ctx context.Context, h *engine.Host) ([]engine.Container, error) {
	roots, err := dataRoots(ctx, h)
	var all []engine.Container
	for _, root := range roots {
		list, lerr := listRoot(h, root)
		all = append(all, list...)
		err = errors.Join(err, lerr)
	}
	return all, err
}

// defaultRoot is where Docker keeps its data unless it is told otherwise.
const defaultRoot = "/var/lib/docker"

// dataRoots are the directories in which daemons keep their data: what
// daemon.json says, what running ones were told.
func dataRoots(ctx context.Context, h *engine.Host) ([]string, error) {
	roots := []string{defaultRoot}
	add := func(root string) {
		if filepath.IsAbs(root) && !slices.Contains(roots, root) {
			roots = append(roots, root)
		}
	}
	configured := func(path string) {
		if b, err := h.ReadFile(path, 0); err == nil {
			add(ParseDaemon(b))
		}
	}
	configured("/etc/docker/daemon.json")
	daemons, err := h.Daemons(ctx, "dockerd", 0)
	for _, d := range daemons {
		if config := engine.Flag(d.Args, "--config-file"); config != "" {
			configured(config)
		}
		add(engine.Flag(d.Args, "--data-root", "-g"))
	}
	return roots, err
}

// ParseDaemon parses daemon.json: where the data is, "" if it does not say.
func ParseDaemon(b []byte) string {
	var c struct {
		Root string `json:"data-root"`
	}
	if json.Unmarshal(b, &c) != nil {
		return ""
	}
	return c.Root
}

// listRoot returns the containers of one daemon. Those of a daemon with its own
// user namespace lie one level deeper, below the ids it has outside.
func listRoot(h *engine.Host, root string) ([]engine.Container, error) {
	all, err := listDir(h, filepath.Join(root, "containers"))
	names, derr := h.ReadDir(root, 0)
	if errors.Is(derr, fs.ErrNotExist) {
		return all, err
	}
	for _, name := range names {
		uid, gid, ok := strings.Cut(name, ".")
		if !ok || strings.Trim(uid+gid, "0123456789") != "" {
			continue
		}
		list, lerr := listDir(h, filepath.Join(root, name, "containers"))
		all = append(all, list...)
		err = errors.Join(err, lerr)
	}
	return all, errors.Join(err, derr)
}

// listDir returns the containers that have a directory in dir.
func listDir(h *engine.Host, dir string) ([]engine.Container, error) {
	ids, err := h.ReadDir(dir, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var all []engine.Container
	for _, id := range ids {
		c, rerr := readOne(h, dir, id)
		if errors.Is(rerr, fs.ErrNotExist) {
			continue // being made or removed
		}
		if c.ID != "" {
			all = append(all, c.container(h))
		}
		if rerr != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", filepath.Join(dir, id), rerr))
		}
	}
	return all, err
}

// readOne reads what is written of one container. One whose policy cannot be
// read is returned all the same, with the error.
func readOne(h *engine.Host, dir, id string) (Config, error) {
	b, err := h.ReadFile(filepath.Join(dir, id, "config.v2.json"), 0)
	if err != nil {
		return Config{}, err
	}
	c, err := ParseConfig(b)
	if err == nil && c.ID != id {
		err = fmt.Errorf("%w: it is of another id", ErrFormat)
	}
	if err != nil {
		return Config{}, err
	}
	b, err = h.ReadFile(filepath.Join(dir, id, "hostconfig.json"), 0)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err == nil {
		c.Restart, err = ParsePolicy(b)
	}
	return c, err
}
