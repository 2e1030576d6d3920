// SPDX-License-Identifier: Apache-2.0

package power

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband"
	"github.com/outband/outband/engine"
	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
)

// patience bounds everything that a test waits for.
const patience = 20 * time.Second

// Scripts of inits, for the host's shell. A shell that is number 1 hears what it
// has a trap for.
const (
	obedient = `trap 'exit 7' TERM; echo > /tmp/ready; while :; do sleep 0.05; done`
	deaf     = `trap '' TERM INT HUP; while :; do sleep 1; done`
	stubborn = `trap ': not now' TERM; while :; do sleep 0.05; done`
)

// shell is a container whose init is a script, with two children.
func shell(script string) throwaway.Spec {
	worker := []string{"/bin/sleep", "1000"}
	return throwaway.Spec{User: true, Tree: throwaway.TreeShared, Args: []string{"/bin/sh", "-c", script}, Workers: [][]string{worker, worker}}
}

// boot starts a container and waits until its init has its traps.
func boot(t *testing.T, script string) (*outband.Target, *throwaway.Container) {
	t.Helper()
	target, c := hold(t, shell(script))
	for until := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		exe, _ := target.Process().Dir.Readlink("exe")
		status, _ := target.Process().Dir.ReadFile("status")
		if strings.Contains(exe, "sh") && strings.Contains(string(status), "SigIgn") && trapped(string(status)) {
			return target, c
		}
		if time.Now().After(until) {
			t.Fatal("its init never gets ready")
		}
	}
}

// trapped tells whether SIGTERM is ignored or caught.
func trapped(status string) bool {
	for line := range strings.Lines(status) {
		name, value, _ := strings.Cut(line, ":")
		var mask uint64
		_, err := fmt.Sscanf(strings.TrimSpace(value), "%x", &mask)
		if (name == "SigIgn" || name == "SigCgt") && err == nil && mask&(1<<(unix.SIGTERM-1)) != 0 {
			return true
		}
	}
	return false
}

// log collects events.
type log struct {
	mu     sync.Mutex
	events []Event
}

func (l *log) add(e Event) { l.mu.Lock(); defer l.mu.Unlock(); l.events = append(l.events, e) }

// taken are the rungs in their order, without Verify.
func (l *log) taken() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var rungs []string
	for _, e := range l.events {
		if r := string(e.Rung); e.Rung != Verify && (len(rungs) == 0 || rungs[len(rungs)-1] != r) {
			rungs = append(rungs, r)
		}
	}
	return strings.Join(rungs, " ")
}

// TestSwitch switches real containers: which rungs it takes, and how their inits
// end.
func TestSwitch(t *testing.T) {
	testutil.NoLeaks(t)
	quick := Options{Grace: 300 * time.Millisecond, Look: -1}
	force := Options{Force: true, Look: -1}
	for _, test := range []struct {
		name, script string
		a            Action
		o            Options
		rungs, exit  string
	}{
		{"obedient", obedient, Off, Options{Look: -1}, "ask", "exit 7"},
		{"obedient", obedient, Halt, Options{Look: -1}, "ask", "exit 7"},
		{"obedient", obedient, Reboot, quick, "ask press", "SIGHUP"},
		{"deaf", deaf, Off, quick, "ask press", "SIGINT"},
		{"deaf", deaf, Kill, quick, "kill", "SIGKILL"},
		{"stubborn", stubborn, Off, quick, "ask press", "SIGINT"},
		{"stubborn", stubborn, Reboot, force, "press", "SIGHUP"},
		{"stubborn", stubborn, Halt, force, "press", "SIGINT"},
	} {
		t.Run(fmt.Sprintf("%s %s %v", test.name, test.a, test.o.Force), func(t *testing.T) {
			target, c := boot(t, test.script)
			reap(t, c)
			var l log
			test.o.Event = l.add
			r, err := New(target, test.o).Do(t.Context(), test.a)
			if err != nil || !r.Done || len(r.Left) > 0 || r.Back != nil {
				t.Errorf("%+v, %v", r, err)
			}
			if got := l.taken(); got != test.rungs {
				t.Errorf("rungs %q, want %q: %v", got, test.rungs, l.events)
			}
			if r.InitExit != test.exit && r.InitExit != "" {
				t.Errorf("init: %q, want %q", r.InitExit, test.exit)
			}
			if members, err := (&machine{t: target}).members(t.Context()); err != nil || len(members) > 0 {
				t.Errorf("left: %v, %v", members, err)
			}
			if _, err := New(target, test.o).Do(t.Context(), test.a); !errors.Is(err, outband.ErrGone) {
				t.Errorf("once more: %v", err)
			}
		})
	}
}

// reap waits for a container as its supervisor does.
func reap(t *testing.T, c *throwaway.Container) {
	done := make(chan struct{})
	go func() { defer close(done); _, _ = c.Wait(context.WithoutCancel(t.Context())) }()
	t.Cleanup(func() {
		_ = c.Signal(unix.SIGKILL)
		<-done
	})
}

// TestStoppedInit: an init that is stopped is asked and woken; by force it is not.
func TestStoppedInit(t *testing.T) {
	testutil.NoLeaks(t)
	for _, force := range []bool{false, true} {
		target, c := boot(t, obedient)
		reap(t, c)
		if err := c.Signal(unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		m := &machine{t: target}
		for until := time.Now().Add(patience); !m.stopped() && time.Now().Before(until); time.Sleep(time.Millisecond) {
		}
		st, err := New(target, Options{}).Status(t.Context())
		if err != nil || !st.Stopped {
			t.Errorf("%+v, %v", st, err)
		}
		var l log
		r, err := New(target, Options{Force: force, Look: -1, Event: l.add}).Off(t.Context())
		if err != nil || !r.Done {
			t.Errorf("%+v, %v", r, err)
		}
		if want := map[bool]string{false: "SIGTERM, SIGCONT", true: "reboot(RB_POWER_OFF)"}[force]; l.events[0].How != want {
			t.Errorf("%v", l.events)
		}
	}
}

// TestGivenUp: what is given up leaves the container running and says where it
// stood, be it by cancelling or by a deadline.
func TestGivenUp(t *testing.T) {
	testutil.NoLeaks(t)
	target, _ := boot(t, stubborn)
	for _, want := range []error{context.Canceled, context.DeadlineExceeded} {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		o := Options{Event: func(e Event) {
			if errors.Is(want, context.Canceled) && e.Rung == Ask {
				time.AfterFunc(50*time.Millisecond, cancel)
			}
		}}
		began := time.Now()
		_, err := New(target, o).Off(ctx)
		cancel()
		var stood *StoodError
		if !errors.As(err, &stood) || stood.Rung != Ask || stood.How != "SIGTERM" || !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
		if took := time.Since(began); took > patience/2 {
			t.Errorf("it took %v", took)
		}
		if err := target.Alive(); err != nil {
			t.Error(err)
		}
	}
}

// TestTwoAdmins: two switch off at once, and a third kills: all report the same
// end, and none an error.
func TestTwoAdmins(t *testing.T) {
	testutil.NoLeaks(t)
	for range 5 {
		target, c := boot(t, stubborn)
		reap(t, c)
		var all sync.WaitGroup
		results := make([]Result, 3)
		errs := make([]error, 3)
		for i, o := range []Options{{Grace: 100 * time.Millisecond}, {Grace: 100 * time.Millisecond}, {Force: true}} {
			o.Look = -1
			all.Go(func() { results[i], errs[i] = New(target, o).Off(t.Context()) })
		}
		all.Wait()
		for i, r := range results {
			if errors.Is(errs[i], outband.ErrGone) { // the others were quicker than its look
				continue
			}
			if errs[i] != nil || !r.Done || r.InitExit != "SIGINT" && r.InitExit != "" && r.InitExit != "SIGKILL or reboot(2)" {
				t.Errorf("%d: %+v, %v", i, r, errs[i])
			}
		}
	}
}

// TestDiesMeanwhile: an init that is killed by somebody else while it is asked has
// ended.
func TestDiesMeanwhile(t *testing.T) {
	testutil.NoLeaks(t)
	target, c := boot(t, stubborn)
	reap(t, c)
	o := Options{Look: -1, Event: func(e Event) {
		if e.Rung == Ask && e.Result == "" {
			time.AfterFunc(20*time.Millisecond, func() { _ = c.Signal(unix.SIGKILL) })
		}
	}}
	r, err := New(target, o).Off(t.Context())
	if err != nil || !r.Done || r.InitExit != "SIGKILL or reboot(2)" && r.InitExit != "" {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestBack: a container that its supervisor starts again is told with its numbers,
// and nothing is done to it.
func TestBack(t *testing.T) {
	testutil.NoLeaks(t)
	target, c := boot(t, obedient)
	next := make(chan *throwaway.Container, 1)
	go func() {
		defer close(next)
		_, _ = c.Wait(context.WithoutCancel(t.Context()))
		if n, err := throwaway.Start(t.Context(), shell(obedient)); err == nil {
			next <- n
		}
	}()
	r, err := New(target, Options{Look: patience, Container: &engine.Container{Engine: engine.Bare}}).Off(t.Context())
	again := <-next
	if again == nil {
		t.Fatal("it was not started again")
	}
	defer again.Close()
	if err != nil || !r.Done || r.Back == nil || r.Back.PIDs[0] != again.Pid() || len(r.Back.PIDs) < 2 || r.Back.By == "" {
		t.Errorf("%+v, back: %+v, %v; the next is %d", r, r.Back, err, again.Pid())
	}
	if _, err := New(target, Options{Look: -1}).Kill(t.Context()); !errors.Is(err, outband.ErrGone) {
		t.Errorf("the old one once more: %v", err)
	}
	time.Sleep(50 * time.Millisecond)
	if ps := []unix.PollFd{{Fd: int32(again.Pidfd().Fd()), Events: unix.POLLIN}}; true {
		if n, _ := unix.Poll(ps, 50); n != 0 {
			t.Error("the next one has ended")
		}
	}
}

// TestNotBack: a container of another's, born meanwhile, is not taken for it, nor
// is one that was there before.
func TestNotBack(t *testing.T) {
	testutil.NoLeaks(t)
	target, c := boot(t, obedient)
	before := testutil.Throwaway(t, throwaway.Spec{User: true})
	reap(t, c)
	r, err := New(target, Options{Look: 300 * time.Millisecond}).Off(t.Context())
	if err != nil || r.Back != nil {
		t.Errorf("%+v, %v; %d was there before", r.Back, err, before.Pid())
	}
}

// TestNotBackOther: what makes containers may make another one meanwhile. Without
// the comparison of command lines that is taken for it.
func TestNotBackOther(t *testing.T) {
	testutil.NoLeaks(t)
	target, c := boot(t, obedient)
	reap(t, c)
	var other *throwaway.Container
	event := func(e Event) {
		if e.Rung == Verify && e.Result == "" && other == nil {
			_, other = boot(t, stubborn)
		}
	}
	r, err := New(target, Options{Look: 300 * time.Millisecond, Event: event}).Off(t.Context())
	if err != nil || r.Back != nil || other == nil {
		t.Errorf("%+v, %v; %v", r.Back, err, other)
	}
}

// TestForkBomb ends one, fenced in.
func TestForkBomb(t *testing.T) {
	testutil.NoLeaks(t)
	testutil.RequireRoot(t)
	fence := testutil.FencedCgroup(t, 200, 256<<20)
	spec := shell(`trap : TERM; b() { while :; do b & done; }; (b) 2>/dev/null & while :; do wait; done`)
	spec.Workers, spec.Cgroups = nil, fence.Dirs
	target, c := hold(t, spec)
	reap(t, c)
	// At its limit the shell's forks fail, and it gives up: a bomb may be over early.
	for until := time.Now().Add(patience / 10); time.Now().Before(until); time.Sleep(time.Millisecond) {
		if members, _ := (&machine{t: target}).members(t.Context()); len(members) > 20 {
			break
		}
	}
	began := time.Now()
	r, err := New(target, Options{Look: -1}).Kill(t.Context())
	if err != nil || !r.Done {
		t.Errorf("%+v, %v", r, err)
	}
	t.Logf("it took %v", time.Since(began))
}

// TestA32Switch: what shares the pid namespace of the caller has no power to
// switch, whatever is asked for; nothing is asked of anybody.
func TestA32Switch(t *testing.T) {
	testutil.NoLeaks(t)
	testutil.RequireRoot(t)
	target, c := hold(t, throwaway.Spec{Namespaces: unix.CLONE_NEWNS | unix.CLONE_NEWUTS, Tree: throwaway.TreeHost})
	var l log
	s := New(target, Options{Force: true, Thaw: true, Event: l.add})
	for _, a := range []Action{Off, Reboot, Halt, Kill, Pause, Resume} {
		if _, err := s.Do(t.Context(), a); !errors.Is(err, outband.ErrOwnNamespace) {
			t.Errorf("%s: %v", a, err)
		}
	}
	if st, err := s.Status(t.Context()); err != nil || len(st.Can) != 0 {
		t.Errorf("%+v, %v", st, err)
	}
	if len(l.events) > 0 {
		t.Errorf("%v", l.events)
	}
	if err := target.Alive(); err != nil {
		t.Error(err, c.Pid(), os.Getpid())
	}
}

// TestInside: nobody is killed one by one where one of them is on the caller's own
// level. (With values alone: a mistake would be the machine's end.)
func TestInside(t *testing.T) {
	in, own := procfs.Task{PID: 7, NSpid: []int{7, 1}}, procfs.Task{PID: 8, NSpid: []int{8}}
	for _, test := range []struct {
		tasks []procfs.Task
		want  error
	}{{nil, nil}, {[]procfs.Task{in, in}, nil}, {[]procfs.Task{in, own}, outband.ErrOwnNamespace}, {[]procfs.Task{{PID: 9}}, outband.ErrOwnNamespace}} {
		if err := inside(test.tasks); !errors.Is(err, test.want) {
			t.Errorf("%v: %v, want %v", test.tasks, err, test.want)
		}
	}
}
