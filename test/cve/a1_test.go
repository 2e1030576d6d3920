// SPDX-License-Identifier: Apache-2.0

package cve

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband"
	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/test/cve/rig"
)

// secret is in the environment of the caller, and must be nowhere inside.
const secret = "SECRET=do-not-take-this-along"

// dockerCaps are the capabilities of a container of docker's defaults.
const dockerCaps = 0xa80425fb

// shape is a kind of container that helpers are robbed in.
type shape struct {
	name string
	spec throwaway.Spec
	// traces says that the container may trace every process it sees: then
	// there must be nothing to be had.
	traces bool
	mutant []rig.Change
}

func shapes() []shape {
	const ptrace = 1 << unix.CAP_SYS_PTRACE
	dumpable := []rig.Change{
		{File: "internal/forkexec/warden.go", Old: "b.prctl(StepHarden, unix.PR_SET_DUMPABLE, num(0))", New: "b.prctl(StepHarden, unix.PR_SET_DUMPABLE, num(1))"},
		{File: "internal/forkexec/joiner.go", Old: "b.prctl(StepHarden, unix.PR_SET_DUMPABLE, num(0))", New: "b.prctl(StepHarden, unix.PR_SET_DUMPABLE, num(1))"},
	}
	// What gives up privilege is done by who has a number inside already.
	late := []rig.Change{
		{File: "internal/forkexec/joiner.go", Old: "\tb.become()\n", New: ""},
		{File: "internal/forkexec/joiner.go", Old: "\tb.place(inside)\n\tb.awaitWord()\n", New: "\tb.place(inside)\n\tb.awaitWord()\n\tb.become()\n"},
	}
	return []shape{
		{"own user namespace", throwaway.Spec{User: true}, false, dumpable},
		{"docker's capabilities", throwaway.Spec{DropCaps: ^uint64(dockerCaps)}, false, dumpable},
		{"docker's capabilities and SYS_PTRACE", throwaway.Spec{DropCaps: ^uint64(dockerCaps | ptrace)}, true, late},
		{"privileged", throwaway.Spec{}, true, keepGroupFiles()},
	}
}

// loot is what an attacker got of one process.
type loot struct {
	Comm, After string            // the victim's name before and after
	Files       map[int]string    // descriptors through /proc: what they are
	Taken       map[int]string    // descriptors through pidfd_getfd(2): what they are
	Links       map[string]string // root, cwd, exe
	Foreign     []string          // root or cwd that are no file of the container's
	Traced      bool
	Memory      bool
	Secret      bool
	More        string // capabilities that the attacker has not itself
}

// TestA1 puts attackers into four kinds of containers. At every system call
// that a helper makes with a number inside they try all they can on it; then
// they lie in wait for a thousand entries in all.
func TestA1(t *testing.T) {
	for _, s := range shapes() {
		t.Run(s.name, func(t *testing.T) {
			begin(t)
			b := newBox(t, s.spec, rig.Attack("robber"))
			if wins := b.rob(t, rig.Build(t, rig.Stops()...), s); len(wins) > 0 {
				t.Errorf("robbed: %q", wins)
			}
			mutant := rig.Build(t, append(rig.Stops(), s.mutant...)...)
			if wins := b.rob(t, mutant, s); len(wins) == 0 {
				t.Error("the mutant is not robbed either: the attack is none")
			}
		})
		t.Run(s.name+", race", func(t *testing.T) {
			begin(t)
			b := newBox(t, s.spec, rig.Attack("lurker", strconv.FormatBool(s.traces)))
			b.lure(entries())
			if wins := b.wins(); len(wins) > 0 {
				t.Errorf("robbed: %q", wins)
			}
		})
	}
}

// TestA1Lurker shows that who lies in wait gets its chance: against a mutant
// that tarries.
func TestA1Lurker(t *testing.T) {
	begin(t)
	const orphan = "\tb.call(StepSession, unix.SYS_SETSID)\n"
	s := shapes()[0]
	mutant := rig.Build(t, append(s.mutant, rig.Change{File: "internal/forkexec/joiner.go", Old: orphan,
		New: orphan + "\tb.poll(StepSession, nil, b.timespec(50))\n"})...)
	b := newBox(t, s.spec, rig.Attack("lurker", "false"))
	for range 3 {
		if r := mutant.Run("enter", "-n", b.pid(), "true"); r.Code != 0 {
			t.Fatalf("%+v", r)
		}
	}
	if len(b.wins()) == 0 {
		t.Error("the mutant is not robbed: the attack is none")
	}
}

// entries is how many of them a lurker gets to see.
func entries() int {
	switch {
	case os.Getenv("OUTBAND_SOAK") != "":
		return 5000
	case testing.Short():
		return 25
	}
	return 250
}

// rob enters once, and has the attacker try its luck at every stop of a
// process that it can see. It returns what it got.
func (b *box) rob(t *testing.T, tool *rig.Tool, s shape) []string {
	t.Helper()
	cmd := rig.Stop(tool.Command(tool.Args("enter", "-n", b.pid(), "true")...), rig.StopAll)
	cmd.Env = append(cmd.Env, secret)
	var wins []string
	stops := 0
	r := tool.StartCommand(cmd).EachStop(func(p *rig.Process) {
		if !rig.Numbered(p.PID) {
			return
		}
		stops++
		numbers := strings.Fields(rig.Status(p.PID, "NSpid"))
		var l loot
		b.ask(&l, "%s", numbers[len(numbers)-1])
		wins = append(wins, l.wins(s.traces)...)
	})
	const least = 5 // of a helper inside: wait, setsid, close_range, signals, execve
	if r.Code != 0 || r.Hung || stops < least {
		t.Fatalf("%d stops, %+v", stops, r)
	}
	return wins
}

// wins says what of the loot is more than the container has anyway.
func (l loot) wins(traces bool) (wins []string) {
	win := func(bad bool, format string, args ...any) {
		if bad {
			wins = append(wins, fmt.Sprintf(format, args...))
		}
	}
	win(l.More != "", "capabilities %s", l.More)
	if l.Comm != rig.WardenName || l.After != rig.WardenName {
		return wins // the command by now, and the container's own
	}
	win(l.Secret, "the caller's environment")
	win(len(l.Foreign) > 0, "files of the host: %q", l.Foreign)
	for n, kind := range l.Files {
		win(!harmless[kind], "descriptor %d is a %s", n, kind)
	}
	for n, kind := range l.Taken {
		win(!harmless[kind], "descriptor %d, taken, is a %s", n, kind)
	}
	if !traces {
		win(len(l.Files) > 0, "descriptors are listed")
		win(len(l.Taken) > 0, "descriptors are taken")
		win(len(l.Links) > 0, "links are read: %q", l.Links)
		win(l.Traced, "it is traced")
		win(l.Memory, "its memory is read")
	}
	return wins
}

// harmless is what a helper may have open inside: streams, and the command's
// file, which is the container's.
var harmless = map[string]bool{"pipe": true, "socket": true, "null": true, "container's file": true}

// lure enters many times.
func (b *box) lure(entries int) {
	b.t.Helper()
	target, err := outband.OpenPID(b.t.Context(), b.Pid())
	if err != nil {
		b.t.Fatal(err)
	}
	defer target.Close()
	for range entries {
		if err := target.Command("true").Run(); err != nil {
			b.t.Fatal(err)
		}
	}
}

// wins ends a lurker and returns what it got.
func (b *box) wins() []string {
	b.t.Helper()
	b.say("enough")
	var wins []string
	for {
		line, ok := b.hear()
		if !ok {
			b.t.Fatal("the attacker has ended before its time")
		}
		if line == "done" {
			return wins
		}
		wins = append(wins, line)
	}
}

// keepGroupFiles is a mutant whose joiner lets go of nothing that is the
// warden's (see A2).
func keepGroupFiles() []rig.Change {
	return []rig.Change{rig.Off("internal/forkexec/joiner.go",
		"\tb.close(StepCloseFiles, num(fdLink), num(fdTool), b.groupParent, b.groupDir, b.link[0].value())\n")}
}
