// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"net/netip"
	"time"
)

// Report is what was seen of a container, and what to make of it. Text in it is
// raw: the container may have chosen it. Its names as JSON are a contract.
type Report struct {
	Name     string    `json:"name"`
	Engine   string    `json:"engine"` // "bare": no engine has a name for it
	State    string    `json:"state"`  // running, paused, stopped
	Verdict  Grade     `json:"verdict"`
	Findings []Finding `json:"findings"`

	Init        *Init        `json:"init"`      // null where it does not run
	Last        *Last        `json:"last_exit"` // how it ended last, where its engine wrote that down
	Restart     string       `json:"restart"`   // its engine's policy in its own words; "" where it has none or it is not known
	Processes   *Processes   `json:"processes"`
	Limits      []Limit      `json:"limits"`
	OOMKills    uint64       `json:"oom_kills"` // in its cgroup since that was made
	CPU         *CPU         `json:"cpu"`
	Pressure    []Pressure   `json:"pressure"`
	Filesystems []Filesystem `json:"filesystems"`
	Names       *Names       `json:"names"`
	Network     *Network     `json:"network"`
	Unseen      []Unseen     `json:"unseen"`
}

// Grade is how bad something is.
type Grade string

// The grades.
const (
	OK   Grade = "ok"
	Note Grade = "note" // it may be meant, or may get worse
	Bad  Grade = "bad"  // something does not work, or is about not to
)

// Finding is a fact that deserves attention.
type Finding struct {
	Grade Grade  `json:"grade"` // Note or Bad
	About string `json:"about"`
	Text  string `json:"text"`
	Hint  string `json:"hint,omitempty"` // what may help
}

// Unseen is what could not be looked at.
type Unseen struct {
	About  string `json:"about"`
	Reason string `json:"reason"`
}

// Init is the first process of a container.
type Init struct {
	PID     int       `json:"pid"`
	PIDs    []int     `json:"pids"` // on every level, outermost first
	Comm    string    `json:"comm"`
	Exe     string    `json:"exe"`   // "" where it cannot be read
	Kind    string    `json:"kind"`  // what init it is, as docs/inits.md calls it
	State   string    `json:"state"` // a letter, see proc_pid_stat(5)
	Started time.Time `json:"started"`
	Frozen  []string  `json:"frozen"` // the cgroups that keep it frozen
}

// Last is how a container ended.
type Last struct {
	Code int       `json:"code"` // as a shell has it: 128 and the signal's number where that ended it
	At   time.Time `json:"at"`
	OOM  bool      `json:"oom"`
}

// Process is a process of a container.
type Process struct {
	PIDs    []int  `json:"pids"`
	Comm    string `json:"comm"`
	Parent  int    `json:"parent"`  // of PIDs[0]
	Wait    string `json:"wait"`    // the kernel's function that it waits in; "" where that cannot be read
	Syscall string `json:"syscall"` // what it asked for
	Cgroup  string `json:"cgroup"`  // of what is frozen: the one that keeps it so
}

// Processes are those of a container. Those in a container inside of it count
// along.
type Processes struct {
	Count   int       `json:"count"`
	Zombies []Process `json:"zombies"` // ended, and not reaped for as long as was looked
	Waiting []Process `json:"waiting"` // in a wait that no signal ends, for as long as was looked
	Stopped []Process `json:"stopped"` // by a signal or a debugger
	Frozen  []Process `json:"frozen"`  // by a cgroup of version 1 that init is not in
}

// Limit is what a container may have of something, and has.
type Limit struct {
	Name string `json:"name"` // processes, memory, open files
	Used uint64 `json:"used"`
	// Reclaimable is what is counted as used and is given back at need: caches
	// of files.
	Reclaimable uint64  `json:"reclaimable"`
	Max         *uint64 `json:"max"`     // null: none
	Of          string  `json:"of"`      // the cgroup whose limit it is, or the process
	Refused     uint64  `json:"refused"` // how often more was asked for, since the cgroup was made
}

// CPU is how much a container was held back.
type CPU struct {
	Periods   uint64 `json:"periods"`
	Throttled uint64 `json:"throttled"` // periods in which it had used up its share
	Of        string `json:"of"`
}

// Pressure is how much of the last ten seconds was spent waiting (PSI).
type Pressure struct {
	Name string  `json:"name"` // cpu, memory, io
	Some float64 `json:"some"` // percent: some process waited
	Full float64 `json:"full"` // percent: all of them did
}

// Filesystem is a file system that a container sees.
type Filesystem struct {
	Point   string `json:"point"`
	Type    string `json:"type"`
	Source  string `json:"source"`
	Answers bool   `json:"answers"` // it did, in time
	// ReadOnly: nothing can be written through this mount. Failed: the file
	// system has gone read-only by itself, under a mount that is not.
	ReadOnly bool `json:"readonly"`
	Failed   bool `json:"failed"`
	// Of the two below size is 0 where the file system has no bounds, or does not
	// tell them. Used counts what is kept for root as used.
	Size       uint64 `json:"size"` // bytes
	Used       uint64 `json:"used"`
	Inodes     uint64 `json:"inodes"`
	UsedInodes uint64 `json:"used_inodes"`
	Error      string `json:"error,omitempty"` // why it could not be asked
}

// Names is how names are looked up.
type Names struct {
	Servers []string `json:"servers"`
	Search  []string `json:"search"`
	Options []string `json:"options"`
	// More says that /etc/resolv.conf has more of these, or longer ones, than
	// are told.
	More  bool `json:"more,omitempty"`
	Hosts int  `json:"hosts"` // lines with an address in /etc/hosts
	// Error is why /etc/resolv.conf could not be read; "" if it could.
	Error string `json:"error,omitempty"`
}

// Network is what the network namespace has.
type Network struct {
	Shared     bool         `json:"shared"` // with the caller: it is the host's
	Interfaces []string     `json:"interfaces"`
	Addresses  []netip.Addr `json:"addresses"`
	Routes     []Route      `json:"routes"`
	Listening  []Socket     `json:"listening"`
}

// Route is a way that packets take.
type Route struct {
	To        netip.Prefix `json:"to"`
	Via       *netip.Addr  `json:"via"` // null: the link itself
	Interface string       `json:"interface"`
	Metric    uint32       `json:"metric"`
	Reject    bool         `json:"reject"`
}

// Socket is a socket that waits for somebody.
type Socket struct {
	Kind    string `json:"kind"`    // tcp, tcp6, udp, udp6, unix
	Address string `json:"address"` // address and port, or a path
	Waiting uint32 `json:"waiting"` // connections that nobody has accepted
	PIDs    []int  `json:"pids"`    // of a process that has it open; empty where none was found
	Comm    string `json:"comm"`

	inode uint64
}
