// SPDX-License-Identifier: Apache-2.0

// Package lxc lists LXC's containers, and Incus's and LXD's, which are LXC's
// below: each has a monitor on the host whose title says which it is.
package lxc

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/outband/outband/engine"
)

// Engine finds monitors and configurations.
type Engine struct{}

// Name returns "lxc".
func (Engine) Name() string { return "lxc" }

// Prefixes are the managers whose containers are LXC's below.
func (Engine) Prefixes() []string { return []string{"incus", "lxd"} }

// managers are the directories of containers that belong to other managers.
func managers() map[string]string {
	return map[string]string{
		"/var/lib/incus/containers": "incus", "/var/lib/lxd/containers": "lxd", "/var/snap/lxd/common/lxd/containers": "lxd",
	}
}

// defaultPath is where LXC keeps its containers unless it is told otherwise.
const defaultPath = "/var/lib/lxc"

// titlePrefix is what a monitor's title begins with.
const titlePrefix = "[lxc monitor] "

// List returns the containers that have a monitor, and those that are configured
// where these are, or where they are by default.
func (Engine) List(ctx context.Context, h *engine.Host) ([]engine.Container, error) {
	monitors, err := h.Monitors(ctx, titlePrefix)
	places := h.Places()
	if !slices.ContainsFunc(places, func(p engine.Place) bool { return p.UID == 0 }) {
		places = append(slices.Clone(places), engine.Place{}) // whose managers' directories anybody may be let into
	}
	all, lerr := engine.EachPlace(ctx, places, func(place engine.Place) ([]engine.Container, error) {
		return listPlace(ctx, h, place, monitors)
	})
	return all, errors.Join(err, lerr)
}

// listPlace returns the containers of one user.
func listPlace(ctx context.Context, h *engine.Host, place engine.Place, monitors []engine.Daemon) (all []engine.Container, err error) {
	runs := map[string]bool{}
	dirs := stoppedIn(place)
	for _, m := range monitors {
		if late := engine.Late(ctx); late != nil {
			return all, errors.Join(err, late)
		}
		path, name := ParseTitle(m.Args[0])
		if name == "" || m.UID != place.UID || place.Runtime == "" {
			continue
		}
		c, ok, rerr := running(ctx, h, m, path, name, place)
		err = errors.Join(err, rerr)
		if ok {
			all = append(all, c)
			d := directory{path, c.Engine, place}
			runs[d.key(name)] = true
			if !slices.Contains(dirs, d) {
				dirs = append(dirs, d)
			}
		}
	}
	for _, d := range dirs {
		stopped, derr := d.stopped(ctx, h, runs)
		all, err = append(all, stopped...), errors.Join(err, derr)
	}
	return all, err
}

// directory is where containers are of one manager's and one user's.
type directory struct {
	path, manager string
	place         engine.Place
}

func (d directory) key(name string) string { return d.path + " " + name }

// stopped returns the containers in a directory but those that run.
func (d directory) stopped(ctx context.Context, h *engine.Host, runs map[string]bool) (all []engine.Container, err error) {
	names, err := h.ReadDir(d.path, d.place.UID)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	for _, name := range names {
		if late := engine.Late(ctx); late != nil {
			return all, errors.Join(err, late)
		}
		if mode, kerr := h.Kind(filepath.Join(d.path, name)); runs[d.key(name)] || kerr == nil && !mode.IsDir() {
			continue // a log, say
		}
		c, ok, cerr := d.configured(h, name)
		err = errors.Join(err, cerr)
		if ok {
			all = append(all, c)
		}
	}
	return all, err
}

// stoppedIn are the directories in which a user's containers are by default; those in
// which one runs come to them.
func stoppedIn(place engine.Place) (dirs []directory) {
	if place.UID == 0 {
		all := managers()
		for _, path := range slices.Sorted(maps.Keys(all)) {
			dirs = append(dirs, directory{path, all[path], place})
		}
	}
	switch {
	case place.Home == "":
		return dirs
	case place.UID == 0:
		return append(dirs, directory{defaultPath, "lxc", place})
	}
	return append(dirs, directory{filepath.Join(place.Home, ".local/share/lxc"), "lxc", place})
}

// ParseTitle splits what a monitor's title has behind its prefix: the directory
// of the containers, which may have blanks, and the name, which has none.
func ParseTitle(title string) (path, name string) {
	i := strings.LastIndexByte(title, ' ')
	if i < 0 {
		return "", ""
	}
	path, name = title[:i], strings.TrimRight(title[i+1:], " ")
	if !filepath.IsAbs(path) || name == "" || name == "." || name == ".." || strings.Contains(name, "/") {
		return "", ""
	}
	return filepath.Clean(path), name
}

// running returns the container of a monitor: its first process is the monitor's
// child. A title could be anybody's who has the monitor's user; so there has to
// be a configuration that only this user or root can write.
func running(ctx context.Context, h *engine.Host, m engine.Daemon, path, name string, place engine.Place) (c engine.Container, ok bool, err error) {
	manager := "lxc"
	if known, ok := managers()[path]; ok {
		manager = known
	}
	d := directory{path, manager, place}
	if c, ok, err = d.configured(h, name); !ok {
		if place.UID != 0 { // anybody can call a process so
			err = nil
		}
		return c, false, err
	}
	pid, err := h.FirstBelow(ctx, m.PID)
	if err != nil || pid == 0 {
		return c, true, err
	}
	if init, err := h.Init(engine.Facts{PID: pid, Parent: m.PID, Owner: place.UID}); err == nil {
		c.Init, c.State = init, engine.Running
	}
	return c, true, nil
}

// configured returns the container of this name, if there is one: LXC's have a
// configuration in its directory, the others' are in a database, and have their
// directory. That is called project_name for those of a project that is not
// "default"; neither part has a "_" itself.
//
// A monitor starts its container again when that asks to be rebooted.
func (d directory) configured(h *engine.Host, name string) (c engine.Container, ok bool, err error) {
	c = engine.Container{Engine: d.manager, User: d.place.User, Name: name, ID: name, State: engine.Stopped, Reboots: true}
	if d.manager == "lxc" {
		var b []byte
		b, err = h.ReadFile(filepath.Join(d.path, name, "config"), d.place.UID)
		c.StopSignal = engine.SignalName(ParseConfig(string(b))["lxc.signal.halt"])
		if d.path != defaultPath {
			c.Via = []string{"--lxcpath=" + d.path}
		}
	} else {
		if project, short, ok := strings.Cut(name, "_"); ok && project != "" && short != "" {
			c.Name, c.Via = project+"/"+short, []string{"--project=" + project}
		}
		_, err = h.ReadDir(d.path, d.place.UID)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return c, false, nil
	}
	return c, err == nil, err
}

// ParseConfig parses the configuration of a container (lxc.container.conf(5)). Of
// several values of one key the last is returned; what is included is not read.
func ParseConfig(text string) map[string]string {
	values := map[string]string{}
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(line, "=")
		if key = strings.TrimSpace(key); ok && !strings.HasPrefix(key, "#") {
			values[key] = strings.TrimSpace(value)
		}
	}
	return values
}
