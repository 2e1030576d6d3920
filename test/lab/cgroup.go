// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// groupPrefix starts the names of hosts' cgroups; the number of the process
// they belong to follows. internal/testutil overlooks those of live processes.
const groupPrefix = "test-outband-"

// What a host may use: engines run away.
const (
	maxTasks  = 4096
	maxMemory = 6 << 30 // bytes, its file systems included
)

// hierarchy is a mounted cgroup file system of the machine.
type hierarchy struct {
	Dir     string   `json:"dir"`
	Unified bool     `json:"unified"`
	Options []string `json:"options"` // of version 1: controllers, or name=…
}

// hierarchies lists them from mountinfo (proc_pid_mountinfo(5)).
func hierarchies() (all []hierarchy, err error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(data)) {
		mount, super, _ := strings.Cut(line, " - ")
		where, kind := strings.Fields(mount), strings.Fields(super)
		if len(where) < 5 || len(kind) < 3 || !strings.HasPrefix(kind[0], "cgroup") {
			continue
		}
		h := hierarchy{Dir: where[4], Unified: kind[0] == "cgroup2"}
		for option := range strings.SplitSeq(kind[2], ",") {
			if !h.Unified && option != "rw" && option != "ro" && option != "xattr" && option != "clone_children" {
				h.Options = append(h.Options, option)
			}
		}
		all = append(all, h)
	}
	return all, nil
}

// makeGroup makes a cgroup called name in each hierarchy, with limits.
func makeGroup(all []hierarchy, name string) error {
	for _, h := range all {
		dir := filepath.Join(h.Dir, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return fmt.Errorf("make the host's cgroup: %w", err)
		}
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} { // empty in a new group of version 1
			if above, err := os.ReadFile(filepath.Join(h.Dir, file)); err == nil && !h.Unified {
				if err := os.WriteFile(filepath.Join(dir, file), above, 0); err != nil {
					return err
				}
			}
		}
		limits := map[string]int64{"pids.max": maxTasks, "memory.limit_in_bytes": maxMemory, "memory.max": maxMemory}
		for file, value := range limits {
			err := os.WriteFile(filepath.Join(dir, file), []byte(strconv.FormatInt(value, 10)), 0)
			if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
				return err
			}
		}
	}
	return nil
}

// thawGroup has what is frozen in the cgroups called name go on: a frozen process
// of version 1 does not die of SIGKILL.
func thawGroup(all []hierarchy, name string) {
	for _, h := range all {
		_ = filepath.WalkDir(filepath.Join(h.Dir, name), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() { // other hierarchies have no such file, which is not made
				_ = writeExisting(filepath.Join(path, "freezer.state"), "THAWED")
				_ = writeExisting(filepath.Join(path, "cgroup.freeze"), "0")
			}
			return nil // a group may go meanwhile
		})
	}
}

func writeExisting(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// removeGroup removes the cgroups called name with those below them, which are
// empty: the kernel takes a moment to see it.
func removeGroup(all []hierarchy, name string, limit time.Duration) error {
	var failed error
	for until := time.Now().Add(limit); ; time.Sleep(10 * time.Millisecond) {
		failed = nil
		for _, h := range all {
			failed = errors.Join(failed, removeTree(filepath.Join(h.Dir, name)))
		}
		if failed == nil || time.Now().After(until) {
			return failed
		}
	}
}

func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, entry := range entries {
		if entry.IsDir() {
			err = errors.Join(err, removeTree(filepath.Join(dir, entry.Name())))
		}
	}
	return errors.Join(err, os.Remove(dir))
}

// sweep removes the cgroups of hosts whose keeper was killed: their process is
// gone, and they are empty. What is not is left alone.
func sweep(all []hierarchy) {
	for _, h := range all {
		entries, err := os.ReadDir(h.Dir)
		if err != nil {
			continue
		}
		for _, entry := range entries {
			rest, ours := strings.CutPrefix(entry.Name(), groupPrefix)
			number, kind, _ := strings.Cut(rest, "-")
			if !ours || !strings.HasPrefix(kind, "lab-") {
				continue
			}
			if _, err := os.Stat("/proc/" + number); errors.Is(err, fs.ErrNotExist) {
				_ = removeTree(filepath.Join(h.Dir, entry.Name()))
			}
		}
	}
}
