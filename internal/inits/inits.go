// SPDX-License-Identifier: Apache-2.0

// Package inits knows the programs that are first processes of containers: how
// the kernel tells one from the others, and in which words it is asked to shut
// down. It is a table; docs/inits.md is printed from it.
//
// What a container says of itself, its names, arguments and files, is no
// evidence: what is executed and held open is, since the kernel says so. A
// container that makes a program look like another is asked in the other's words,
// and has nobody but itself to blame (A20, docs/threat-model.md).
package inits

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/forkexec"
	"github.com/outband/outband/internal/procfs"
)

// Kinds that have no words of their own.
const (
	Other   = "other"   // a program that is none of those in the table
	Unknown = "unknown" // what it executes cannot be read
)

// Row is an init.
type Row struct {
	Kind string
	// Exe are base names of what it executes; "*" at the end stands for anything.
	Exe []string
	// Applet is by which of its names a program of many is called; "": any.
	Applet []string
	// Open is the end of the path of something that it holds open; "": nothing
	// that is asked for.
	Open string
	// Forwards tells that it hands signals to the program that it was given.
	Forwards bool

	Off, Reboot, Halt Words

	Source string // where its words are written down
	Tried  string // the version that the tests boot; "": read, not tried
}

// Words are what an init understands.
type Words struct {
	Ask    []Word // in order: each until one has been said
	Harder []Word // what it does not put off
}

// Word is one thing that an init understands: a record in a FIFO, the modes of
// files, a signal.
type Word struct {
	FIFO   string // path inside; "": none
	Record string // what is written there, at once
	Modes  []Mode // are set before the signal
	Signal unix.Signal
}

// Mode is a file inside and what its mode is to be.
type Mode = forkexec.Mode

// How names a word for people.
func (w Word) How() string {
	var parts []string
	if w.FIFO != "" {
		parts = append(parts, "write "+w.FIFO)
	}
	for _, m := range w.Modes {
		parts = append(parts, fmt.Sprintf("chmod %03o %s", m.Mode, m.Path))
	}
	if w.Signal != 0 {
		parts = append(parts, SignalName(w.Signal))
	}
	return strings.Join(parts, ", ")
}

// sigRTMin is SIGRTMIN of glibc, which keeps two for itself: the inits that use
// such signals count from there.
const sigRTMin = unix.Signal(34)

// SignalName is what a signal is called: "SIGTERM", "SIGRTMIN+3".
func SignalName(sig unix.Signal) string {
	switch {
	case sig < sigRTMin:
		return unix.SignalName(sig)
	case sig == sigRTMin:
		return "SIGRTMIN"
	}
	return fmt.Sprintf("SIGRTMIN+%d", sig-sigRTMin)
}

// SignalNumber is the signal that SignalName calls so, 0 for none.
func SignalNumber(name string) unix.Signal {
	const last = unix.Signal(64)
	for sig := unix.Signal(1); sig <= last; sig++ {
		if SignalName(sig) == name && name != "" {
			return sig
		}
	}
	return 0
}

// Facts are what is known of a first process.
type Facts struct {
	Exe  string   // what it executes, as its link says; "" where that cannot be read
	Args []string // raw: it chose them
	Open []string // what it holds open, as the links say
}

// Read reads the facts of a process. No file of the container is touched: the
// kernel is asked for links, and follows none.
func Read(dir *procfs.Dir) Facts {
	var f Facts
	f.Exe, _ = dir.Readlink("exe")
	rows := candidates(f.Exe)
	if slices.ContainsFunc(rows, func(r Row) bool { return r.Applet != nil }) {
		b, _ := dir.ReadHead("cmdline", maxArgs)
		f.Args = procfs.Strings(b)
	}
	if slices.ContainsFunc(rows, func(r Row) bool { return r.Open != "" }) {
		f.Open = open(dir)
	}
	return f
}

const (
	maxArgs = 4096 // bytes of a command line that are looked at
	maxOpen = 64   // descriptors that are looked at: an init opens what is looked for early
)

// open are what a process's first descriptors lead to.
func open(dir *procfs.Dir) (paths []string) {
	fds, _ := dir.Descriptors(maxOpen)
	for _, fd := range fds {
		if to, err := dir.Readlink("fd/" + strconv.Itoa(fd)); err == nil {
			paths = append(paths, to)
		}
	}
	return paths
}

// base is the name of a program's file, which may be there no more.
func base(exe string) string { return path.Base(strings.TrimSuffix(exe, " (deleted)")) }

// table is the table for who only looks up what is in it, which ls does twice for
// each of a thousand containers.
var table = sync.OnceValue(Table)

// candidates are the rows for a program.
func candidates(exe string) (rows []Row) {
	name := base(exe)
	all := table()
	for i := range all {
		if slices.ContainsFunc(all[i].Exe, func(pattern string) bool { return fits(pattern, name) }) {
			rows = append(rows, all[i])
		}
	}
	return rows
}

// fits tells whether a name is a pattern, or begins with what stands before its "*".
func fits(pattern, name string) bool {
	if begin, some := strings.CutSuffix(pattern, "*"); some {
		return strings.HasPrefix(name, begin)
	}
	return name == pattern
}

// Identify returns the row of an init, and in words what tells that it is this
// one. Of one that is in no row it has the kind Other or Unknown and no words.
func Identify(f Facts) (Row, string) {
	if f.Exe == "" {
		return Row{Kind: Unknown}, "what it executes cannot be read"
	}
	evidence := "it executes " + f.Exe
	for _, r := range candidates(f.Exe) {
		name, called := f.calledAs(r.Applet)
		held, holds := f.holds(r.Open)
		switch {
		case !called || !holds:
		case name != "":
			return r, evidence + " as " + name
		case held != "":
			return r, evidence + " and holds " + held + " open"
		default:
			return r, evidence
		}
	}
	return Row{Kind: Other}, evidence
}

// calledAs tells whether a program was called by one of names, and by which.
func (f Facts) calledAs(names []string) (name string, ok bool) {
	for i, arg := range f.Args[:min(len(f.Args), 2)] {
		arg = path.Base(strings.TrimPrefix(arg, "-"))
		if slices.Contains(names, arg) {
			return arg, true
		}
		if i == 0 && arg != base(f.Exe) { // not "busybox init"
			break
		}
	}
	return "", names == nil
}

// holds tells whether a path that ends with end is held open, and which.
func (f Facts) holds(end string) (path string, ok bool) {
	for _, p := range f.Open {
		if end != "" && strings.HasSuffix(p, end) {
			return p, true
		}
	}
	return "", end == ""
}

// Kind is the kind of a process's program.
func Kind(dir *procfs.Dir) (kind, exe string) {
	f := Read(dir)
	row, _ := Identify(f)
	return row.Kind, f.Exe
}

// KindOf is Kind for a process by its number: of a program that is no init's no
// more than its name is read.
func KindOf(proc *procfs.FS, pid int) (kind, exe string) {
	exe, err := proc.Readlink(pid, "exe")
	if err == nil && len(candidates(exe)) == 0 {
		return Other, exe
	}
	dir, err := proc.Process(pid)
	if err != nil {
		return Unknown, ""
	}
	defer dir.Close()
	return Kind(dir)
}
