// SPDX-License-Identifier: Apache-2.0

package pidtree

import (
	"path"
	"slices"
	"strings"

	"github.com/outband/outband/internal/cgroup"
	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/ns"
)

// launchers are programs that let processes into containers, by the names of
// what their parents execute. Of some the engine says more: a shim is the same
// for several.
var launchers = map[string]struct {
	via  string
	shim bool
}{
	"nsenter": {"nsenter", false}, "lxc-attach": {"lxc-attach", false},
	"runc": {"runc exec", false}, "crun": {"crun exec", false}, "youki": {"youki exec", false},
	"incusd": {"incus exec", false}, "lxd": {"lxc exec", false},
	"containerd-shim": {"containerd exec", true}, "containerd-shim-runc-v2": {"containerd exec", true}, "conmon": {"podman exec", true},
}

// engines are those whose name says more than that of the shim, by the beginning
// of their containers' names.
var engines = []string{"docker", "podman", "containerd"}

// Explain finds out what let visitors in, as far as it can be told: from what the
// kernel says of their parents and cgroups, from the engines' names of containers
// (see Containers, which comes first), and from Outband's records: sessions, which
// is asked where there are visitors, returns the numbers of the commands.
func (t *Tree) Explain(sessions func() [][]int) error {
	if !slices.ContainsFunc(t.Processes, func(p Process) bool { return p.Visitor && p.Level() > 0 }) {
		return nil
	}
	proc, err := procfs.Open()
	if err != nil {
		return err
	}
	defer proc.Close()
	t.explain(sessions(), func(pid int) string { return exeOf(proc, pid) }, groupsIn(proc))
	return nil
}

// exeOf is the name of the program that a process executes. A launcher may have
// made a copy of itself in memory first, which no container can write to.
func exeOf(proc *procfs.FS, pid int) string {
	exe, err := proc.Readlink(pid, "exe")
	if err != nil { // not the reader's to know, or gone
		return ""
	}
	return strings.TrimPrefix(path.Base(strings.TrimSuffix(exe, " (deleted)")), "memfd:")
}

func (t *Tree) explain(sessions [][]int, exe func(pid int) string, groups func(pid int) []procfs.Group) {
	names := map[ns.ID]string{} // of containers, by pid namespace
	for i := range t.Processes {
		if p := &t.Processes[i]; p.Inner() == 1 && p.PIDNS != 0 && p.Container != "" {
			names[p.PIDNS] = p.Container
		}
	}
	known := make([]bool, len(t.Processes))
	var via func(i int32) string
	via = func(i int32) string {
		p := &t.Processes[i]
		if known[i] || !p.Visitor || p.Level() == 0 {
			return p.Via
		}
		known[i] = true
		parent := t.parent[i]
		switch {
		case p.Container != "": // it is one of its own, in the other's pid namespace
			p.Via, _, _ = strings.Cut(p.Container, ":")
		case parent != none && t.Processes[parent].Visitor && t.Processes[parent].Level() == p.Level():
			p.Via = via(parent)
		case slices.ContainsFunc(sessions, func(pids []int) bool { return slices.Equal(pids, p.PIDs) }), cgroup.InSession(groups(p.PID())):
			p.Via = "outband"
		case parent != none && t.Processes[parent].Level() < p.Level():
			p.Via = launched(program(&t.Processes[parent], exe), names[p.PIDNS])
		}
		return p.Via
	}
	for i := range t.Processes {
		via(int32(i))
	}
}

// program is the name of what a process executes; its own word for it where that is
// in a mount of its own, as crun's is, and has no path.
func program(p *Process, exe func(pid int) string) string {
	name := exe(p.PID())
	if name == "/" && p.Level() == 0 {
		return p.Comm
	}
	return name
}

// launched says what let in a process whose parent executes exe, into a container
// of this name.
func launched(exe, container string) string {
	l := launchers[exe]
	if engine, _, _ := strings.Cut(container, ":"); l.shim {
		engine, _, _ = strings.Cut(engine, "@")
		if slices.Contains(engines, engine) {
			return engine + " exec"
		}
	}
	return l.via
}
