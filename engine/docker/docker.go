// SPDX-License-Identifier: Apache-2.0

// Package docker lists Docker's containers, root's and those of all users, by the
// files of their daemons, which need not run. No daemon is asked but one that the
// caller names.
package docker

import (
	"bytes"
	"cmp"
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
type Engine struct {
	// Host is where the caller's daemon listens, "unix:///srv/docker.sock", as
	// docker has it in DOCKER_HOST; "" for no such daemon. It is asked for the
	// containers that its files do not tell of, if it runs.
	Host string
}

// Name returns "docker".
func (Engine) Name() string { return "docker" }

// List returns the containers of each daemon that runs, and of those that are there
// by default: root's, and each user's.
func (e Engine) List(ctx context.Context, h *engine.Host) ([]engine.Container, error) {
	places := h.Places()
	if !slices.ContainsFunc(places, func(p engine.Place) bool { return p.UID == 0 }) && h.Asks("") {
		places = append(places, engine.Place{Runtime: "/run"}) // that it may not be read is told
	}
	all, failed := engine.EachPlace(ctx, places, func(place engine.Place) ([]engine.Container, error) {
		d := daemon{h: h, place: place}
		return d.containers(ctx)
	})
	if errors.Is(failed, engine.ErrDeadline) && engine.Late(ctx) != nil {
		return all, failed
	}
	more, err := e.asked(ctx, h, all)
	return append(all, more...), errors.Join(failed, err)
}

// daemon is the Docker of one user.
type daemon struct {
	h     *engine.Host
	place engine.Place
	shims map[string]int // of a user's containers, by their ids
}

// containers are those in all its roots.
func (d *daemon) containers(ctx context.Context) (all []engine.Container, failed error) {
	roots, failed := d.roots(ctx)
	for _, r := range roots {
		if late := engine.Late(ctx); late != nil {
			return all, errors.Join(failed, late)
		}
		list, err := d.list(ctx, r.path)
		for i := range list {
			list[i].Via = r.via
		}
		all = append(all, list...)
		failed = errors.Join(failed, err)
	}
	return all, failed
}

// root is a directory in which a daemon keeps its data, and what leads docker to
// that daemon.
type root struct {
	path string
	via  []string
}

// Via returns the flag that leads docker to a daemon by its command line; other is
// where it listens where that does not say, "" for where docker looks.
func Via(args []string, other string) []string {
	for i := range args {
		if at := engine.Flag(args[i:min(i+2, len(args))], "--host", "-H"); strings.HasPrefix(at, "unix://") {
			other = at
			break
		}
	}
	if other == "" || other == "unix:///var/run/docker.sock" || other == "unix:///run/docker.sock" {
		return nil
	}
	return []string{"--host=" + other}
}

// roots are the directories in which daemons keep their data: where it is unless
// they are told otherwise, what daemon.json says, what running ones were told.
func (d *daemon) roots(ctx context.Context) ([]root, error) {
	data, config, socket := "/var/lib/docker", "/etc/docker/daemon.json", ""
	if d.place.UID != 0 {
		data, config, socket = "", "", "unix://"+filepath.Join(d.place.Runtime, "docker.sock")
		if home := d.place.Home; home != "" {
			data, config = filepath.Join(home, ".local/share/docker"), filepath.Join(home, ".config/docker/daemon.json")
		}
	}
	var roots []root
	add := func(path string, via []string) {
		if !filepath.IsAbs(path) {
			return
		}
		if i := slices.IndexFunc(roots, func(r root) bool { return r.path == path }); i >= 0 {
			roots[i].via = via // the daemon that runs knows best
			return
		}
		roots = append(roots, root{path, via})
	}
	configured := func(path string) string {
		if path == "" {
			return ""
		}
		b, _ := d.h.ReadFile(path, d.place.UID) // none is fine
		return ParseDaemon(b)
	}
	add(data, Via(nil, socket))
	add(configured(config), Via(nil, socket))
	daemons, err := d.h.Daemons(ctx, "dockerd", d.place.UID)
	for _, p := range daemons {
		at := cmp.Or(engine.Flag(p.Args, "--data-root", "-g"), configured(cmp.Or(engine.Flag(p.Args, "--config-file"), config)), data)
		add(at, Via(p.Args, socket))
	}
	if d.place.UID != 0 && len(daemons) > 0 {
		shims, serr := d.h.Daemons(ctx, "containerd-shim-runc-v2", d.place.UID)
		err = errors.Join(err, serr)
		d.shims = map[string]int{}
		for _, p := range shims {
			d.shims[engine.Flag(p.Args, "-id")] = p.PID
		}
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

// list returns the containers of one daemon. Those of a daemon with its own user
// namespace lie one level deeper, below the ids it has outside.
func (d *daemon) list(ctx context.Context, root string) ([]engine.Container, error) {
	all, err := d.listDir(ctx, filepath.Join(root, "containers"))
	names, derr := d.h.ReadDir(root, d.place.UID)
	if errors.Is(derr, fs.ErrNotExist) {
		return all, err
	}
	for _, name := range names {
		if late := engine.Late(ctx); late != nil {
			return all, errors.Join(err, late)
		}
		uid, gid, ok := strings.Cut(name, ".")
		if !ok || strings.Trim(uid+gid, "0123456789") != "" {
			continue
		}
		list, lerr := d.listDir(ctx, filepath.Join(root, name, "containers"))
		all = append(all, list...)
		err = errors.Join(err, lerr)
	}
	return all, errors.Join(err, derr)
}

// listDir returns the containers that have a directory in dir.
func (d *daemon) listDir(ctx context.Context, dir string) ([]engine.Container, error) {
	ids, err := d.h.ReadDir(dir, d.place.UID)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var all []engine.Container
	for _, id := range ids {
		if late := engine.Late(ctx); late != nil {
			return all, errors.Join(err, late)
		}
		c, rerr := d.read(dir, id)
		if errors.Is(rerr, fs.ErrNotExist) {
			continue // being made or removed
		}
		if c.ID != "" {
			all = append(all, d.container(c))
		}
		if rerr != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", filepath.Join(dir, id), rerr))
		}
	}
	return all, err
}

// read reads what is written of one container; nothing of one that is not sought.
// One whose policy cannot be read is returned all the same, with the error.
func (d *daemon) read(dir, id string) (Config, error) {
	b, err := d.h.ReadFile(filepath.Join(dir, id, "config.v2.json"), d.place.UID)
	if err != nil {
		return Config{}, err
	}
	if name := d.h.Sought(); !strings.HasPrefix(id, name) && !bytes.Contains(b, []byte(`"/`+name+`"`)) {
		return Config{}, nil
	}
	c, err := ParseConfig(b)
	if err == nil && c.ID != id {
		err = fmt.Errorf("%w: it is of another id", ErrFormat)
	}
	if err != nil {
		return Config{}, err
	}
	if d.h.Brief() {
		return c, nil
	}
	b, err = d.h.ReadFile(filepath.Join(dir, id, "hostconfig.json"), d.place.UID)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err == nil {
		c.Restart, err = ParsePolicy(b)
	}
	return c, err
}

// container is what becomes of it when the kernel has been asked. The id is a part
// of the path of its cgroup, which Docker makes; where a user's Docker can make
// none, the container's shim is its parent.
func (d *daemon) container(c Config) engine.Container {
	found := engine.Container{
		Engine: "docker", User: d.place.User, Name: c.Name, ID: c.ID, State: engine.Stopped,
		Restart: c.Restart, StopSignal: c.StopSignal, Exit: c.Exit,
	}
	if !c.Running {
		return found
	}
	init, err := d.h.Init(engine.Facts{PID: c.PID, Cgroup: c.ID, Owner: d.place.UID})
	if shim := d.shims[c.ID]; err != nil && shim != 0 {
		init, err = d.h.Init(engine.Facts{PID: c.PID, Parent: shim, Owner: d.place.UID})
	}
	if err == nil {
		found.Init, found.State = init, engine.Running
	}
	if c.Paused && found.State == engine.Running {
		found.State = engine.Paused
	}
	return found
}
