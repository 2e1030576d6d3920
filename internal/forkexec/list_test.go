// SPDX-License-Identifier: Apache-2.0

package forkexec

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "write testdata/*.golden anew")

// placeholder stands for every file of a Spec that is compiled only.
var placeholder = os.Stdin

// plainSpec enters all namespaces and nothing else.
func plainSpec() *Spec {
	return &Spec{
		Paths: []string{"/bin/true"}, Args: []string{"true"}, Env: []string{"PATH=/bin"},
		Stdin: placeholder, Stdout: placeholder, Stderr: placeholder,
		Target: placeholder, Join: joined | unix.CLONE_NEWUSER | unix.CLONE_NEWCGROUP | unix.CLONE_NEWTIME,
		Groups: &GroupTree{Parent: placeholder, Dir: placeholder, Name: "session"},
		Umask:  0o22,
		Modern: true,
	}
}

// confinedSpec has a step of every kind.
func confinedSpec() *Spec {
	s, oom := plainSpec(), -500
	s.Paths = []string{"/usr/local/bin/ps", "/usr/bin/ps", "/bin/ps"}
	s.Args = []string{"ps", "ax"}
	s.Root, s.Cwd, s.Proc, s.OOM = placeholder, placeholder, placeholder, &oom
	s.V1 = []*os.File{placeholder, placeholder}
	s.Limits = []Limit{
		{unix.RLIMIT_NOFILE, unix.Rlimit{Cur: 1024, Max: 4096}},
		{unix.RLIMIT_CORE, unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}},
	}
	s.Before = &Identity{UID: [3]uint32{1000, 1000, 1000}, GID: [3]uint32{1000, 1000, 1000}, SetGroups: true, Keep: 1 << unix.CAP_SYS_ADMIN}
	s.User = &Identity{UID: [3]uint32{33, 33, 33}, GID: [3]uint32{33, 33, 33}, Groups: []uint32{33, 1000}, SetGroups: true, Keep: 1<<unix.CAP_CHOWN | 1<<unix.CAP_BPF}
	s.Caps = &Caps{
		Permitted: 1<<unix.CAP_CHOWN | 1<<unix.CAP_BPF, Effective: 1 << unix.CAP_CHOWN, Inheritable: 1 << unix.CAP_BPF, Ambient: 1 << unix.CAP_BPF,
		Drop: 1<<unix.CAP_SYS_BOOT | 1<<unix.CAP_CHECKPOINT_RESTORE, Securebits: 1,
	}
	s.NoPrivs = true
	s.Label = &Label{File: "attr/apparmor/exec", Text: "exec confined"}
	io, slack, linux32 := 4<<13|7, uint64(70000), uint64(8)
	s.Sched = Scheduling{Affinity: []uint64{3, 1}, Policy: &SchedAttr{3, -5, 0}, IOPriority: &io, TimerSlack: &slack, Personality: &linux32}
	s.Filters, s.TargetPID = 2, 1234
	s.Stdin, s.Null = nil, &Null{Root: placeholder}
	return s
}

// shepherdSpec is what a user without root gets: no cgroup, no number but its own.
func shepherdSpec() *Spec {
	s := plainSpec()
	s.Groups = nil
	s.Join = joined | unix.CLONE_NEWUSER
	s.User = &Identity{}
	s.Dir = "/tmp"
	return s
}

// filteredSpec has system call filters, and a shepherd.
func filteredSpec() *Spec {
	s := shepherdSpec()
	s.Filters, s.TargetPID = 1, 1234
	return s
}

// reading is the program that reads two files and asks two file systems.
func reading() *program {
	r := &Reading{Paths: []string{"/etc/passwd", "/etc/group"}, Mounts: []string{"/", "/srv"}}
	f := placeholder
	return assembleReader(r, 2500*time.Millisecond, f, f, f, f, f).program
}

// telling is the program that writes into a FIFO and sets a mode.
func telling() *program {
	w := &Telling{FIFO: "/run/initctl", Held: []int{10}, Record: "six", Modes: []Mode{{"/run/stopit", 0o100}}, UID: 100000, GID: 100000, Init: placeholder}
	w.Root, w.Proc = placeholder, placeholder
	return assembleTeller(w, 2500*time.Millisecond, placeholder, placeholder, placeholder).program
}

// terminalSpec has a terminal of the target's own.
func terminalSpec() *Spec {
	s := plainSpec()
	s.Root = placeholder
	s.User = &Identity{UID: [3]uint32{33, 33, 33}, GID: [3]uint32{33, 33, 33}}
	s.Terminal = &Terminal{Rows: 24, Cols: 80, Modes: &unix.Termios{Iflag: unix.ICRNL}, Owner: 33, Group: 5}
	return s
}

// TestListings compares the programs of some Specs with those looked at before.
// A difference is to be read as closely as one in the code.
func TestListings(t *testing.T) {
	detached, old := plainSpec(), shepherdSpec()
	terminal := terminalSpec()
	detached.Detach, detached.Leave = true, true
	old.Modern = false
	for name, lines := range map[string][]string{
		"plain": List(plainSpec()), "confined": List(confinedSpec()), "shepherd": List(shepherdSpec()),
		"filtered": List(filteredSpec()), "detached": List(detached), "old": List(old), "reading": list(reading()), "telling": list(telling()), "terminal": List(terminal),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join("testdata", name+".golden")
			got := strings.Join(lines, "\n") + "\n"
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("%s: run with -update and read the difference; the first is in line %d:\n%s", path, firstDifference(got, string(want)), got)
			}
		})
	}
}

func firstDifference(a, b string) int {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return i + 1
		}
	}
	return min(len(x), len(y)) + 1
}

// TestListIsComplete finds every op once, every jump's label, and a name for
// every system call. A step that no Spec takes would be dead.
func TestListIsComplete(t *testing.T) {
	taken := map[Step]bool{StepNone: true, StepStartWarden: true} // the latter is the caller's
	for name, spec := range map[string]*Spec{"confined": confinedSpec(), "shepherd": shepherdSpec(), "terminal": terminalSpec()} {
		lines := List(spec)
		isLabel := func(line string) bool { return !strings.HasPrefix(line, "\t") }
		labels := slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return !isLabel(l) })
		ops := assemble(spec, nil, nil, nil).ops
		if n := len(lines) - len(labels); n != len(ops) {
			t.Errorf("%s: %d ops in %d lines", name, len(ops), n)
		}
		for _, o := range ops {
			taken[Step(o.step)] = true
		}
		jump := regexp.MustCompile(`\b(?:goto|then|else) (\w+)$|\bthen (\w+) else`)
		for _, line := range lines {
			if strings.Contains(line, "syscall") {
				t.Errorf("%s: no name: %s", name, line)
			}
			for _, m := range jump.FindAllStringSubmatch(line, -1) {
				if to := m[1] + m[2]; !slices.Contains(labels, to+":") {
					t.Errorf("%s: %q has no place", name, line)
				}
			}
		}
	}
	press := assemblePress(&Pressing{UserNS: &os.File{}}, 0, nil).program
	for name, p := range map[string]*program{"press": press, "reading": reading(), "telling": telling()} {
		for _, o := range p.ops {
			taken[Step(o.step)] = true
		}
		for _, line := range list(p) {
			if strings.Contains(line, "syscall") {
				t.Errorf("%s: no name: %s", name, line)
			}
		}
	}
	for s := range stepCount {
		if !taken[s] {
			t.Errorf("no Spec takes the step %q", s)
		}
	}
}

// TestNothingOfTheHostStaysOpen holds A2 in every program: before the target is
// joined the joiner has closed whatever is not needed inside. (Mutant that
// lost: fdTool not closed.)
func TestNothingOfTheHostStaysOpen(t *testing.T) {
	spec := confinedSpec()
	lines := List(spec)
	from, to := slices.Index(lines, "joiner:"), slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, "setns(") })
	closed := strings.Join(lines[from:to], "\n") + "\n"
	// 0 to 2 are streams, 3 reports; target, root and directory go in.
	keep := map[int]string{0: "stdin", 1: "stdout", 2: "stderr", fdExec: "report", 6: "target", 7: "root", 8: "directory"}
	files := len(assemble(spec, nil, nil, nil).files)
	for fd := range files {
		if want := keep[fd] == ""; strings.Contains(closed, "close("+itoa(fd)+")\n") != want {
			t.Errorf("descriptor %d of %d: closed before joining should be %v", fd, files, want)
		}
	}
}
