// SPDX-License-Identifier: Apache-2.0

// Package nspawn lists the containers of systemd-nspawn: those registered with
// systemd-machined, and those of each systemd-nspawn of root's.
package nspawn

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/outband/outband/engine"
)

// Engine finds machines.
type Engine struct{}

// Name returns "nspawn".
func (Engine) Name() string { return "nspawn" }

// machines is where systemd-machined keeps a file for each machine.
const machines = "/run/systemd/machines"

// List returns the machines that run, and those that are where systemd-nspawn
// finds them by name.
func (Engine) List(ctx context.Context, h *engine.Host) ([]engine.Container, error) {
	daemons, err := h.Daemons(ctx, "systemd-nspawn", 0)
	leaders, lerr := registered(ctx, h)
	var all []engine.Container
	runs := map[string]bool{}
	for _, d := range daemons {
		if late := engine.Late(ctx); late != nil {
			return all, errors.Join(err, lerr, late)
		}
		if c, ok := running(ctx, h, d, leaders); ok {
			all = append(all, c)
			runs[c.Name] = true
		}
	}
	stopped, serr := images(ctx, h)
	for _, name := range stopped {
		if !runs[name] {
			all = append(all, engine.Container{Engine: "nspawn", Name: name, ID: name, State: engine.Stopped})
		}
	}
	return all, errors.Join(err, lerr, serr)
}

// registered are machined's names of machines, by their first processes.
func registered(ctx context.Context, h *engine.Host) (map[int]string, error) {
	names, err := h.ReadDir(machines, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	leaders := map[int]string{}
	for _, name := range names {
		if late := engine.Late(ctx); late != nil {
			return leaders, errors.Join(err, late)
		}
		if strings.Contains(name, ":") { // unit:NAME is a link to it
			continue
		}
		b, rerr := h.ReadFile(filepath.Join(machines, name), 0)
		if rerr != nil {
			if !errors.Is(rerr, fs.ErrNotExist) { // it has ended
				err = errors.Join(err, rerr)
			}
			continue
		}
		if m := ParseMachine(string(b)); m.Leader > 0 && m.Service == "systemd-nspawn" {
			leaders[m.Leader] = m.Name
		}
	}
	return leaders, err
}

// running returns the machine of a systemd-nspawn. A name of machined's comes
// before that of a command line.
func running(ctx context.Context, h *engine.Host, d engine.Daemon, leaders map[int]string) (engine.Container, bool) {
	pid, err := h.FirstBelow(ctx, d.PID)
	if err != nil || pid == 0 {
		return engine.Container{}, false // not started yet, or something else
	}
	name, ok := leaders[pid]
	if !ok {
		name = NameOf(d.Args)
	}
	init, err := h.Init(engine.Facts{PID: pid, Parent: d.PID})
	c := engine.Container{Engine: "nspawn", Name: name, ID: name, State: engine.Running, Init: init, StopSignal: StopSignal(d.Args)}
	c.Reboots, c.Unmanaged = true, !ok // it starts itself again
	if slices.Contains(Flags(d.Args), "--keep-unit") {
		c.Restart, c.Reboots = unit(h, d.PID)
	}
	return c, name != "" && err == nil
}

// imageDirs is where systemd-nspawn looks for what has a name only
// (machinectl(1)).
func imageDirs() []string {
	return []string{"/etc/machines", "/run/machines", "/var/lib/machines", "/usr/local/lib/machines", "/usr/lib/machines"}
}

// images are the names of directories and of image files there.
func images(ctx context.Context, h *engine.Host) (names []string, failed error) {
	for _, dir := range imageDirs() {
		entries, err := h.ReadDir(dir, 0)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = errors.Join(failed, err)
		}
		for _, entry := range entries {
			if late := engine.Late(ctx); late != nil {
				return names, errors.Join(failed, late)
			}
			mode, err := h.Kind(filepath.Join(dir, entry))
			name, raw := strings.CutSuffix(entry, ".raw")
			if err == nil && (mode.IsDir() || raw && mode.IsRegular()) && !strings.HasPrefix(name, ".") && name != "" && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names, failed
}

// Machine is what machined has written down.
type Machine struct {
	Name, Service string
	Leader        int
}

// ParseMachine parses a file of machined's.
func ParseMachine(text string) Machine {
	var m Machine
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "NAME":
			m.Name = value
		case "SERVICE":
			m.Service = value
		case "LEADER":
			if pid, err := strconv.Atoi(value); err == nil && pid > 0 {
				m.Leader = pid
			}
		}
	}
	return m
}

// NameOf returns the name that a command line of systemd-nspawn gives its
// machine: by -M, else by the end of the directory or the image.
func NameOf(args []string) string {
	if name := engine.Flag(args, "--machine", "-M"); name != "" {
		return name
	}
	for _, from := range [][]string{{"--directory", "-D"}, {"--image", "-i"}} {
		if path := engine.Flag(args, from...); path != "" {
			name := filepath.Base(filepath.Clean(path))
			if name == "/" || name == "." {
				return ""
			}
			return strings.TrimSuffix(name, ".raw")
		}
	}
	return ""
}
