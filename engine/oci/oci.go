// SPDX-License-Identifier: Apache-2.0

// Package oci lists the containers of OCI runtimes (runc, crun, youki) by the
// state that these keep, whoever called them.
package oci

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

// Engine reads the state of OCI runtimes.
type Engine struct {
	// Roots are directories, besides those that are found, in which the caller's
	// runtimes keep their state. A container that was started in one has nothing to
	// lead there, unless its runtime or conmon waits for it.
	Roots []Root
}

// Name returns "oci".
func (Engine) Name() string { return "oci" }

// runtime is a program that keeps a directory for each container below one of
// its own name, and in that a file.
type runtime struct {
	name, file string
	parse      func([]byte) (State, error)
}

func runtimes() []runtime {
	return []runtime{{"runc", "state.json", ParseRunc}, {"crun", "status", ParseCrun}, {"youki", "state.json", ParseYouki}}
}

// Prefixes are the runtimes: names of their containers begin with them.
func (Engine) Prefixes() []string { return []string{"runc", "crun", "youki"} }

// List returns the containers of root's runtimes, or of the caller's own.
func (e Engine) List(ctx context.Context, h *engine.Host) ([]engine.Container, error) {
	return engine.EachPlace(ctx, h.Places(), func(place engine.Place) ([]engine.Container, error) {
		roots, err := e.roots(ctx, h, place)
		list, lerr := listRoots(ctx, h, roots, place)
		sought := func(c engine.Container) bool { return c.Engine == "runc" && c.Name == h.Sought() }
		if h.Sought() == "" || slices.ContainsFunc(list, sought) {
			return list, errors.Join(err, lerr)
		}
		more, merr := listRoots(ctx, h, above(h, place), place)
		return append(list, more...), errors.Join(err, lerr, merr)
	})
}

// listRoots returns the containers in several roots.
func listRoots(ctx context.Context, h *engine.Host, roots []Root, place engine.Place) (all []engine.Container, failed error) {
	for _, root := range roots {
		if late := engine.Late(ctx); late != nil {
			return all, errors.Join(failed, late)
		}
		for _, r := range runtimes() {
			if r.name == root.Runtime {
				list, err := r.list(ctx, h, root.Dir, place)
				all = append(all, list...)
				failed = errors.Join(failed, err)
			}
		}
	}
	return all, failed
}

// list returns the containers that a runtime keeps below dir; where one is sought,
// only what may be that.
func (r runtime) list(ctx context.Context, h *engine.Host, dir string, place engine.Place) ([]engine.Container, error) {
	ids, err := h.ReadDir(dir, place.UID)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []engine.Container
	var failed error
	var via []string
	if dir != filepath.Join(place.Runtime, r.name) {
		via = []string{"--root=" + dir}
	}
	for _, id := range ids {
		if late := engine.Late(ctx); late != nil {
			return all, errors.Join(failed, late)
		}
		if !strings.HasPrefix(id, h.Sought()) {
			continue
		}
		b, err := h.ReadFile(filepath.Join(dir, id, r.file), place.UID)
		if errors.Is(err, fs.ErrNotExist) {
			continue // being made or removed
		}
		var s State
		if err == nil {
			s, err = r.parse(b)
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", filepath.Join(dir, id), err))
			continue
		}
		c := engine.Container{Engine: r.name, User: place.User, Name: id, ID: id, State: engine.Stopped, Via: via}
		if init, err := h.Init(s.Facts(id, place.UID)); err == nil {
			c.Init, c.State = init, engine.Running
		}
		all = append(all, c)
	}
	return all, failed
}

// State is what a runtime has written down of a container.
type State struct {
	PID   int
	Start uint64 // of its first process, clock ticks since boot; 0: not told
}

// Facts are what has to be true of a container's first process. Where the state
// has no start time, the id has to be in the path of its cgroup.
func (s State) Facts(id string, owner uint32) engine.Facts {
	f := engine.Facts{PID: s.PID, Start: s.Start, Owner: owner}
	if s.Start == 0 {
		f.Cgroup = id
	}
	return f
}

// ErrFormat is state that is not as its runtime writes it.
var ErrFormat = errors.New("unexpected format")

// ParseRunc parses runc's state.json (libcontainer.State).
func ParseRunc(b []byte) (State, error) {
	var s struct {
		ID    string `json:"id"`
		PID   int    `json:"init_process_pid"`
		Start uint64 `json:"init_process_start"`
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return State{}, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if s.ID == "" || s.PID < 0 {
		return State{}, fmt.Errorf("%w: no id", ErrFormat)
	}
	return State{s.PID, s.Start}, nil
}

// ParseCrun parses crun's status.
func ParseCrun(b []byte) (State, error) {
	var s struct {
		PID    int    `json:"pid"`
		Start  uint64 `json:"process-start-time"`
		Bundle string `json:"bundle"`
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return State{}, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if s.PID < 0 || s.Bundle == "" {
		return State{}, fmt.Errorf("%w: no bundle", ErrFormat)
	}
	return State{s.PID, s.Start}, nil
}

// ParseYouki parses youki's state.json, which has no start time.
func ParseYouki(b []byte) (State, error) {
	var s struct {
		ID  string `json:"id"`
		PID int    `json:"pid"`
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return State{}, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if s.ID == "" || s.PID < 0 {
		return State{}, fmt.Errorf("%w: no id", ErrFormat)
	}
	return State{PID: s.PID}, nil
}
