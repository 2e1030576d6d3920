// SPDX-License-Identifier: Apache-2.0

package matrix

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/test/cve/rig"
	"github.com/outband/outband/test/lab"
)

// forge makes a container look like another, as far as its own root can, and
// further: it runs in cgroups that are called as the other's.
const forge = `#!/bin/sh
hostname named; printf named >/proc/1/comm
while :; do sleep 1000; done`

// facetForged: a container has the host name, the arguments and the end of the
// cgroups' names of another, whose name leads to no other all the same (A20).
func facetForged(t *testing.T, c *known) string {
	if err := c.forged(t); err != nil {
		t.Error(err)
	}
	return yes
}

// forged starts such a container, and tells what takes it for c.
func (c *known) forged(t *testing.T) (fooled error) {
	t.Helper()
	image := *lab.Busybox(t)
	image.Name, image.Files = "forge", append(slices.Clone(image.Files), lab.File{Path: "forge", Mode: 0o755, Data: []byte(forge)})
	forger, err := c.host.Run(t.Context(), "forger", &image, lab.Options{
		Args: []string{"sh", "/forge", "named", "--name=named", "-n", "named", "-c", c.row.ID, "-M", "named"}})
	if err != nil {
		t.Fatal(err)
	}
	f := &target{Container: forger, host: c.host}
	for hierarchy, path := range c.cgroups(c.HostPid) {
		own := strings.TrimPrefix(f.cgroups(forger.HostPid)[hierarchy], c.host.Group)
		const move = `for d in "/sys/fs/cgroup/$0$1" "/sys/fs/cgroup$1"; do
	! test -e "$d/cgroup.procs" || { mkdir -p "$d/$2" && echo "$3" >"$d/$2/cgroup.procs"; }
done`
		leaf := filepath.Base(path)
		_, _ = c.host.Do(t.Context(), "sh", "-c", move, strings.TrimPrefix(hierarchy, "name="), own, leaf, fmt.Sprint(forger.HostPid)) // where it can
	}
	if rows := c.list(t, called(c.full)); len(rows) != 1 || rows[0].Init.Pid != c.HostPid {
		fooled = errors.Join(fooled, fmt.Errorf("%s is %+v", c.full, rows))
	}
	for _, name := range []string{c.full, "named", "forger"} {
		pid, err := c.leadsTo(t, name)
		if name == "forger" && pid == c.HostPid || name != "forger" && pid == forger.HostPid || name == c.full && err != nil {
			fooled = errors.Join(fooled, fmt.Errorf("%s leads to %d, %w", name, pid, err))
		}
	}
	if err := forger.Remove(t.Context()); err != nil && !errors.Is(err, lab.ErrNotOffered) {
		t.Error(err)
	}
	return fooled
}

// TestForgedMutants: programs that believe what a container can make look so do
// not get through the same: one that goes by the ends of cgroups' names alone, one
// that takes names from the command lines of first processes.
func TestForgedMutants(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	for _, mutant := range []struct {
		name    string
		engine  *lab.Engine
		changes []rig.Change
	}{
		{"by cgroup", lab.Docker(), []rig.Change{
			{File: "engine/host.go", Old: "	t, ok := h.task(f.PID)\n	err := fs", New: "	t, ok := h.newestIn(f)\n	err := fs"},
			{File: "engine/newest.go", New: newestSource},
		}},
		{"by command line", lab.Nspawn(), []rig.Change{
			{File: "engine/nspawn/nspawn.go", Old: "		name = NameOf(d.Args)\n", New: "		name = ownName(ctx, pid, NameOf(d.Args))\n"},
			{File: "engine/nspawn/own.go", New: ownNameSource},
		}},
	} {
		t.Run(mutant.name, func(t *testing.T) {
			testutil.NoLeaks(t)
			host := open(t, mutant.engine, build(t, mutant.changes...))
			c, err := host.Run(t.Context(), "named", lab.Busybox(t), lab.Options{})
			if err != nil {
				t.Fatal(err)
			}
			k := &known{target: &target{Container: c, host: host}, full: fullName(mutant.engine.Name, "named")}
			facetRunning(t, k) // as long as nobody lies it is as good as any
			if fooled := k.forged(t); fooled == nil {
				t.Error("it is not fooled")
			} else {
				t.Log(fooled)
			}
		})
	}
}

// newestSource finds the newest process in a cgroup of that name.
const newestSource = `package engine

import "github.com/outband/outband/internal/procfs"

func (h *Host) newestIn(f Facts) (found procfs.Task, ok bool) {
	if f.Cgroup == "" {
		return h.task(f.PID)
	}
	all, _ := h.proc.Pids()
	for _, pid := range all {
		if t, there := h.task(pid); there && h.inCgroup(pid, f.Cgroup) && t.NSpid[len(t.NSpid)-1] == 1 && t.Start >= found.Start {
			found, ok = t, true
		}
	}
	return found, ok
}
`

// ownNameSource has a container say what it is called.
const ownNameSource = `package nspawn

import (
	"context"
	"strings"

	"github.com/outband/outband/internal/procfs"
)

func ownName(ctx context.Context, pid int, otherwise string) string {
	proc, err := procfs.Open()
	if err != nil {
		return otherwise
	}
	defer proc.Close()
	for _, t := range proc.Rescan(ctx, false, pid) {
		if own := NameOf(strings.Split(t.Cmdline, "\x00")); own != "" {
			return own
		}
	}
	return otherwise
}
`
