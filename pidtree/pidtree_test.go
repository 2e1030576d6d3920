// SPDX-License-Identifier: Apache-2.0

package pidtree

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"runtime"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/engine"
	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
)

func TestMain(m *testing.M) { testutil.Main(m) }

// shape is a machine with what trees are about.
func shape() []procfs.Task {
	tasks := []procfs.Task{
		{PID: 1, NSpid: []int{1}},                // the machine's init
		{PID: 2, NSpid: []int{2}, Kthread: true}, // kthreadd
		{PID: 3, NSpid: []int{3}, Kthread: true, Parent: 2},
		{PID: 10, NSpid: []int{10}, Parent: 1},                       // a shell outside
		{PID: 20, NSpid: []int{20, 1}, Parent: 1, PIDNS: 100},        // init of a container
		{PID: 21, NSpid: []int{21, 2}, Parent: 20, PIDNS: 100},       // its child
		{PID: 22, NSpid: []int{22, 3, 1}, Parent: 21, PIDNS: 200},    // init of a container inside
		{PID: 23, NSpid: []int{23, 4, 2}, Parent: 22, PIDNS: 200},    // its child
		{PID: 30, NSpid: []int{30, 5}, Parent: 10, PIDNS: 100},       // entered from the shell
		{PID: 31, NSpid: []int{31, 6}, Parent: 30, PIDNS: 100},       // its child
		{PID: 32, NSpid: []int{32, 7, 3}, Parent: 30, PIDNS: 200},    // entered further from there
		{PID: 33, NSpid: []int{33, 8}, Parent: 0, PIDNS: 100},        // its parent is not visible
		{PID: 35, NSpid: []int{35, 13}, Parent: 1, PIDNS: 100},       // its outside parent has died
		{PID: 40, NSpid: []int{40, 10}, Parent: 20, PIDNS: 100},      // taken over by init
		{PID: 41, NSpid: []int{41, 14}, Parent: 40, PIDNS: 100},      // its child
		{PID: 42, NSpid: []int{42, 15, 1}, Parent: 41, PIDNS: 300},   // an init below that
		{PID: 43, NSpid: []int{43, 16, 2}, Parent: 42, PIDNS: 300},   // its child
		{PID: 60, NSpid: []int{60, 12}, Parent: 20, PIDNS: 100},      // another orphan
		{PID: 70, NSpid: []int{70}, Parent: 0},                       // entered into the reader's own
		{PID: 80, NSpid: []int{80, 1}, Parent: 30, PIDNS: 400},       // a container that a visitor made
		{PID: 81, NSpid: []int{81, 2}, Parent: 80, PIDNS: 400},       // its child
		{PID: 90, NSpid: []int{90, 17}, Parent: 1, PIDNS: 999},       // the first of its namespace is gone
		{PID: 91, NSpid: []int{91, 18, 4}, Parent: 21, PIDNS: 200},   // entered from the container outside
		{PID: 92, NSpid: []int{92, 19, 5}, Parent: 1, PIDNS: 200},    // from further outside
		{PID: 93, NSpid: []int{93, 20, 6}, Parent: 92, PIDNS: 200},   // its child
		{PID: 94, NSpid: []int{94, 21}, Parent: 20, PIDNS: 100},      // a plain child
		{PID: 95, NSpid: []int{95, 22}, Parent: 94, PIDNS: 100},      // of a plain child
		{PID: 96, NSpid: []int{96, 23, 1}, Parent: 1, PIDNS: 500},    // an init from outside: not a visitor
		{PID: 97, NSpid: []int{97, 24, 2}, Parent: 96, PIDNS: 500},   // its child
		{PID: 98, NSpid: []int{98, 25}, Parent: 20, PIDNS: 100},      // zombie
		{PID: 99, NSpid: []int{99}, Parent: 70},                      // child of a visitor to the reader's own
		{PID: 110, NSpid: []int{110, 26}, Parent: 33, PIDNS: 100},    // child of one without a parent
		{PID: 111, NSpid: []int{111, 27, 7}, Parent: 93, PIDNS: 200}, // and so on
	}
	for i := range tasks {
		if len(tasks[i].NSpid) == 1 {
			tasks[i].PIDNS = 50
		}
	}
	return tasks
}

// TestVisitors: who counts as a visitor, by the shape of the tree.
func TestVisitors(t *testing.T) {
	want := []int{30, 31, 32, 33, 35, 70, 90, 91, 92, 93, 99, 110, 111}
	tree := newTree(shape(), false)
	for i := range tree.Processes {
		if p := &tree.Processes[i]; p.Visitor != slices.Contains(want, p.PID()) {
			t.Errorf("%v: visitor %v", p.PIDs, p.Visitor)
		}
	}
}

// A parent that is hidden does not make a visitor.
func TestVisitorsHidden(t *testing.T) {
	tree := newTree(shape(), true)
	for pid, want := range map[int]bool{30: true, 32: true, 33: false, 35: true, 70: false, 99: false, 110: false} {
		if got := tree.Find(pid).Visitor; got != want {
			t.Errorf("%d: visitor %v", pid, got)
		}
	}
}

// TestOrphans: of those that init has taken over, who is in a session's cgroup,
// and who descends from them in the same namespace.
func TestOrphans(t *testing.T) {
	tree := newTree(shape(), false)
	asked := []int{}
	tree.markOrphans(func(pid int) []procfs.Group {
		asked = append(asked, pid)
		path := "/web"
		if pid == 40 {
			path = "/web/outband-0123456789/x"
		}
		return []procfs.Group{{Path: path}}
	})
	for pid, want := range map[int]bool{40: true, 41: true, 42: false, 43: false, 60: false, 94: false} {
		if got := tree.Find(pid).Visitor; got != want {
			t.Errorf("%d: visitor %v", pid, got)
		}
	}
	if want := []int{21, 23, 40, 43, 60, 81, 94, 97, 98}; !slices.Equal(asked, want) {
		t.Errorf("%v were asked for, want %v", asked, want)
	}
}

// Each process has one place, and all are reached from the roots.
func TestPlaces(t *testing.T) {
	tree := newTree(shape(), false)
	place := map[int]int{}
	var walk func(p *Process, below int)
	walk = func(p *Process, below int) {
		if _, twice := place[p.PID()]; twice {
			t.Fatalf("%d has two places", p.PID())
		}
		place[p.PID()] = below
		for child := range tree.Children(p) {
			walk(child, p.PID())
		}
	}
	for root := range tree.Roots() {
		walk(root, 0)
	}
	if len(place) != len(tree.Processes) {
		t.Errorf("%d of %d have a place", len(place), len(tree.Processes))
	}
	for pid, want := range map[int]int{1: 0, 2: 0, 3: 2, 20: 1, 22: 21, 30: 20, 31: 30, 32: 22, 33: 20, 35: 20, 80: 30, 90: 1, 91: 22, 93: 92, 96: 1, 70: 1} {
		if place[pid] != want {
			t.Errorf("%d is placed below %d, want %d", pid, place[pid], want)
		}
	}
}

func TestNumbers(t *testing.T) {
	p := Process{PIDs: []int{30, 5, 2}, Cmdline: "a\x00b c\x00"}
	if p.PID() != 30 || p.Inner() != 2 || p.Level() != 2 || !slices.Equal(p.Args(), []string{"a", "b c"}) || p.Truncated() {
		t.Errorf("PID %d, Inner %d, Level %d, Args %q", p.PID(), p.Inner(), p.Level(), p.Args())
	}
}

// A container is named by number and start time; bare ones have no name.
func TestName(t *testing.T) {
	tree := newTree([]procfs.Task{{PID: 7, NSpid: []int{7, 1}, Start: 5}, {PID: 8, NSpid: []int{8, 1}, Start: 5}, {PID: 9, NSpid: []int{9, 1}, Start: 5}}, false)
	tree.Name([]engine.Container{
		{Engine: "docker", Name: "web", Init: engine.Init{PID: 7, Start: 5}},
		{Engine: "docker", Name: "old", Init: engine.Init{PID: 8, Start: 4}},
		{Engine: engine.Bare, Name: "pid:9", Init: engine.Init{PID: 9, Start: 5}},
		{Engine: "docker", Name: "stopped"},
	})
	for pid, want := range map[int]string{7: "docker:web", 8: "", 9: ""} {
		if got := tree.Find(pid).Container; got != want {
			t.Errorf("%d is called %q, want %q", pid, got, want)
		}
	}
}

// recorder is an engine that has a container, and writes down what it is asked.
type recorder struct {
	name  string
	all   []engine.Container
	asked chan<- string
}

func (r recorder) Name() string { return r.name }

func (r recorder) List(_ context.Context, h *engine.Host) ([]engine.Container, error) {
	r.asked <- fmt.Sprint(r.name, " ", h.Brief())
	return r.all, nil
}

// Names asks for names alone.
func TestNames(t *testing.T) {
	const pid, start = 4000, 7
	asked := make(chan string, 4)
	engines := []engine.Engine{
		recorder{"docker", []engine.Container{{Engine: "docker", Name: "web", Init: engine.Init{PID: pid, Start: start}}}, asked},
		recorder{engine.Bare, []engine.Container{{Engine: engine.Bare, Name: "pid:4000", Init: engine.Init{PID: pid, Start: start}}}, asked},
	}
	for _, full := range []bool{false, true} {
		tree := newTree([]procfs.Task{{PID: 1, NSpid: []int{1}}, {PID: pid, Parent: 1, NSpid: []int{pid, 1}, PIDNS: 9, Start: start}}, false)
		ask := tree.Names
		if full {
			ask = tree.Containers
		}
		all, err := ask(t.Context(), engines)
		want := []string{fmt.Sprint("bare ", !full), fmt.Sprint("docker ", !full)}
		var got []string
		for len(asked) > 0 {
			got = append(got, <-asked)
		}
		slices.Sort(got)
		if name := tree.Find(pid).Container; err != nil || len(all) != 1 || name != "docker:web" || !slices.Equal(got, want) {
			t.Errorf("full %v: %v, %q, asked %q, want %q", full, err, name, got, want)
		}
	}
}

// outlined checks that an outline is the tree, but for the arguments of those inside.
func outlined(t *testing.T, tree *Tree, pids ...int) {
	t.Helper()
	r, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	outline, err := r.Outline(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		p, want := outline.Find(pid), *tree.Find(pid)
		if want.Level() > 0 {
			want.Cmdline = ""
		}
		if p != nil {
			p.State = want.State
		}
		if !reflect.DeepEqual(p, &want) {
			t.Errorf("%+v, want %+v", p, &want)
		}
	}
}

// The kernel's own answer: a container inside of a container, one who was let in,
// a zombie and a stopped process.
func TestSnapshot(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	c := testutil.Throwaway(t, throwaway.Spec{Depth: 2, Workers: [][]string{{"sleep", "infinity"}}})
	visitor := enter(t, c.Pid())
	tree, err := Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	first, inner, guest, self := tree.Find(c.Pid()), tree.Find(c.Leaf().Pid()), tree.Find(visitor), tree.Find(os.Getpid())
	if first == nil || inner == nil || guest == nil || self == nil {
		t.Fatalf("%v %v %v %v", first, inner, guest, self)
	}
	if first.Level() != 1 || first.Inner() != 1 || inner.Level() != 2 || inner.Inner() != 1 || self.Level() != 0 {
		t.Errorf("numbers %v, %v, %v", first.PIDs, inner.PIDs, self.PIDs)
	}
	if guest.Visitor != true || guest.PIDNS != first.PIDNS || guest.Level() != 1 || guest.Inner() == 1 {
		t.Errorf("visitor %+v", guest)
	}
	if first.Visitor || inner.Visitor || first.PIDNS == inner.PIDNS || self.Parent != os.Getppid() || self.UID != 0 {
		t.Errorf("%+v\n%+v\n%+v", first, inner, self)
	}
	if !slices.Equal(self.Args(), os.Args) {
		t.Errorf("arguments %q, want %q", self.Args(), os.Args)
	}
	below := slices.Collect(tree.Children(first))
	if !slices.Contains(below, guest) {
		t.Errorf("%d is not placed below %d", visitor, c.Pid())
	}
	outlined(t, tree, self.PID(), first.PID(), inner.PID())
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Snapshot(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("after the context's end: %v", err)
	}
}

// enter puts a process into the pid namespace of another and returns its number.
func enter(t *testing.T, pid int) int {
	t.Helper()
	cmd := exec.Command("sleep", "infinity")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	inside(t, pid, func() error { return cmd.Start() })
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd.Process.Pid
}

// inside runs f on a thread whose children are born in the pid namespace of a
// process; the thread ends with it.
func inside(t *testing.T, pid int, f func() error) {
	t.Helper()
	done := make(chan error)
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	go func() {
		runtime.LockOSThread() // and never unlocked
		pidfd, err := unix.PidfdOpen(pid, 0)
		if err == nil {
			err = unix.Setns(pidfd, unix.CLONE_NEWPID)
			unix.Close(pidfd)
		}
		if err == nil {
			err = f()
		}
		done <- err
		<-release // Pdeathsig is the thread's
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
