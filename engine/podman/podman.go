// SPDX-License-Identifier: Apache-2.0

// Package podman lists Podman's containers, root's and those of all users, by
// its storage and by the conmon that watches each.
package podman

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
	"github.com/outband/outband/internal/safetext"
)

// Engine reads Podman's files.
type Engine struct{}

// Name returns "podman".
func (Engine) Name() string { return "podman" }

// List returns the containers in each storage: where it is by default, and where
// a running container's conmon has it.
func (Engine) List(ctx context.Context, h *engine.Host) ([]engine.Container, error) {
	return engine.EachPlace(ctx, h.Places(), func(place engine.Place) ([]engine.Container, error) { return listPlace(ctx, h, place) })
}

// listPlace returns the containers of one user.
func listPlace(ctx context.Context, h *engine.Host, place engine.Place) (all []engine.Container, failed error) {
	monitors, failed := h.Daemons(ctx, "conmon", place.UID)
	byID, via := map[string]engine.Daemon{}, map[string][]string{}
	dirs := storages(place)
	for _, m := range monitors {
		id, dir := ParseMonitor(m.Args)
		if id == "" {
			continue
		}
		byID[id] = m
		if dir != "" && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
			via[dir] = Via(m.Args)
		}
	}
	for _, dir := range dirs {
		if late := engine.Late(ctx); late != nil {
			return all, errors.Join(failed, late)
		}
		list, err := listStorage(ctx, h, dir, place, byID)
		for i := range list {
			list[i].Via = via[dir]
		}
		all = append(all, list...)
		failed = errors.Join(failed, err)
	}
	return all, failed
}

// storages are where a user's containers are by default, for each driver that
// keeps them so.
func storages(place engine.Place) []string {
	base := "/var/lib/containers/storage"
	if place.UID != 0 {
		if place.Home == "" {
			return nil
		}
		base = filepath.Join(place.Home, ".local/share/containers/storage")
	}
	var dirs []string
	for _, driver := range []string{"overlay", "vfs", "btrfs", "zfs"} {
		dirs = append(dirs, filepath.Join(base, driver+"-containers"))
	}
	return dirs
}

// ParseMonitor returns from the command line of conmon the container's id and
// the storage it is in; "" for a conmon that watches a command that was put into
// a container later.
func ParseMonitor(args []string) (id, storage string) {
	for _, arg := range args {
		if arg == "-e" || arg == "--exec" || strings.HasPrefix(arg, "--exec-") {
			return "", ""
		}
	}
	id = engine.Flag(args, "-c", "--cid")
	if !isID(id) {
		return "", ""
	}
	// .../overlay-containers/ID/userdata
	bundle := filepath.Clean(engine.Flag(args, "-b", "--bundle"))
	if filepath.IsAbs(bundle) && filepath.Base(filepath.Dir(bundle)) == id {
		storage = filepath.Dir(filepath.Dir(bundle))
	}
	return id, storage
}

// isID tells whether a text is a container's id: what becomes a part of paths is
// nothing else.
func isID(id string) bool { return len(id) == 64 && strings.Trim(id, "0123456789abcdef") == "" }

// Via returns from the command line of conmon what leads podman to its storage: the
// flags with which it has podman called when the container has ended.
func Via(args []string) (via []string) {
	var call []string
	for i, arg := range args {
		if arg == "--exit-command-arg" && i+1 < len(args) {
			call = append(call, args[i+1])
		}
	}
	for _, name := range []string{"--root", "--runroot", "--tmpdir", "--storage-driver"} {
		if value := engine.Flag(call, name); value != "" {
			via = append(via, name+"="+value)
		}
	}
	return via
}

// listStorage returns the containers of one storage.
func listStorage(ctx context.Context, h *engine.Host, dir string, place engine.Place, monitors map[string]engine.Daemon) ([]engine.Container, error) {
	b, err := h.ReadFile(filepath.Join(dir, "containers.json"), place.UID)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var stored []Stored
	if err == nil {
		stored, err = ParseContainers(b)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", dir, err)
	}
	var all []engine.Container
	for _, s := range stored {
		if late := engine.Late(ctx); late != nil {
			return all, errors.Join(err, late)
		}
		c := engine.Container{Engine: "podman", User: place.User, Name: s.Name, ID: s.ID, State: engine.Stopped}
		if m, ok := monitors[s.ID]; ok {
			if init, err := find(h, place, m); err == nil {
				c.Init, c.State = init, engine.Running
			}
		}
		all = append(all, c)
	}
	if h.Brief() || len(all) == 0 {
		return all, err
	}
	records, failed := readRecords(ctx, h, filepath.Dir(dir), place.UID) // last, as it takes the longest
	failed = errors.Join(err, failed)
	for i := range all {
		if late := engine.Late(ctx); late != nil {
			return all, errors.Join(failed, late)
		}
		r := records[all[i].ID]
		r.describe(&all[i])
		if all[i].State == engine.Stopped && r.Runs {
			all[i].Exit = exit(h, all[i].ID, place)
		}
	}
	return all, failed
}

// find returns the first process of a container. Its number is in a file that only
// the engine's user can write, and it has to be a child of the container's conmon.
func find(h *engine.Host, place engine.Place, m engine.Daemon) (engine.Init, error) {
	path := engine.Flag(m.Args, "-p", "--container-pidfile")
	if path == "" {
		return engine.Init{}, fs.ErrNotExist
	}
	b, err := h.ReadFile(path, place.UID)
	if err != nil {
		return engine.Init{}, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return engine.Init{}, err
	}
	return h.Init(engine.Facts{PID: pid, Parent: m.PID, Owner: place.UID})
}

// Stored is a container in containers.json.
type Stored struct{ ID, Name string }

// ErrFormat is a file that is not as Podman writes it.
var ErrFormat = errors.New("unexpected format")

// ParseContainers parses containers.json of the storage. What other programs
// keep there, without a name, has its id for one. What has no id as Podman makes
// them is left out, which the error tells.
func ParseContainers(b []byte) ([]Stored, error) {
	var list []struct {
		ID    string   `json:"id"`
		Names []string `json:"names"`
	}
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	var all []Stored
	var failed error
	for _, c := range list {
		if !isID(c.ID) {
			failed = fmt.Errorf("%w: a container with the id %q", ErrFormat, safetext.Escape(c.ID[:min(len(c.ID), 64)]))
			continue
		}
		s := Stored{c.ID, c.ID}
		if len(c.Names) > 0 && c.Names[0] != "" {
			s.Name = c.Names[0]
		}
		all = append(all, s)
	}
	return all, failed
}
