// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/outband/outband/internal/procfs"
)

// Daemon is a process of an engine's on the host.
type Daemon struct {
	PID  int
	UID  uint32
	Args []string
}

// Daemons are the processes of a user that execute a program of this name, in
// the caller's own pid namespace, or one that the user's RootlessKit has made, and
// with the caller's root file system.
//
// A20 (docs/threat-model.md): what is in a container may call itself anything,
// and may share the host's pid namespace; it has another root.
func (h *Host) Daemons(ctx context.Context, name string, uid uint32) ([]Daemon, error) {
	return h.AnyDaemons(ctx, uid, nil, name)
}

// AnyDaemons is Daemons for programs of several names, with one look at all. Of those
// whose command line is not to be kept nothing more is asked; nil keeps all.
func (h *Host) AnyDaemons(ctx context.Context, uid uint32, keep func(args []string) bool, names ...string) ([]Daemon, error) {
	asked := names
	if uid != 0 { // one look for both
		asked = append(slices.Clone(names), kitName)
	}
	tasks, err := h.named(ctx, asked)
	if err != nil {
		return nil, err
	}
	kits := h.kitsAmong(ctx, tasks, uid)
	return h.daemonsAmong(ctx, tasks, uid, func(t procfs.Task) bool { return onHost(t) || in(kits, t) }, keep, names...), nil
}

// onHost tells whether a process is in the caller's own pid namespace.
func onHost(t procfs.Task) bool { return len(t.NSpid) == 1 }

// daemonsAmong is AnyDaemons for tasks that are where on says.
func (h *Host) daemonsAmong(ctx context.Context, tasks []procfs.Task, uid uint32, on func(procfs.Task) bool, keep func(args []string) bool, names ...string) []Daemon {
	begins := func(name, comm string) bool { return strings.HasPrefix(name, comm) } // a comm has 15 bytes at most
	var likely []procfs.Task
	for _, t := range tasks {
		may := func(name string) bool { return begins(name, t.Comm) }
		if t.UID == uid && !t.Kthread && t.Comm != "" && on(t) && slices.ContainsFunc(names, may) {
			likely = append(likely, t)
		}
	}
	var all []Daemon
	for _, t := range h.withArguments(ctx, likely) {
		args := procfs.Strings([]byte(t.Cmdline))
		called := func(name string) bool { return begins(name, t.Comm) && filepath.Base(args[0]) == name }
		if len(args) > 0 && slices.ContainsFunc(names, called) && (keep == nil || keep(args)) && h.sameRoot(t.PID, t.Start) {
			all = append(all, Daemon{t.PID, t.UID, args})
		}
	}
	return all
}

// withArguments adds what an outline does not have of processes in a kit.
func (h *Host) withArguments(ctx context.Context, tasks []procfs.Task) []procfs.Task {
	var lacking []int
	for _, t := range tasks {
		if t.Cmdline == "" && !onHost(t) && h.proc != nil {
			lacking = append(lacking, t.PID)
		}
	}
	if len(lacking) == 0 {
		return tasks
	}
	read := h.proc.Rescan(ctx, false, lacking...)
	for i := range tasks {
		if at, ok := procfs.Search(read, tasks[i].PID); ok && read[at].Start == tasks[i].Start {
			tasks[i] = read[at]
		}
	}
	return tasks
}

// Monitors are the processes on the host whose title begins with prefix; the rest
// of it is their only argument. A title is a command line that was written over.
func (h *Host) Monitors(ctx context.Context, prefix string) ([]Daemon, error) {
	tasks, err := h.Tasks(ctx)
	if err != nil {
		return nil, err
	}
	var all []Daemon
	for _, t := range tasks {
		if title, ok := strings.CutPrefix(t.Cmdline, prefix); ok && onHost(t) && h.sameRoot(t.PID, t.Start) {
			all = append(all, Daemon{t.PID, t.UID, []string{strings.TrimRight(title, "\x00")}})
		}
	}
	return all, nil
}

// FirstBelow returns the child of process pid that is number 1 of a pid
// namespace; 0 where there is none.
func (h *Host) FirstBelow(ctx context.Context, pid int) (child int, err error) {
	tasks, err := h.Tasks(ctx)
	if err != nil {
		return 0, err
	}
	for i := range tasks {
		if t := &tasks[i]; t.Parent == pid && t.First() {
			return t.PID, nil
		}
	}
	return 0, nil
}

// Flag returns the value of a flag of a command line, by any of its names, as
// "--flag value" or "--flag=value"; "" where there is none.
func Flag(args []string, names ...string) string {
	for i, arg := range args {
		for _, name := range names {
			if value, ok := strings.CutPrefix(arg, name+"="); ok {
				return value
			}
			if arg == name && i+1 < len(args) {
				return args[i+1]
			}
			if len(name) == 2 && !strings.HasPrefix(arg, "--") && len(arg) > 2 && strings.HasPrefix(arg, name) {
				return arg[2:]
			}
		}
	}
	return ""
}

// sameRoot tells whether a process has the caller's root file system, be it in
// another mount namespace. Nothing is asked of the file system: it may be dead.
//
// A19 (docs/threat-model.md): by the start time it is still the one that was seen.
func (h *Host) sameRoot(pid int, start uint64) bool {
	if h.proc == nil { // recorded
		return true
	}
	own, _ := h.rootMount(os.Getpid())
	its, at := h.rootMount(pid)
	return own != "" && own == its && at == start
}

// rootMount returns what is mounted on the root of a process, and when that began.
func (h *Host) rootMount(pid int) (root string, start uint64) {
	dir, err := h.proc.Process(pid)
	if err != nil {
		return "", 0
	}
	defer dir.Close()
	b, err := dir.ReadFile("mountinfo")
	if err != nil {
		return "", 0
	}
	if start, err = startOf(dir); err != nil {
		return "", 0
	}
	return parseRootMount(string(b)), start
}

// parseRootMount returns from mountinfo which device and which directory on it
// is mounted on / (proc_pid_mountinfo(5)); the last one covers the others.
func parseRootMount(text string) (root string) {
	for line := range strings.Lines(text) {
		if f := strings.Split(line, " "); len(f) > 5 && f[4] == "/" {
			root = f[2] + " " + f[3]
		}
	}
	return root
}
