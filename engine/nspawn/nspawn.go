// SPDX-License-Identifier: Apache-2.0

// Package nspawn lists the containers of systemd-nspawn: those registered with
// systemd-machined, and those of each systemd-nspawn of root's.
package nspawn

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
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

// List returns the machines that run. A name of machined's comes before that of
// a command line.
func (Engine) List(ctx context.Context, h *engine.Host) ([]engine.Container, error) {
	daemons, err := h.Daemons(ctx, "systemd-nspawn", 0)
	names, derr := h.ReadDir(machines, 0)
	if derr != nil && !errors.Is(derr, fs.ErrNotExist) {
		err = errors.Join(err, derr)
	}
	leaders := map[int]string{}
	for _, name := range names {
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
	var all []engine.Container
	for _, d := range daemons {
		pid, ferr := h.FirstBelow(ctx, d.PID)
		if ferr != nil || pid == 0 {
			continue // not started yet, or something else
		}
		name, registered := leaders[pid]
		if !registered {
			name = NameOf(d.Args)
		}
		init, ierr := h.Init(engine.Facts{PID: pid, Parent: d.PID})
		if name == "" || ierr != nil {
			continue
		}
		all = append(all, engine.Container{Engine: "nspawn", Name: name, ID: name, State: engine.Running, Init: init})
	}
	return all, err
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
