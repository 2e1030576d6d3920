// SPDX-License-Identifier: Apache-2.0

// Package power is a power switch for a container, whatever made it and whatever
// runs as its init: off, reboot, halt, pause, as on a physical box.
//
// A Switch goes up rungs. It asks the init in the init's own words (Identify and
// the table of inits say which), asks harder, presses (reboot(2) from within the
// pid namespace, which who supervises the container can tell from a crash), and
// in the end kills. Each rung is an Event as it happens. Done means that the init
// has ended, as its pidfd says, that its pid namespace is empty, and that it was
// looked whether something brought the container back.
package power

import (
	"time"
)

// Action is what is done to a container.
type Action string

// The actions.
const (
	On     Action = "on"     // starts it; only its engine can
	Off    Action = "off"    // it shuts down and stays so
	Reboot Action = "reboot" // it shuts down and comes up again
	Halt   Action = "halt"   // it shuts down; a container's supervisor takes it for off
	Kill   Action = "kill"   // everything in its pid namespace ends, at once
	Pause  Action = "pause"  // it is frozen
	Resume Action = "resume" // it is thawed
)

// Rung is one step of a ladder that ends with the container's end.
type Rung string

// The rungs, from the softest.
const (
	Freeze   Rung = "freeze"    // the only rung of Pause
	Thaw     Rung = "thaw"      // what keeps it frozen lets go: the frozen hear nothing
	Ask      Rung = "ask"       // the init, in its own words
	AskAgain Rung = "ask-again" // in those that it does not put off
	Press    Rung = "press"     // reboot(2) from within, Linux 3.4
	Slay     Rung = "kill"      // SIGKILL for all, by cgroup or by the init's end
	Verify   Rung = "verify"    // that nothing is left, and whether it is back
)

// Event is what happened on a rung.
type Event struct {
	At     time.Time
	Rung   Rung
	How    string // "SIGRTMIN+4", "write /run/initctl", "reboot(RB_POWER_OFF)"
	Result string // what came of it, in a few words
}

// Result is how an action ended.
type Result struct {
	Done    bool // the init has ended and its pid namespace is empty; frozen or thawed for the others
	Already bool // it was frozen, or thawed, before: nothing was done
	// InitExit is how it ended, as its parent sees it: "exit 0", "SIGINT", "SIGHUP";
	// "" where the kernel does not tell (before 6.15). Of an init that called reboot(2)
	// by itself the kernel tells others less: "SIGKILL or reboot(2)", or "exit 0".
	InitExit string
	Left     []Process     // what would not die though it was killed; the pid namespace goes when it does
	Back     *Back         // nil: nothing brought it back in the time that it was looked for
	Took     time.Duration // from the first rung on
}

// Process is one that would not die.
type Process struct {
	PIDs  []int  // its numbers, outermost level first
	Comm  string // raw: it chose it
	State byte   // as in proc_pid_stat(5)
	Waits string // the kernel function that it sleeps in; "" where that is not shown
}

// Back is a container that something started again.
type Back struct {
	PIDs []int  // of its new init, outermost level first
	By   string // what did it: "docker", "lxc"; "" where it cannot be told
}
