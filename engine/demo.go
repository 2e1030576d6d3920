// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/outband/outband/internal/procfs"
)

// demoFile is where a container that "outband demo" shows is announced, below
// the run directory, which only its owner can write.
func demoFile(runDir, name string) string { return filepath.Join(runDir, "containers", name+".json") }

// announcement is the content of a demoFile. The start time tells the process
// from a later one with its number.
type announcement struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since boot
}

// Announce makes process pid known as the container called name until the
// function returned is called.
func Announce(runDir, name string, pid int) (forget func(), err error) {
	proc, err := procfs.Open()
	if err != nil {
		return nil, err
	}
	defer proc.Close()
	dir, err := proc.Process(pid)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	start, err := startOf(dir)
	if err != nil {
		return nil, err
	}
	path := demoFile(runDir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	content, err := json.Marshal(announcement{pid, start})
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return nil, err
	}
	return func() { os.Remove(path) }, nil
}

func startOf(dir *procfs.Dir) (uint64, error) {
	stat, err := dir.ReadFile("stat")
	if err != nil {
		return 0, err
	}
	return procfs.ParseStart(stat)
}

// byDemo finds a container by an announcement.
func byDemo(_ context.Context, proc *procfs.FS, name, runDir string) (*procfs.Process, error) {
	if runDir == "" || strings.ContainsRune(name, '/') {
		return nil, notFound("container", name)
	}
	content, err := os.ReadFile(demoFile(runDir, name))
	if err != nil {
		return nil, gone(err, "container", name)
	}
	var a announcement
	if err := json.Unmarshal(content, &a); err != nil || a.PID <= 0 {
		return nil, notFound("container", name)
	}
	p, err := proc.Hold(a.PID)
	if err != nil {
		return nil, gone(err, "container", name)
	}
	start, err := startOf(p.Dir)
	if err == nil && (start != a.Start || p.Alive() != nil) {
		err = fs.ErrNotExist
	}
	if err != nil {
		p.Close()
		return nil, fmt.Errorf("%w: it has ended", notFound("container", name))
	}
	return p, nil
}

// Demo is the engine of the containers that "outband demo" shows, which are
// announced below the run directory.
type Demo string

// Name returns "demo".
func (Demo) Name() string { return "demo" }

// List returns those that still run.
func (d Demo) List(_ context.Context, h *Host) ([]Container, error) {
	files, err := filepath.Glob(demoFile(string(d), "*"))
	if err != nil || d == "" {
		return nil, err
	}
	var all []Container
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		content, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		var a announcement
		if err := json.Unmarshal(content, &a); err != nil || a.Start == 0 {
			continue
		}
		if init, err := h.Init(Facts{PID: a.PID, Start: a.Start}); err == nil {
			all = append(all, Container{Engine: "demo", Name: name, ID: name, State: Running, Init: init})
		}
	}
	return all, nil
}
