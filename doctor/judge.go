// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"cmp"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/outband/outband/internal/safetext"
)

// From which share of a limit on something is worth a note, and from which it is
// as good as used up.
const (
	scarce = 0.90
	gone   = 0.98
)

// What else is worth a note.
const (
	throttled   = 0.25 // of the periods
	pressed     = 40   // percent of the time
	unaccepted  = 8    // connections
	manyZombies = 100
)

// judge works out what the facts mean: from the report alone.
func (r *Report) judge() {
	r.Findings, r.Verdict = nil, OK
	for _, about := range []func(*Report){
		(*Report).judgeInit, (*Report).judgeProcesses, (*Report).judgeLimits, (*Report).judgeMemory, (*Report).judgeCPU,
		(*Report).judgeFilesystems, (*Report).judgeNetwork, (*Report).judgeNames,
	} {
		about(r)
	}
	rank := func(g Grade) int { return slices.Index([]Grade{Bad, Note, OK}, g) }
	slices.SortStableFunc(r.Findings, func(a, b Finding) int { return cmp.Compare(rank(a.Grade), rank(b.Grade)) })
	if len(r.Findings) > 0 {
		r.Verdict = r.Findings[0].Grade
	}
}

func (r *Report) find(grade Grade, about, hint, format string, args ...any) {
	r.Findings = append(r.Findings, Finding{grade, about, fmt.Sprintf(format, args...), hint})
}

// command is a command line about the container, whose name a user may have chosen:
// it is to be one word for the shell that it is copied to (A22,
// docs/threat-model.md).
func (r *Report) command(verb, rest string) string {
	return strings.TrimSpace("outband " + verb + " " + safetext.Word(r.Name) + " " + rest)
}

func (r *Report) judgeInit() {
	switch {
	case r.Init == nil && r.Last == nil:
		r.find(Note, "init", "", "it does not run")
	case r.Init == nil:
		r.find(r.Last.grade(), "init", "", "it does not run: %s", r.Last)
	case len(r.Init.Frozen) > 0:
		r.find(Bad, "init", r.command("enter", "--cgroup none")+" enters from outside of its cgroup, --thaw thaws it",
			"it is frozen: cgroup %s", strings.Join(r.Init.Frozen, ", "))
	case r.Init.State == "T", r.Init.State == "t":
		r.find(Bad, "init", r.command("signal", "CONT 1")+" lets it go on", "its first process is stopped by a signal or a debugger")
	case r.Init.State == "Z", r.Init.State == "X":
		r.find(Bad, "init", "", "its first process has ended and is not reaped")
	}
}

func (l *Last) grade() Grade {
	if l.OOM || l.Code != 0 {
		return Bad
	}
	return Note
}

// String is how a container ended, for people.
func (l *Last) String() string {
	how := fmt.Sprintf("exit code %d", l.Code)
	switch {
	case l.OOM:
		how += ", out of memory"
	case l.Code > 128 && l.Code <= 128+64:
		how += fmt.Sprintf(" (signal %d)", l.Code-128)
	}
	if !l.At.IsZero() {
		how += " at " + l.At.UTC().Format("2006-01-02 15:04:05 UTC")
	}
	return how
}

func (r *Report) judgeProcesses() {
	p := r.Processes
	if p == nil {
		return
	}
	for _, w := range p.Waiting {
		if r.Init != nil && w.PIDs[0] == r.Init.PID {
			r.find(Bad, "init", "", "its first process waits in the kernel, and no signal ends that: %s", w.wait())
		}
	}
	if n := len(p.Waiting); n > 0 {
		r.find(Bad, "processes", "", "%s in the kernel, and no signal ends that: %s", count(n, "process waits", "processes wait"),
			some(p.Waiting, func(w Process) string { return w.name() + " in " + w.wait() }))
	}
	r.judgeZombies(p.Zombies)
	if n := len(p.Stopped); n > 0 && (r.Init == nil || n > 1 || p.Stopped[0].PIDs[0] != r.Init.PID) {
		r.find(Note, "processes", "", "%s stopped: %s", count(n, "process is", "processes are"), some(p.Stopped, Process.name))
	}
	if n := len(p.Frozen); n > 0 {
		r.find(Note, "processes", "", "%s frozen: %s", count(n, "process is", "processes are"),
			some(p.Frozen, func(w Process) string { return w.name() + " by cgroup " + w.Cgroup }))
	}
}

// judgeZombies tells who should have reaped.
func (r *Report) judgeZombies(zombies []Process) {
	n := len(zombies)
	if n == 0 {
		return
	}
	parents, worst := map[int]int{}, zombies[0].Parent
	for _, z := range zombies {
		if parents[z.Parent]++; parents[z.Parent] > parents[worst] {
			worst = z.Parent
		}
	}
	grade, hint := Note, ""
	if n >= manyZombies {
		grade = Bad
	}
	if r.Init != nil && worst == r.Init.PID {
		hint = "its first process does not reap: an init does, such as tini"
	}
	r.find(grade, "processes", hint, "%s ended and not reaped, %d of them by process %d of the host: %s",
		count(n, "process has", "processes have"), parents[worst], worst, some(zombies, Process.name))
}

// name names a process by its number inside.
func (p Process) name() string { return fmt.Sprintf("%d %s", p.PIDs[len(p.PIDs)-1], p.Comm) }

// wait is what a process waits in.
func (p Process) wait() string {
	switch {
	case p.Wait == "" && p.Syscall == "":
		return "what cannot be read"
	case p.Wait == "":
		return p.Syscall
	case p.Syscall == "":
		return p.Wait
	}
	return p.Syscall + " (" + p.Wait + ")"
}

// count is a number with the word for it.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// some names the first few of a list.
func some[T any](list []T, name func(T) string) string {
	const few = 4
	var words []string
	for _, item := range list[:min(len(list), few)] {
		words = append(words, name(item))
	}
	if more := len(list) - few; more > 0 {
		words = append(words, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(words, ", ")
}

// graded grades a share of what there is.
func graded(share float64) Grade {
	switch {
	case share >= gone:
		return Bad
	case share >= scarce:
		return Note
	}
	return OK
}

func (r *Report) judgeLimits() {
	for i := range r.Limits {
		l := &r.Limits[i]
		hint := ""
		if l.Name != "open files" {
			hint = r.command("enter", "--cgroup none") + " enters beside the limit"
		}
		if g := graded(l.share()); g != OK {
			r.find(g, l.Name, hint, "%s of %s in use (%s)", l.amount(l.Used), l.amount(*l.Max), l.Of)
		} else if l.Name == "processes" && l.Refused > 0 {
			r.find(Note, l.Name, "", "the limit of %s was reached %s (%s)", l.bound(), count(int(l.Refused), "time", "times"), l.Of)
		}
	}
}

// amount is a number of what is limited.
func (l *Limit) amount(n uint64) string {
	if l.Name == "memory" {
		return Bytes(n)
	}
	return strconv.FormatUint(n, 10)
}

func (l *Limit) bound() string {
	if l.Max == nil {
		return "a group above"
	}
	return l.amount(*l.Max)
}

// String is a limit for people.
func (l *Limit) String() string {
	text := l.Name + " " + l.amount(l.Used)
	if l.Reclaimable > 0 {
		text += fmt.Sprintf(" with %s of caches", l.amount(l.Reclaimable))
	}
	if l.Max != nil {
		text += " of " + l.amount(*l.Max)
	}
	return text + " (" + l.Of + ")"
}

// Bytes is an amount of bytes for people.
func Bytes(n uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	value, i := float64(n), 0
	for value >= 1024 && i < len(units)-1 {
		value, i = value/1024, i+1
	}
	if i == 0 || value >= 100 {
		return fmt.Sprintf("%.0f %s", value, units[i])
	}
	return fmt.Sprintf("%.1f %s", value, units[i])
}

func (r *Report) judgeMemory() {
	if r.OOMKills > 0 {
		r.find(Note, "memory", "", "out of memory: the kernel has killed %s", count(int(min(r.OOMKills, 1<<31)), "process", "processes"))
	}
}

func (r *Report) judgeCPU() {
	if c := r.CPU; c != nil && c.share() >= throttled {
		r.find(Note, "cpu", "", "held back in %.0f %% of periods (%s)", 100*c.share(), c.Of)
	}
	for _, p := range r.Pressure {
		if p.Some >= pressed {
			r.find(Note, p.Name, "", "some of it waited for %s in %.0f %% of the last ten seconds, all of it in %.0f %%", p.Name, p.Some, p.Full)
		}
	}
}

func (r *Report) judgeFilesystems() {
	for _, f := range r.Filesystems {
		about := "file system " + f.Point
		switch {
		case !f.Answers:
			r.find(Bad, about, "", "it does not answer (%s, %s)", f.Type, f.Source)
			continue
		case f.Failed:
			r.find(Bad, about, "", "it has gone read-only by itself (%s)", f.Type)
		}
		if sealed(f.Type) || f.ReadOnly && !f.Failed {
			continue // nobody can fill it up
		}
		if g := graded(ratio(f.Used, f.Size)); g != OK {
			r.find(g, about, "", "%s of %s in use", Bytes(f.Used), Bytes(f.Size))
		}
		if g := graded(ratio(f.UsedInodes, f.Inodes)); g != OK {
			r.find(g, about, "", "%d of %d inodes in use", f.UsedInodes, f.Inodes)
		}
	}
}

func ratio(used, size uint64) float64 { return float64(used) / max(float64(size), 1) }

func (r *Report) judgeNetwork() {
	n := r.Network
	if n == nil {
		return
	}
	for _, s := range n.Listening {
		if s.Waiting >= unaccepted {
			r.find(Note, "network", "", "%d connections to %s wait to be accepted%s", s.Waiting, s.Address, s.by())
		}
	}
	def := slices.ContainsFunc(n.Routes, func(r Route) bool { return r.To.Bits() == 0 && !r.Reject })
	if !n.alone() && !def {
		r.find(Note, "network", "", "there is no default route")
	}
}

// by says who has a socket open.
func (s Socket) by() string {
	if len(s.PIDs) == 0 {
		return ""
	}
	return fmt.Sprintf(" by %d %s", s.PIDs[len(s.PIDs)-1], s.Comm)
}

func (r *Report) judgeNames() {
	n := r.Names
	if n == nil {
		return
	}
	on := r.Network != nil && !r.Network.alone()
	switch {
	case n.Error == "there is none" && !on: // nobody to ask, either
	case n.Error == "there is none":
		r.find(Note, "names", "", "there is no %s", resolvFile)
	case n.Error != "":
		r.find(Bad, "names", "", "%s: %s", path.Clean(resolvFile), n.Error)
	case on && len(n.Servers) == 0:
		r.find(Note, "names", "", "no server in %s", resolvFile)
	}
	for _, server := range n.Servers {
		host, _, _ := strings.Cut(server, "%")
		a, err := netip.ParseAddr(host)
		switch {
		case err != nil:
			r.find(Bad, "names", "", "%s: %q is no address", resolvFile, server)
		case on && !a.IsLinkLocalUnicast() && !r.Network.routed(a):
			r.find(Bad, "names", "", "no route leads to the server %s", server)
		}
	}
}
