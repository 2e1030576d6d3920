// SPDX-License-Identifier: Apache-2.0

// Package lxc lists LXC's containers, and Incus's and LXD's, which are LXC's
// below: each has a monitor on the host whose title says which it is.
package lxc

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
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

// List returns the containers that have a monitor, and those of root that are
// configured where they are by default.
func (Engine) List(ctx context.Context, h *engine.Host) ([]engine.Container, error) {
	monitors, err := h.Monitors(ctx, titlePrefix)
	users := map[uint32]engine.Place{}
	for _, place := range h.Places() {
		users[place.UID] = place
	}
	var all []engine.Container
	runs := map[string]bool{}
	for _, m := range monitors {
		path, name := ParseTitle(m.Args[0])
		place, known := users[m.UID]
		if name == "" || !known {
			continue
		}
		c, ok, rerr := running(ctx, h, m, path, name, place)
		err = errors.Join(err, rerr)
		if ok {
			all = append(all, c)
			runs[c.Engine+":"+c.Name] = true
		}
	}
	for dir, manager := range stoppedIn() {
		names, derr := h.ReadDir(dir, 0)
		if derr != nil && !errors.Is(derr, fs.ErrNotExist) {
			err = errors.Join(err, derr)
		}
		for _, name := range names {
			if runs[manager+":"+name] {
				continue
			}
			ok, cerr := configured(h, dir, name, manager, 0)
			err = errors.Join(err, cerr)
			if ok {
				all = append(all, engine.Container{Engine: manager, Name: name, ID: name, State: engine.Stopped})
			}
		}
	}
	return all, err
}

func stoppedIn() map[string]string {
	dirs := managers()
	dirs[defaultPath] = "lxc"
	return dirs
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
	if ok, err := configured(h, path, name, manager, place.UID); !ok {
		if place.UID != 0 { // anybody can call a process so
			err = nil
		}
		return c, false, err
	}
	c = engine.Container{Engine: manager, User: place.User, Name: name, ID: name, State: engine.Stopped}
	if manager == "lxc" && (path != defaultPath || place.UID != 0) {
		c.Via = []string{"--lxcpath=" + path}
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

// configured tells whether there is a container of this name: LXC's have a
// configuration in its directory, the others' are in a database, and have their
// directory.
func configured(h *engine.Host, path, name, manager string, owner uint32) (ok bool, err error) {
	if manager == "lxc" {
		_, err = h.ReadFile(filepath.Join(path, name, "config"), owner)
	} else {
		_, err = h.ReadDir(path, owner)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
