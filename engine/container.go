// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"slices"
	"strings"
	"time"

	"github.com/outband/outband/ns"
)

// Container is a container, as the outermost engine that knows it calls it.
type Container struct {
	Engine string // what made it: "docker"; Bare where that is not known
	// User owns the engine where it is another's, without root: such a
	// container is named by engine@user:name alone.
	User string
	Name string // "web"; "namespace/pod/container" in a pod
	ID   string // the engine's own; for Bare the number of the pid namespace, "" where that may not be known
	Pod  bool   // Name is that of a container in a pod
	// State is what the engine and the kernel make of it.
	State State
	Init  Init // zero where it does not run

	// Restart is the engine's policy in its own words, "always", "on-failure:3",
	// "no"; "" where the engine has no policies or it is not known.
	Restart string
	// Reboots tells that who supervises it starts it again when it asks to be
	// rebooted, as LXC does.
	Reboots bool
	// StopSignal is what the engine asks it to stop with: "SIGTERM", "SIGRTMIN+3";
	// "" where its engine has no such thing, or decides when it asks.
	StopSignal string
	// Via are the arguments by which the engine's own command finds it,
	// "--lxcpath=/srv/lxc"; nil where it finds it by itself.
	Via []string
	// Unmanaged tells that its engine's own commands do not reach it while it runs: a
	// systemd-nspawn that systemd-machined was not told of.
	Unmanaged bool
	// Exit is how it ended last, where the engine wrote that down; else nil.
	Exit *Exit
	// Supervisor is who waits for its first process; nil where it does not run, or
	// where that is nobody but the machine's init.
	Supervisor *Supervisor

	// Also are the other engines that know the same container: docker's are
	// containerd's as well, and runc's.
	Also []Container
}

// Bare is the engine of containers that nobody gave a name: of each pid
// namespace that no other engine's container has.
const Bare = "bare"

// Sandbox is what the container that holds a pod's namespaces is called in it. Its
// pod's name alone does not lead to it.
const Sandbox = "POD"

// Init is the first process of a container.
type Init struct {
	PID   int    // in the caller's pid namespace
	PIDs  []int  // its numbers, outermost level first
	Start uint64 // clock ticks since boot: with PID its identity
	PIDNS ns.ID
	Comm  string // raw: the process chose it
}

// Exit is how a container ended, as its engine tells it.
type Exit struct {
	Code int // as a shell has it: 128 and the signal's number where that ended it
	At   time.Time
	OOM  bool // the memory that it may have was used up
}

// Supervisor is the parent of a container's first process: a process of the
// engine's that is told when the container ends.
type Supervisor struct {
	Name  string // raw: "containerd-shim", "conmon", "lxc monitor", "systemd-nspawn"
	PID   int    // in the caller's pid namespace
	Start uint64 // clock ticks since boot: with PID its identity
}

// State is what a container is doing.
type State string

// The states. A container that does not run has no Init.
const (
	Running  State = "running"
	Paused   State = "paused"   // frozen, by its engine or another
	Stopping State = "stopping" // its first process is on its way out
	Zombie   State = "zombie"   // its first process has ended and is not reaped
	Stopped  State = "stopped"  // it has ended, or was never started
)

// FullName is the name that leads to this container and to no other.
func (c *Container) FullName() string {
	switch {
	case c.Engine == Bare:
		return c.Name
	case c.Pod:
		return "pod:" + c.Name
	case c.User != "":
		return c.Engine + "@" + c.User + ":" + c.Name
	}
	return c.Engine + ":" + c.Name
}

// how well a name fits.
type fit int

const (
	none     fit = iota
	byPrefix     // of the id
	exactly
)

// fits tells whether a container is meant by a name, after its prefix was split
// off; prefix is "" where there was none.
func (c *Container) fits(prefix, rest string) fit {
	best := none
	for i := range c.Also {
		best = max(best, c.Also[i].fits(prefix, rest))
	}
	engine, user, _ := strings.Cut(prefix, "@")
	switch {
	case prefix == "pod" && c.Pod:
		if rest == c.Name || strings.HasPrefix(c.Name, rest+"/") && strings.Count(rest, "/") == 1 && c.Name != rest+"/"+Sandbox {
			return exactly
		}
		return best
	case c.User != user, prefix != "" && c.Engine != engine, c.Engine == Bare:
		return best
	case c.Name == rest || c.ID == rest:
		return exactly
	case strings.HasPrefix(c.ID, rest) && c.idLike():
		return max(best, byPrefix)
	}
	return best
}

// idLike tells whether the id is one that is typed by its beginning: 64 digits,
// not a name.
func (c *Container) idLike() bool {
	return len(c.ID) >= 32 && strings.Trim(c.ID, "0123456789abcdef") == ""
}

// match returns the containers that a name means: those that fit best, the
// running ones where there are any.
func match(all []Container, prefix, rest string) []Container {
	best := none
	for i := range all {
		best = max(best, all[i].fits(prefix, rest))
	}
	if best == none {
		return nil
	}
	var found []Container
	for i := range all {
		if all[i].fits(prefix, rest) == best {
			found = append(found, all[i])
		}
	}
	running := func(c Container) bool { return c.Init.PID != 0 }
	if slices.ContainsFunc(found, running) {
		found = slices.DeleteFunc(found, func(c Container) bool { return !running(c) })
	}
	return found
}

// merge puts together what several engines say of the same container. Engines
// come outermost first: the first that has an init names it. A container whose
// engine is not sure that it has ended stands for itself.
func merge(lists [][]Container) []Container {
	n := 0
	for _, list := range lists {
		n += len(list)
	}
	all := make([]Container, 0, n)
	type process struct {
		pid   int
		start uint64
	}
	at := map[process]int{}
	for _, list := range lists {
		for _, c := range list {
			init := process{c.Init.PID, c.Init.Start}
			i, known := at[init]
			if c.Init.PID == 0 || !known {
				if c.Init.PID != 0 {
					at[init] = len(all)
				}
				all = append(all, c)
				continue
			}
			if c.Engine != Bare {
				all[i].Also = append(all[i].Also, c)
			}
			if all[i].State == Running {
				all[i].State = c.State
			}
		}
	}
	return dropEnded(all)
}

// dropEnded leaves out what an inner engine takes for a container that has
// ended, where an outer one of the same user knows the same id: what one user's
// engine says hides nothing of another's (A20, docs/threat-model.md).
func dropEnded(all []Container) []Container {
	type key struct{ user, id string }
	ids := map[key]int{}
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].idLike() {
			ids[key{all[i].User, all[i].ID}] = i
		}
	}
	kept := all[:0]
	for i, c := range all {
		if first, ok := ids[key{c.User, c.ID}]; ok && first != i && c.Init.PID == 0 {
			continue
		}
		kept = append(kept, c)
	}
	return kept
}
