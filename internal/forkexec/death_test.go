// SPDX-License-Identifier: Apache-2.0

package forkexec

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/sys"
)

// toolVariable tells roleTool what to do, toolOrder in JSON.
const toolVariable = "OUTBAND_TEST_TOOL"

// toolOrder is a session for a tool to start. Its descriptors 3 to 6 are the
// target, the parent of the session's cgroup, the cgroup, and where to report.
type toolOrder struct {
	Line            string
	Group           string // the cgroup's name; "": none
	Modern, Detach  bool
	IgnoreChildren  bool // SIGCHLD is ignored
	ExecuteAnother  bool // after the start (ruling 9)
	StuckOnTheWayIn bool
}

// roleTool is a program that uses the package and is killed meanwhile.
func roleTool() error {
	var order toolOrder
	if err := json.Unmarshal([]byte(os.Getenv(toolVariable)), &order); err != nil {
		return err
	}
	var files [4]*os.File
	for i := range files {
		unix.CloseOnExec(3 + i)
		files[i] = os.NewFile(uintptr(3+i), "")
	}
	if order.IgnoreChildren {
		signal.Ignore(unix.SIGCHLD)
	}
	spec := Spec{
		Paths: []string{"/bin/sh"}, Args: []string{"sh", "-c", order.Line}, Env: []string{"PATH=/usr/bin:/bin"},
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Target: files[0], Join: joined, Detach: order.Detach,
	}
	if order.Group != "" {
		spec.Groups = &GroupTree{Parent: files[1], Dir: files[2], Name: order.Group}
	}
	if order.StuckOnTheWayIn {
		fmt.Fprintln(files[3], "about to start")
		spec.alter = func(p *program) { hanging.at(p.placeOf("joiner") + 20)(p) }
	}
	s, err := start(context.Background(), spec, order.Modern)
	if err != nil {
		return err
	}
	fmt.Fprintln(files[3], "started")
	if order.ExecuteAnother {
		return unix.Exec("/bin/sleep", []string{"sleep", "1000"}, nil)
	}
	status, err := s.Wait()
	if err != nil {
		return err
	}
	os.Exit(status.Code)
	return nil
}

// tool starts a tool and waits for its first report.
func (x *target) tool(order toolOrder, group *GroupTree, stdin, stdout *os.File) (c *exec.Cmd, end func()) {
	x.t.Helper()
	files := []*os.File{x.pidfd, x.null, x.null, nil}
	if group != nil {
		order.Group, files[1], files[2] = group.Name, group.Parent, group.Dir
	}
	text, err := json.Marshal(order)
	if err != nil {
		x.t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		x.t.Fatal(err)
	}
	defer r.Close()
	files[3] = w
	c = roleCommand(x.t, "tool", toolVariable+"="+string(text))
	c.ExtraFiles, c.Stdin, c.Stdout = files, stdin, stdout
	end = startTied(x.t, c)
	w.Close()
	if line, err := bufio.NewReader(r).ReadString('\n'); err != nil {
		end()
		x.t.Fatalf("the tool says %q, %v", line, err)
	}
	return c, end
}

// TestToolKilled finds nothing of a session whose caller was killed.
func TestToolKilled(t *testing.T) {
	each(t, func(t *testing.T, x *target, v variant) {
		for name, order := range map[string]toolOrder{
			"killed":            {},
			"killed on its way": {StuckOnTheWayIn: true},
			"replaced":          {ExecuteAnother: true},
		} {
			before := takeCensus()
			var group *GroupTree
			release := func() {}
			if v.grouped {
				group = newGroup(t, x.groups)
				release = func() { releaseGroup(t, group) }
			}
			order.Line, order.Modern = "sleep 1000 & setsid sleep 1000 & sleep 1000", v.modern
			c, end := x.tool(order, group, x.null, x.null)
			if order.StuckOnTheWayIn {
				eventually(t, "nothing hangs", func() bool { return hangs(c.Process.Pid) })
			}
			if !order.ExecuteAnother {
				end()
			}
			if v.grouped {
				eventually(t, name+": the cgroup is left", func() bool { return !group.exists() })
			}
			x.empty(name)
			end()
			before.adopt(t)
			release()
		}
	})
}

// TestDetached has a session that goes on without its caller.
func TestDetached(t *testing.T) {
	each(t, func(t *testing.T, x *target, v variant) {
		before := takeCensus()
		var group *GroupTree
		if v.grouped {
			group = newGroup(t, x.groups)
			defer releaseGroup(t, group)
		}
		in, toIn, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		fromOut, out, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer fromOut.Close()
		defer toIn.Close()
		_, end := x.tool(toolOrder{Line: "sleep 1000 & while read line; do echo $line; done", Modern: v.modern, Detach: true}, group, in, out)
		in.Close()
		out.Close()
		end()
		replies := bufio.NewReader(fromOut)
		for n := range 20 { // time enough for a warden to end what it should not
			fmt.Fprintln(toIn, n)
			if line, err := replies.ReadString('\n'); err != nil || line != fmt.Sprintln(n) {
				t.Fatalf("no answer %d from a session whose caller was killed: %q, %v", n, line, err)
			}
			time.Sleep(5 * time.Millisecond)
		}
		toIn.Close() // the command ends, and with it the session
		if v.grouped {
			eventually(t, "the cgroup is left", func() bool { return !group.exists() })
		}
		x.empty("the end of the command")
		before.adopt(t)
	})
}

// TestToolIgnoresChildren has a caller for whom wait(2) fails.
func TestToolIgnoresChildren(t *testing.T) {
	x := newTarget(t)
	for _, v := range variants(t) {
		if v.grouped {
			continue
		}
		c, end := x.tool(toolOrder{Line: "exit 11", Modern: v.modern, IgnoreChildren: true}, nil, x.null, x.null)
		eventually(t, "the tool does not end", func() bool { return len(children(c.Process.Pid)) == 0 && x.ended(c) })
		end()
		if code := c.ProcessState.ExitCode(); code != 11 {
			t.Errorf("%s: exit code %d", v, code)
		}
	}
}

// ended tells whether a child of the test is dead, reaped or not.
func (x *target) ended(c *exec.Cmd) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.Process.Pid))
	return err != nil || slices.Contains([]string{"Z", "X"}, stateOf(stat))
}

// TestWardenKilled has the session's owner die: that is told, and the command
// dies with it.
func TestWardenKilled(t *testing.T) {
	each(t, func(t *testing.T, x *target, v variant) {
		before := takeCensus()
		spec, release := x.spec(v.grouped, "exec sleep 1000")
		s, err := start(t.Context(), *spec, v.modern)
		if err != nil {
			t.Fatal(err)
		}
		command, err := unix.FcntlInt(s.Pidfd().Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(command)
		if err := s.warden.Kill(); err != nil {
			t.Error(err)
		}
		if _, err := wait(t, s); !errors.Is(err, ErrWardenLost) {
			t.Errorf("%v", err)
		}
		eventually(t, "the command lives", func() bool {
			return errors.Is(unix.PidfdSendSignal(command, 0, nil, 0), unix.ESRCH) || isZombie(command)
		})
		before.adopt(t)
		x.empty("the death of the warden") // without anybody's help
		if v.grouped && !spec.Groups.exists() {
			t.Error("the cgroup is gone, which nobody is there to remove")
		}
		release()
	})
}

// isZombie tells whether a process is dead and not yet reaped.
func isZombie(pidfd int) bool {
	polls := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	n, _ := unix.Poll(polls, 0)
	return n == 1
}

// TestWardenKilledOnTheWayIn has joiner and shepherd die with it wherever the
// target may make them wait.
func TestWardenKilledOnTheWayIn(t *testing.T) {
	each(t, func(t *testing.T, x *target, v variant) {
		spec, release := x.thoroughSpec(v)
		defer release()
		for i, o := range assemble(spec, nil, nil, nil).ops {
			switch (place{Step(o.step), o.code}) {
			case place{StepCgroup, unix.SYS_WRITE},
				place{StepRoot, unix.SYS_CHROOT},
				place{StepDirectory, unix.SYS_FCHDIR},
				place{StepDirectory, unix.SYS_GETCWD},
				place{StepNone, unix.SYS_OPENAT}, // touchCommand
				place{StepSession, unix.SYS_SETSID}:
				x.killWarden(t, v, i)
			}
		}
	})
}

// place is where in a program an op is.
type place struct {
	step Step
	code int64
}

// killWarden kills the warden of a session that hangs at op i.
func (x *target) killWarden(t *testing.T, v variant, i int) {
	t.Helper()
	before := takeCensus()
	spec, release := x.thoroughSpec(v)
	spec.alter = hanging.at(i)
	done := make(chan error, 1)
	go func() {
		_, err := x.run(spec, v.modern)
		done <- err
	}()
	var warden int
	eventually(t, "nothing hangs", func() bool {
		for _, pid := range children(os.Getpid()) {
			if !slices.Contains(before.children, pid) && hangs(pid) {
				warden = pid
			}
		}
		return warden != 0
	})
	pidfd, err := sys.OpenPid(warden) // nobody but x.run waits for it, when it is dead
	if err != nil {
		t.Fatal(err)
	}
	_ = sys.Signal(pidfd, unix.SIGKILL, false)
	pidfd.Close()
	select {
	case err := <-done:
		if err == nil {
			t.Errorf("op %d: a session began and ended without a warden", i)
		}
	case <-time.After(deadline):
		t.Errorf("op %d: Start does not return", i)
	}
	before.adopt(t)
	x.empty("the death of the warden")
	release()
}

// hangs tells whether a child or grandchild of pid hangs as sabotaged.
func hangs(pid int) bool {
	for _, child := range children(pid) {
		// ppoll(0, 0, 0, 0)
		where, _ := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", child))
		if strings.HasPrefix(string(where), fmt.Sprintf("%d 0x0 0x0 0x0 0x0 ", unix.SYS_PPOLL)) || hangs(child) {
			return true
		}
	}
	return false
}

// TestGroupLock is what tells others that a session has a warden: it holds the
// lock on the cgroup that its caller took, and nobody else does.
func TestGroupLock(t *testing.T) {
	each(t, func(t *testing.T, x *target, v variant) {
		if !v.grouped {
			return
		}
		before := takeCensus()
		spec, release := x.spec(true, "sleep 1000 & sleep 1000")
		if err := unix.Flock(int(spec.Groups.Dir.Fd()), unix.LOCK_EX); err != nil {
			t.Fatal(err)
		}
		s, err := start(t.Context(), *spec, v.modern)
		if err != nil {
			t.Fatal(err)
		}
		mine := spec.Groups.Dir
		spec.Groups.Dir, err = os.Open(fmt.Sprintf("/proc/self/fd/%d", mine.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		mine.Close()
		try := func() error { return unix.Flock(int(spec.Groups.Dir.Fd()), unix.LOCK_EX|unix.LOCK_NB) }
		if err := try(); !errors.Is(err, unix.EWOULDBLOCK) {
			t.Errorf("locking the cgroup of a session: %v", err)
		}
		if err := s.warden.Kill(); err != nil {
			t.Error(err)
		}
		_, _ = wait(t, s)
		// What the command left still runs.
		if err := try(); err != nil {
			t.Errorf("locking the cgroup of a session without a warden: %v", err)
		}
		release()
		before.adopt(t)
	})
}

// TestDeadline has the joiner wait for something that never comes.
func TestDeadline(t *testing.T) {
	each(t, func(t *testing.T, x *target, v variant) {
		full, err := fullPipe()
		if err != nil {
			t.Fatal(err)
		}
		defer full[0].Close()
		defer full[1].Close()
		for _, detach := range []bool{false, true} {
			for name, bound := range map[string]func(*Spec) (context.Context, context.CancelFunc){
				"context": func(*Spec) (context.Context, context.CancelFunc) {
					return context.WithTimeout(context.Background(), 50*time.Millisecond)
				},
				"cancelled": func(*Spec) (context.Context, context.CancelFunc) {
					ctx, cancel := context.WithCancel(context.Background())
					time.AfterFunc(50*time.Millisecond, cancel)
					return ctx, cancel
				},
				"over": func(*Spec) (context.Context, context.CancelFunc) {
					ctx, cancel := context.WithCancel(context.Background())
					cancel()
					return ctx, cancel
				},
				"spec": func(s *Spec) (context.Context, context.CancelFunc) {
					s.Deadline = time.Now().Add(50 * time.Millisecond)
					return context.Background(), func() {}
				},
			} {
				spec, release := x.spec(v.grouped, "exit 0")
				spec.V1, spec.Detach = []*os.File{full[1]}, detach
				ctx, cancel := bound(spec)
				_, err := x.runIn(ctx, spec, v.modern)
				cancel()
				if !errors.Is(err, ErrDeadline) {
					t.Errorf("%s, detach %v: %v", name, detach, err)
				}
				if g := spec.Groups; g != nil && g.exists() {
					t.Errorf("%s, detach %v: the cgroup is left", name, detach)
				}
				release()
			}
		}
	})
}

// fullPipe is a pipe to which a write blocks.
func fullPipe() (p [2]*os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return p, err
	}
	p = [2]*os.File{os.NewFile(uintptr(fds[0]), "r"), os.NewFile(uintptr(fds[1]), "w")}
	size, err := unix.FcntlInt(uintptr(fds[1]), unix.F_GETPIPE_SZ, 0)
	if err == nil {
		_, err = p[1].Write(make([]byte, size))
	}
	return p, err
}
