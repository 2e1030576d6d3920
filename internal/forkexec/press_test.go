// SPDX-License-Identifier: Apache-2.0

package forkexec

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
)

// pressing is a container with a user namespace of its own, and what presses it.
func pressing(t *testing.T) (*throwaway.Container, *Pressing) {
	t.Helper()
	before := takeCensus()
	t.Cleanup(func() { before.check(t) }) // when all else is closed
	need(t, os.Geteuid() == 0, "root")
	c := testutil.Throwaway(t, throwaway.Spec{User: true})
	return c, pressOf(t, c.Pid(), true)
}

// pressOf is what presses the pid namespace of a process.
func pressOf(t *testing.T, pid int, user bool) *Pressing {
	t.Helper()
	open := func(name string) *os.File {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	space := open(fmt.Sprintf("/proc/%d/ns/pid", pid))
	var st unix.Stat_t
	if err := unix.Fstat(int(space.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	r := &Pressing{PIDNS: space, Inode: st.Ino, Proc: open("/proc"), Command: unix.LINUX_REBOOT_CMD_POWER_OFF}
	if user {
		r.UserNS = open(fmt.Sprintf("/proc/%d/ns/user", pid))
	}
	return r
}

// alive tells whether a container's init runs on for a moment.
func alive(c *throwaway.Container) bool {
	ps := []unix.PollFd{{Fd: int32(c.Pidfd().Fd()), Events: unix.POLLIN}}
	n, err := unix.Poll(ps, 50)
	return n == 0 && err == nil
}

// TestPress presses each way; the init's parent sees which.
func TestPress(t *testing.T) {
	for command, want := range map[int]syscall.Signal{
		unix.LINUX_REBOOT_CMD_POWER_OFF: unix.SIGINT, unix.LINUX_REBOOT_CMD_HALT: unix.SIGINT, unix.LINUX_REBOOT_CMD_RESTART: unix.SIGHUP,
	} {
		t.Run(fmt.Sprintf("%#x", command), func(t *testing.T) {
			c, r := pressing(t)
			r.Command = command
			if err := Press(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			state, err := c.Wait(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if w := state.Sys().(syscall.WaitStatus); !w.Signaled() || w.Signal() != want {
				t.Errorf("init: %v, want %v", state, want)
			}
			if err := Press(t.Context(), r); !errors.Is(err, unix.ENOMEM) && !errors.Is(err, unix.EINVAL) {
				t.Errorf("pressed again, when nobody is there: %v", err)
			}
		})
	}
}

// TestPressStopped presses a container whose init is stopped.
func TestPressStopped(t *testing.T) {
	c, r := pressing(t)
	if err := c.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := Press(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if state, err := c.Wait(t.Context()); err != nil || state.Sys().(syscall.WaitStatus).Signal() != unix.SIGINT {
		t.Errorf("init: %v, %v", state, err)
	}
}

// harmless makes a program call nothing where it would call reboot(2): a process
// that lacks the capability, but who knows.
func harmless(p *program) {
	for i := range p.ops {
		if p.ops[i].code == unix.SYS_REBOOT {
			p.ops[i].code, p.ops[i].words = unix.SYS_EXIT_GROUP, [6]word{}
		}
	}
}

// without takes the comparisons of pid namespaces out of a program.
func without(p *program) {
	for i := range p.ops {
		if o := &p.ops[i]; o.step == uint64(StepCompare) && (o.code == opFail || o.code == unix.SYS_IOCTL) {
			*o = pendingOp{code: opAdd, ok: next, err: next}
		}
	}
}

// TestA32Press: the pid namespace of the test itself, of a container inside the
// one that presses, and one that is not the one meant, are refused before
// anything is inside. Without the comparisons they are not.
func TestA32Press(t *testing.T) {
	c, r := pressing(t)
	other := *r
	other.Inode++
	own := pressOf(t, os.Getpid(), false)
	initial := *r // as if it were: its number is looked at
	for name, r := range map[string]*Pressing{"own": own, "another": &other, "initial": &initial} {
		change := harmless
		if name == "initial" {
			change = func(p *program) { harmless(p); asInitial(p, initial.Inode) }
		}
		var failed *Error
		r.alter = change
		if err := Press(t.Context(), r); !errors.As(err, &failed) || failed.Step != StepCompare || !errors.Is(err, unix.EPERM) {
			t.Errorf("%s: %v", name, err)
		}
		r.alter = func(p *program) { change(p); without(p) }
		err := Press(t.Context(), r)
		if name == "own" && errors.As(err, &failed) && failed.Step == StepCapabilities {
			err = nil // stopped by what a test lacks alone
		}
		if err != nil {
			t.Errorf("%s, without the comparison: %v", name, err)
		}
	}
	if !alive(c) {
		t.Error("the container has ended")
	}
}

// asInitial makes a program take the namespace with this number for the initial
// one.
func asInitial(p *program, inode uint64) {
	for i := range p.ops {
		if p.ops[i].code == opSame && p.ops[i].words[1] == num(uint64(initialPIDNS)) {
			p.ops[i].words[1] = num(inode)
		}
	}
}

// TestPressSibling: a namespace that is not below the caller's cannot be joined.
func TestPressSibling(t *testing.T) {
	_, r := pressing(t)
	r.alter = func(p *program) {
		harmless(p)
		for i := range p.ops { // as if the kernel said that there is none above
			if o := &p.ops[i]; o.code == unix.SYS_IOCTL {
				o.code, o.words = opFail, [6]word{num(-int(unix.EPERM))}
			}
		}
	}
	var failed *Error
	if err := Press(t.Context(), r); !errors.As(err, &failed) || failed.Step != StepCompare {
		t.Errorf("with nothing above it: %v", err)
	}
}

// waiting makes a program wait inside where it would call reboot(2).
func waiting(p *program) {
	for i := range p.ops {
		if p.ops[i].code == unix.SYS_REBOOT {
			p.ops[i].code, p.ops[i].words = unix.SYS_PPOLL, [6]word{}
		}
	}
}

// TestPressConfined looks at the process inside: it holds one capability, one
// descriptor, and a filter; and it does not outlast its time, nor the caller's
// interest.
func TestPressConfined(t *testing.T) {
	c, r := pressing(t)
	r.alter = waiting
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- Press(ctx, r) }()
	var inside int
	if !within(func() bool { inside = visitor(c); return inside != 0 }) {
		t.Fatal("nobody came in")
	}
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", inside))
	boot := fmt.Sprintf("%016x", 1<<unix.CAP_SYS_BOOT)
	for name, want := range map[string]string{
		"CapPrm": boot, "CapEff": boot, "CapInh": "0000000000000000", "CapAmb": "0000000000000000", "NoNewPrivs": "1", "Seccomp": "2",
	} {
		if got := field(string(status), name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if n := len(strings.Fields(field(string(status), "NSpid"))); n < 2 {
		t.Errorf("it has %d numbers", n)
	}
	if fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", inside)); err != nil || len(fds) != 1 || fds[0].Name() != strconv.Itoa(pressOut) {
		t.Errorf("it has the descriptors %v, %v", fds, err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	r.Deadline = time.Now().Add(50 * time.Millisecond)
	if err := Press(t.Context(), r); !errors.Is(err, ErrDeadline) {
		t.Errorf("late: %v", err)
	}
	if !within(func() bool { return visitor(c) == 0 }) || !alive(c) {
		t.Error("it stayed inside, or the container ended")
	}
}

// visitor is a process in c that is not its init; 0 where there is none.
func visitor(c *throwaway.Container) int {
	space, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", c.Pid()))
	for _, pid := range allPids() {
		if in, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid)); err == nil && in == space && pid != c.Pid() {
			return pid
		}
	}
	return 0
}

func allPids() (pids []int) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// field is a line of /proc/PID/status.
func field(status, name string) string {
	for line := range strings.Lines(status) {
		if v, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// TestPressFilter has the process inside do something else with its capability:
// the filter kills it. Without the filter it goes on.
func TestPressFilter(t *testing.T) {
	c, r := pressing(t)
	for name, change := range map[string]func(o *pendingOp){
		"getpid":          func(o *pendingOp) { o.code = unix.SYS_GETPID },
		"kexec":           func(o *pendingOp) { o.code, o.words = unix.SYS_KEXEC_LOAD, [6]word{} },
		"another command": func(o *pendingOp) { o.words[2] = num(0x12345) },
		"another magic":   func(o *pendingOp) { o.words[1] = num(0) },
		"signal":          func(o *pendingOp) { o.code, o.words = unix.SYS_PIDFD_SEND_SIGNAL, [6]word{num(pressOut)} },
		"clone": func(o *pendingOp) {
			o.code, o.words = unix.SYS_CLONE, [6]word{num(pressFlags | unix.CLONE_NEWUSER)}
		},
	} {
		r.alter = func(p *program) {
			for i := range p.ops {
				if o := &p.ops[i]; o.code == unix.SYS_REBOOT {
					change(o)
					o.ok = o.err // what was done is told, as a failure
				}
			}
		}
		if err := Press(t.Context(), r); err != nil {
			t.Errorf("%s: it was let through the filter: %v", name, err)
		}
		filtered := r.alter
		r.alter = func(p *program) {
			filtered(p)
			for i := range p.ops {
				if o := &p.ops[i]; o.code == unix.SYS_SECCOMP {
					*o = pendingOp{code: opAdd, ok: next, err: next}
				}
			}
		}
		var failed *Error
		if name == "clone" { // there would be two
			continue
		}
		if err := Press(t.Context(), r); !errors.As(err, &failed) {
			t.Errorf("%s, without a filter: %v", name, err)
		}
	}
	if !alive(c) {
		t.Error("the container has ended")
	}
}

// TestPressFaults fails each step in turn: it is told, and the container runs on.
func TestPressFaults(t *testing.T) {
	c, r := pressing(t)
	for _, s := range []Step{StepHarden, StepSignals, StepCloseFiles, StepHostDirectory, StepLimits, StepJoin, StepCompare,
		StepCapabilities, StepNoNewPrivs, StepFilters, StepForkCommand, StepParentDeath, StepPress} {
		r.Faults = map[Step]unix.Errno{s: unix.E2BIG}
		var failed *Error
		if err := Press(t.Context(), r); !errors.As(err, &failed) || failed.Step != s || !errors.Is(err, unix.E2BIG) {
			t.Errorf("%v: %v", s, err)
		}
	}
	if !alive(c) {
		t.Error("the container has ended")
	}
}
