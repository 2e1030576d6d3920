// SPDX-License-Identifier: Apache-2.0

package power

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband"
	"github.com/outband/outband/engine"
	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/sys"
	"github.com/outband/outband/ns"
)

// machine is the box that a target is.
type machine struct {
	t *outband.Target
	o Options

	began  uint64      // clock ticks since boot, when the action did
	parent procfs.Task // who the init is a child of: its supervisor
	runs   string      // the init's command line
}

func (m *machine) powered() error { return m.t.Powered() }

// identify tells the init, and remembers who supervises it.
func (m *machine) identify(ctx context.Context) (Init, error) {
	m.began = now()
	init, err := Identify(ctx, m.t)
	if err != nil {
		return Init{}, err
	}
	if c := m.o.Container; c != nil {
		f := fateOf(c)
		init.StopSignal, init.Restarts = c.StopSignal, f.off != "" && f.reboot == ""
	}
	status, err := m.t.Process().Dir.Status()
	if err != nil {
		return Init{}, errors.Join(m.t.Alive(), err)
	}
	if tasks := m.t.Proc().Rescan(ctx, true, status.PPid); len(tasks) == 1 {
		m.parent = tasks[0]
	}
	if tasks := m.t.Proc().Rescan(ctx, false, m.t.PID()); len(tasks) == 1 {
		m.runs = tasks[0].Cmdline
	}
	return init, nil
}

// stopped tells whether the init is stopped by a signal, so that it hears nothing
// else than SIGCONT and SIGKILL.
func (m *machine) stopped() bool {
	status, err := m.t.Process().Dir.Status()
	return err == nil && status.State == 'T'
}

func (m *machine) wake() error { return m.t.Signal(unix.SIGCONT) }

func (m *machine) say(ctx context.Context, w Word) error { return w.speak(ctx, m.t) }

func (m *machine) press(ctx context.Context, b outband.Button) error { return m.t.Press(ctx, b) }

// slay kills the init. The kernel ends all that is in its pid namespace, first
// forbidding that anything is forked there: so fork bombs end, and nobody outside
// is touched, whatever cgroup they are in (A31, docs/threat-model.md).
func (m *machine) slay() error { return m.t.Signal(unix.SIGKILL) }

// slayEach kills each process of the pid namespace, through a pidfd (A19).
func (m *machine) slayEach(ctx context.Context) (int, error) {
	members, err := m.members(ctx)
	if err == nil {
		err = inside(members)
	}
	if err != nil {
		return 0, err
	}
	n := 0
	for _, t := range members {
		p, err := m.t.Proc().Hold(t.PID)
		if err != nil {
			continue // gone
		}
		// Its number may have been given away before it was held.
		if set, err := ns.Of(p.Dir.File()); err == nil && uint64(set[ns.PID]) == t.PIDNS && sys.Signal(p.Pidfd, unix.SIGKILL, false) == nil {
			n++
		}
		p.Close()
	}
	return n, nil
}

// inside returns nil where all are on a level below the caller's own.
//
// A32 (docs/threat-model.md): whoever has but one number is on that level, and
// may be anybody. It is looked at once more, since so many would be killed.
func inside(tasks []procfs.Task) error {
	for _, t := range tasks {
		if len(t.NSpid) < 2 {
			return fmt.Errorf("%w: process %d", outband.ErrOwnNamespace, t.PID)
		}
	}
	return nil
}

// members are the processes of the target's pid namespace and of those below it.
// Its init, once it has ended, is none.
func (m *machine) members(ctx context.Context) ([]procfs.Task, error) {
	tasks, err := m.t.Proc().Outline(ctx)
	if err != nil {
		return nil, err
	}
	space, level := m.t.Namespaces()[ns.PID], len(m.t.PIDs())
	below := map[uint64]bool{uint64(space): true}
	var found []procfs.Task
	for _, t := range tasks {
		in, known := below[t.PIDNS]
		if !known && len(t.NSpid) > level {
			in, _ = m.descends(t.PID, space)
			below[t.PIDNS] = in
		}
		if in && t.State != 'Z' && t.State != 'X' {
			found = append(found, t)
		}
	}
	return found, nil
}

// descends tells whether a process is in a pid namespace or one below it.
func (m *machine) descends(pid int, space ns.ID) (in bool, err error) {
	dir, err := m.t.Proc().Process(pid)
	if err != nil {
		return false, err
	}
	defer dir.Close()
	f, err := ns.OpenOf(dir.File(), ns.PID)
	if err != nil {
		return false, err
	}
	defer f.Close()
	return f.DescendsFrom(space)
}

// isMember tells whether a process is one of the target's, or gone.
func (m *machine) isMember(pid int) bool {
	in, err := m.descends(pid, m.t.Namespaces()[ns.PID])
	return in || errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH)
}

// await waits until the init has ended: its pidfd says so at once. Then the
// kernel has ended all of its pid namespace (pidfd_open(2), pid_namespaces(7)).
func (m *machine) await(ctx context.Context, d time.Duration) bool {
	r, w, err := sys.Pipe()
	if err != nil {
		return m.t.Alive() != nil
	}
	defer r.Close()
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { w.Close(); close(closed) })
	// Not until ctx's deadline: when that has come, ctx has to say so as well, or
	// the next rung would be taken.
	sys.Await(time.Now().Add(d), m.t.Process().Pidfd, r)
	if stop() {
		w.Close()
	} else {
		<-closed
	}
	return m.t.Alive() != nil
}

// reapTime is how long it is waited for the init's status, which the kernel tells
// when its parent has reaped it.
const reapTime = 5 * time.Millisecond

// exit tells how the init ended, as whoever supervises it is told, as far as that
// can be known: see describeExit.
func (m *machine) exit(by end) string {
	for until := time.Now().Add(reapTime); ; time.Sleep(time.Millisecond / 4) {
		status, ok := sys.ExitStatus(m.t.Process().Pidfd)
		if ok {
			return describeExit(status, by)
		}
		if time.Now().After(until) {
			return ""
		}
	}
}

// end is what was done to an init that has ended.
type end struct {
	pressed outband.Button // "" for none
	killed  bool           // it was given SIGKILL, besides
}

// describeExit is a status for people. After reboot(2) in its pid namespace the
// kernel tells an init's parent SIGINT or SIGHUP, and all others what the process
// itself has died of: SIGKILL. Which it was is known where it was pressed; where
// the init was only asked, it or one of its own has called reboot(2), or somebody
// else has killed it.
func describeExit(status unix.WaitStatus, by end) string {
	if !status.Signaled() {
		return fmt.Sprintf("exit %d", status.ExitStatus())
	}
	switch sig := status.Signal(); {
	case sig != unix.SIGKILL, by.pressed == "" && by.killed:
		return unix.SignalName(sig)
	case by.pressed == outband.Restart:
		return unix.SignalName(unix.SIGHUP)
	case by.pressed != "":
		return unix.SignalName(unix.SIGINT)
	}
	return "SIGKILL or reboot(2)"
}

// left are the processes that are still there, and what they wait for.
func (m *machine) left(ctx context.Context) ([]Process, error) {
	members, err := m.members(context.WithoutCancel(ctx))
	var left []Process
	for _, t := range members {
		p := Process{PIDs: t.NSpid, Comm: t.Comm, State: t.State}
		if dir, err := m.t.Proc().Process(t.PID); err == nil {
			if b, err := dir.ReadHead("wchan", 64); err == nil && string(b) != "0" {
				p.Waits = string(b)
			}
			dir.Close()
		}
		left = append(left, p)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return left, err
}

// byEngine tells whether the engine's own list says who is back.
func (m *machine) byEngine() bool {
	return m.o.Container != nil && m.o.Container.Engine != engine.Bare
}

// now is the time in clock ticks since boot, as processes' start times are.
func now() uint64 {
	up, err := procfs.Uptime()
	if err != nil {
		return 0
	}
	return uint64(up / procfs.Tick)
}
