// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/engine"
	"github.com/outband/outband/internal/safetext"
	"github.com/outband/outband/internal/sys"
	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/ns"
	"github.com/outband/outband/pidtree"
)

// hostile is text that drives terminals.
const hostile = "a\x1b[2J\x9b1m) S 1\nb\r\u202ec\xff\u200bd"

func hostileTree(t *testing.T) *forest {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	cmd.Args = []string{hostile, "1000"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	tree, err := pidtree.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	p := tree.Find(cmd.Process.Pid)
	p.Comm, p.Container = hostile, "docker:"+hostile
	return &forest{Tree: tree, roots: []*pidtree.Process{p}}
}

// Whatever processes call themselves, a drawing has outband's own colours alone,
// and fits the window (A17).
func TestDrawHostile(t *testing.T) {
	f := hostileTree(t)
	for _, width := range []int{0, 200, 80, 40, 10, 1} {
		for _, color := range []bool{false, true} {
			for _, l := range draw(f, style{width: width, color: color, lines: unicodeLines()}, true) {
				text := l.text
				if color {
					for _, own := range []string{dim, red, yellow, purple, cyan, bold, "0"} {
						text = strings.ReplaceAll(text, "\x1b["+own+"m", "")
					}
				}
				if safetext.Escape(text) != text {
					t.Errorf("%q would reach the terminal", text)
				}
				if width > 0 && safetext.Width(text) > width {
					t.Errorf("%q is wider than %d", text, width)
				}
			}
		}
	}
	var out bytes.Buffer
	if err := printJSON(&out, nodes(f)); err != nil || out.String() != treeText(t, f) || strings.ContainsAny(out.String(), "\x1b\u202e\u009b\r") {
		t.Errorf("%s, %v", out.String(), err)
	}
}

// The window keeps its place while lines come and go above it, below it, and at
// its top.
func TestViewKeepsItsPlace(t *testing.T) {
	lines := func(pids ...int) []line {
		all := []line{{text: "header"}}
		for _, pid := range pids {
			all = append(all, line{text: "x", key: key{pid, 1}})
		}
		return all
	}
	v := &view{height: 2, style: style{width: 80}}
	v.set(lines(1, 2, 3, 4, 5, 6))
	for _, b := range []byte("jj\x1b[B") {
		if v.press(b) {
			t.Fatal("it ends")
		}
	}
	at := func(want int) {
		t.Helper()
		if got := v.lines[v.top].key.pid; got != want {
			t.Errorf("%d is at the top, want %d", got, want)
		}
	}
	at(4)
	v.set(lines(1, 10, 11, 12, 2, 3, 4, 5, 6))
	at(4)
	v.set(lines(4, 5, 6))
	at(4)
	v.set(lines(1, 2, 3, 4, 5, 6))
	at(1)
	v.press('g')
	at(1)
	v.set(lines(9, 1, 2, 3, 4, 5, 6))
	at(9) // the beginning is a place too
	v.press('G')
	at(5)
	for _, b := range []byte("\x1b[5~") {
		v.press(b)
	}
	at(3)
	v.set(lines(1))
	at(1)
	if !v.press('q') {
		t.Error("q does not end it")
	}
	if first := v.frame(); !strings.Contains(first, "header") || !strings.Contains(first, "1-1 of 1") {
		t.Errorf("%q", first)
	}
}

// A first process without a handler drops a signal, which is told.
func TestWarnIgnored(t *testing.T) {
	testutil.RequireUserNS(t)
	for _, test := range []struct {
		script string
		sig    unix.Signal
		told   bool
	}{
		{"trap : USR1; echo; while :; do sleep 1000; done", unix.SIGUSR1, false}, {"echo; while :; do sleep 1000; done", unix.SIGUSR1, true},
		{"echo; while :; do sleep 1000; done", unix.SIGKILL, false}, {"echo; while :; do sleep 1000; done", 0, false},
	} {
		cmd := exec.Command("sh", "-c", test.script)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWUSER, Pdeathsig: syscall.SIGKILL}
		ready, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		_, err = ready.Read(make([]byte, 1))
		var told bytes.Buffer
		p := &program{stderr: &told}
		held := &pidtree.Held{PIDs: []int{cmd.Process.Pid, 1}, Pidfd: pidfdOf(t, cmd.Process.Pid)}
		for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
			p.warnIgnored(held, test.sig, 1)
			if !test.told || told.Len() > 0 {
				break
			}
			// A shell that forks blocks all signals for a moment.
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if err != nil || strings.Contains(told.String(), "has no handler for SIGUSR1: it is ignored") != test.told {
			t.Errorf("%q, %v: %q", test.script, err, told.String())
		}
	}
}

func TestParseSignal(t *testing.T) {
	for word, want := range map[string]unix.Signal{
		"9": 9, "KILL": 9, "SIGKILL": 9, "kill": 9, "SIGRTMIN": 34, "RTMIN+3": 37, "SIGRTMIN+30": 64, "SIGRTMAX": 64, "rtmax-1": 63, "0": 0, "64": 64, "sigPwr": unix.SIGPWR,
	} {
		if got, err := parseSignal(word); err != nil || got != want {
			t.Errorf("%s: %d, %v, want %d", word, got, err, want)
		}
		if name := signalName(want); want != 0 {
			if again, err := parseSignal(name); err != nil || again != want {
				t.Errorf("%d is called %s, which is %d, %v", want, name, again, err)
			}
		}
	}
	for _, word := range []string{"", "65", "-1", "+1", "SIG", "RTMIN+31", "RTMIN-1", "RTMAX+1", "RTMIN+", "9 ", "KILL\n", "SIGSIGKILL", "1e1"} {
		if sig, err := parseSignal(word); err == nil {
			t.Errorf("%q is taken for %d", word, sig)
		}
	}
}

func FuzzParseSignal(f *testing.F) {
	f.Add("SIGRTMIN+3")
	f.Fuzz(func(t *testing.T, word string) {
		if sig, err := parseSignal(word); err == nil && (sig < 0 || sig > sigRTMax) {
			t.Errorf("%q: %d", word, sig)
		}
	})
}

func TestEngineNames(t *testing.T) {
	if !slices.Contains(engineNames(), "bare") {
		t.Errorf("%q", engineNames())
	}
}

func pidfdOf(t *testing.T, pid int) *os.File {
	t.Helper()
	f, err := sys.OpenPid(pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// A target that ends after it was found is no container any more.
func TestSpaceOfEnded(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	held := pidfdOf(t, cmd.Process.Pid)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	space, err := spaceOf(held, "web\x1b")
	if err == nil {
		space.Close()
	}
	if !errors.Is(err, engine.ErrNotFound) || codeOf(err) != codeNotFound || !strings.Contains(err.Error(), `web\x1b: it has ended`) {
		t.Errorf("%v", err)
	}
}

// node is a process as JSON has it: a contract with scripts.
type node struct {
	PIDs      []int    `json:"pids"`
	Level     int      `json:"level"`
	PIDNS     ns.ID    `json:"pidns"`
	Comm      string   `json:"comm"`
	Args      []string `json:"args"`
	Truncated bool     `json:"truncated,omitempty"` // args have more
	Silent    bool     `json:"silent,omitempty"`    // args could not be read
	UID       uint32   `json:"uid"`
	State     string   `json:"state"`
	Container *string  `json:"container"`
	Visitor   bool     `json:"visitor"`
	Via       string   `json:"via,omitempty"` // what let it in
	Parent    int      `json:"parent"`        // the host's number; 0: none that can be seen
	Started   uint64   `json:"started"`       // clock ticks since boot
	Children  []node   `json:"children"`
}

func nodes(t *forest) []node {
	all := make([]node, 0, len(t.roots))
	for _, p := range t.roots {
		all = append(all, nodeOf(t.Tree, p))
	}
	return all
}

func nodeOf(t *pidtree.Tree, p *pidtree.Process) node {
	n := node{
		PIDs: p.PIDs, Level: p.Level(), PIDNS: p.PIDNS, Comm: p.Comm, Args: p.Args(), Truncated: p.Truncated(), Silent: p.Silent, UID: p.UID,
		State: string(p.State), Visitor: p.Visitor, Via: p.Via, Parent: p.Parent, Started: p.Start,
	}
	if p.Container != "" {
		n.Container = &p.Container
	}
	for child := range t.Children(p) {
		n.Children = append(n.Children, nodeOf(t, child))
	}
	return n
}

// What is written by hand is what the encoder makes of the same.
// treeText is what writeTree writes.
func treeText(t *testing.T, f *forest) string {
	t.Helper()
	var b strings.Builder
	if err := writeTree(&b, f); err != nil {
		t.Error(err)
	}
	return b.String()
}

func TestWriteTree(t *testing.T) {
	tree, err := pidtree.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	f := &forest{Tree: tree, roots: slices.Collect(tree.Roots())}
	tree.Processes[0].Container = "docker:web"
	tree.Processes[0].Cmdline = strings.Repeat("x", 4096)
	tree.Processes[0].Silent, tree.Processes[0].Via = true, "docker exec"
	want, err := safetext.Marshal(nodes(f))
	if text := treeText(t, f); err != nil || text != string(want)+"\n" {
		t.Errorf("%v\n%s\n%s", err, want, text)
	}
	if err := writeTree(broken{}, f); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("nobody reads: %v", err)
	}
}

// broken is a pipe that nobody reads.
type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }
