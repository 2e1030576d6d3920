// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/sys"
	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/ns"
)

// The patch "allow a task to join a pid namespace" (Glauber Costa, 5 and 6 June
// 2012) named restrictions under which that stays sane. Each has a test here;
// power switch, console and repair, which it was for, are verbs of their own.

// "It needs to be in the parent namespace of the namespace it wants to jump to"
// (EPERM): any descendant, and nothing else.
func TestTargetIsADescendant(t *testing.T) {
	testutil.NoLeaks(t)
	both(t, func(t *testing.T) {
		c := testutil.Throwaway(t, throwaway.Spec{Depth: 3})
		for at := c; ; at = at.Inner[0] {
			target := hold(t, at)
			_, pid := sleeper(t, target, nil)
			if namespacesOf(t, pid) != target.Namespaces() {
				t.Errorf("not in %v", target.PIDs())
			}
			if len(at.Inner) == 0 {
				break
			}
		}
		// From inside: the caller's parent and a sibling, by files that lead there.
		sibling := testutil.Throwaway(t, throwaway.Spec{})
		for what, file := range map[string]string{"parent": "/proc/self/ns/pid", "sibling": fmt.Sprintf("/proc/%d/ns/pid", sibling.Pid())} {
			f, err := os.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if out := inside(t, throwaway.Spec{Stdin: f}, "__own", "/proc/self/fd/0"); !strings.HasPrefix(out, ErrNotDescendant.Error()) {
				t.Errorf("the %s: it says %q", what, out)
			}
		}
	})
}

// "if (is_container_init(current)) return -EINVAL": a container's init enters
// what is below it, and is no target for itself.
func TestCallerIsAnInit(t *testing.T) {
	testutil.NoLeaks(t)
	both(t, func(t *testing.T) {
		for _, self := range []string{"1", "pid:1", "/proc/self/ns/pid", "/proc/self/ns/uts"} {
			if out := inside(t, throwaway.Spec{}, "__own", self); !strings.HasPrefix(out, ErrOwnNamespace.Error()) {
				t.Errorf("%s: it says %q", self, out)
			}
		}
		spec := throwaway.Spec{Inner: []throwaway.Spec{{Name: "job"}}}
		if out := inside(t, spec, "__child", "cat", "/etc/hostname"); out != "job" {
			t.Errorf("its child: it says %q", out)
		}
	})
}

// childJob enters the only container below, once it is there, and runs a
// command in it.
func childJob(args []string) int {
	for until := untilPatience(); time.Now().Before(until); time.Sleep(time.Millisecond) {
		for _, pid := range childrenCalled("init") {
			return enterJob(append([]string{strconv.Itoa(pid)}, args...))
		}
	}
	fmt.Println("no child")
	return 1
}

// childrenCalled are the children of this process that have a name.
func childrenCalled(name string) []int {
	proc, err := procfs.Open()
	if err != nil {
		return nil
	}
	defer proc.Close()
	pids, err := proc.Pids()
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(pids, func(pid int) bool {
		dir, err := proc.Process(pid)
		if err != nil {
			return true
		}
		defer dir.Close()
		status, err := dir.Status()
		return err != nil || status.PPid != os.Getpid() || status.Name != name
	})
}

// "It needs to sit in its own session and group as a leader", and be single
// threaded: what enters is born so.
func TestCommandIsLeaderAndSingleThreaded(t *testing.T) {
	testutil.NoLeaks(t)
	both(t, func(t *testing.T) {
		target := enter(t, hostFiles())
		// The shell itself reads, before it makes any other process.
		fields := strings.Fields(run(t, sh(target, "read -r line </proc/self/stat; echo $line")))
		const pid, group, session, terminal, foreground, threads = 0, 4, 5, 6, 7, 19
		if fields[pid] != fields[group] || fields[pid] != fields[session] || fields[terminal] != "0" || fields[foreground] != "-1" || fields[threads] != "1" {
			t.Errorf("%q", fields)
		}
	})
}

// "newpid = alloc_pid(ns); if (!newpid) return -ENOMEM": why there is none is
// told apart, and is never a lack of memory.
func TestNoPidToBeHad(t *testing.T) {
	testutil.NoLeaks(t)
	fence := testutil.FencedCgroup(t, 200, 256<<20)
	target := enter(t, throwaway.Spec{Cgroups: fence.Dirs})
	file := func(name string) string { return filepath.Join(fence.Dirs[0], name) }
	current, err := os.ReadFile(file("pids.current"))
	if err == nil {
		err = os.WriteFile(file("pids.max"), current, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	err = target.Command("true").Run()
	var step *StepError
	if !errors.As(err, &step) || !errors.Is(err, unix.EAGAIN) || !strings.Contains(err.Error(), "pid limit") || !strings.Contains(Hint(err), "--cgroup none") {
		t.Errorf("at pids.max: %v, hint %q", err, Hint(err))
	}
	c := target.Command("true")
	c.Cgroup = CgroupNone
	if err := c.Run(); err != nil {
		t.Errorf("outside of its cgroup: %v", err)
	}
	if n := others(t, target); n != 0 {
		t.Errorf("%d processes are left", n)
	}
	dying(t)
}

// dying is the other reason: the namespace's first process has ended.
func dying(t *testing.T) {
	t.Helper()
	cmd, err := container()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	target, err := OpenPID(context.Background(), cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	_ = target.Signal(unix.SIGKILL)
	if !sys.Await(untilPatience(), target.init.Pidfd, nil) {
		t.Fatal("init lives on")
	}
	if err := target.Command("true").Run(); !errors.Is(err, ErrGone) || strings.Contains(err.Error(), "memory") {
		t.Errorf("init has ended: %v, want ErrGone", err)
	}
}

// "changing the pid on an existing process … processes sending signals will no
// longer find this process … glibc caching getpid": no task's number changes,
// on any level, and signals find it there.
func TestPidOfATaskStays(t *testing.T) {
	testutil.NoLeaks(t)
	both(t, func(t *testing.T) {
		before := unix.Getpid()
		target := hold(t, testutil.Throwaway(t, throwaway.Spec{Depth: 2, Tree: throwaway.TreeShared}).Leaf())
		// What libc has cached, what the kernel says, and whom a signal reaches.
		script := `trap 'echo found' USR1; read -r kernel rest </proc/self/stat; echo $$ $kernel; kill -USR1 $$; sleep 1000`
		c := sh(target, script)
		r, w := pipePair(t)
		c.Stdout = w
		start(t, c)
		pids := c.Process.PIDs()
		var libc, kernel int
		var found string
		if _, err := fmt.Fscan(r, &libc, &kernel, &found); err != nil || libc != kernel || found != "found" {
			t.Errorf("getpid %d, the kernel %d, %q, %v", libc, kernel, found, err)
		}
		if len(pids) != 3 || pids[2] != libc {
			t.Errorf("numbers %v, inside %d", pids, libc)
		}
		if got := unix.Getpid(); got != before || os.Getpid() != before {
			t.Errorf("the caller was %d and is %d", before, got)
		}
	})
}

// "not handling multithreaded processes": the caller may have any threads, in
// any namespaces, and they stay as they are.
func TestMultiThreadedCallers(t *testing.T) {
	testutil.NoLeaks(t)
	both(t, func(t *testing.T) {
		target := enter(t, throwaway.Spec{Namespaces: unix.CLONE_NEWPID | unix.CLONE_NEWNS, Tree: throwaway.TreeShared})
		own := namespacesOf(t, os.Getpid())
		facts := threadFacts(t)
		var group sync.WaitGroup
		for i := range 9 { // each may take a thread that stays
			group.Go(func() {
				if i%3 == 0 {
					runtime.LockOSThread()
					defer runtime.UnlockOSThread()
				}
				if out, err := target.Command("readlink", "/proc/self/ns/uts").Output(); err != nil || string(out) != fmt.Sprintf("uts:[%d]\n", target.Namespaces()[ns.UTS]) {
					t.Errorf("%q, %v", out, err)
				}
				_ = target.Command("no-such-command").Run()
			})
		}
		group.Wait()
		if got := namespacesOf(t, os.Getpid()); got != own {
			t.Errorf("the caller's namespaces have changed: %v", got.Differ(own))
		}
		after := threadFacts(t)
		for fact := range after {
			if !facts[fact] {
				t.Errorf("a thread has %s", fact)
			}
		}
	})
}

// threadFacts are what the threads of this process have, each once.
func threadFacts(t *testing.T) map[string]bool {
	t.Helper()
	facts := map[string]bool{}
	tasks, err := filepath.Glob("/proc/self/task/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		for _, k := range ns.Kinds() {
			if link, err := os.Readlink(filepath.Join(task, "ns", k.String())); err == nil {
				facts[link] = true
			}
		}
		status, _ := os.ReadFile(filepath.Join(task, "status"))
		for line := range strings.Lines(string(status)) {
			key, _, _ := strings.Cut(line, ":")
			if slices.Contains([]string{"Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Umask", "SigIgn"}, key) {
				facts[line] = true
			}
		}
		for _, file := range []string{"limits", "oom_score_adj", "cgroup"} {
			b, _ := os.ReadFile(filepath.Join(task, file))
			facts[file+" "+string(b)] = true
		}
		for _, link := range []string{"cwd", "root"} {
			to, _ := os.Readlink(filepath.Join(task, link))
			facts[link+" "+to] = true
		}
	}
	return facts
}

// A thread that is itself in other namespaces gets its commands into the
// target's all the same, also into those that the target shares with the rest
// of the process.
func TestThreadInOtherNamespaces(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	target := enter(t, throwaway.Spec{Namespaces: unix.CLONE_NEWPID | unix.CLONE_NEWNS, Tree: throwaway.TreeShared})
	onThreadOfItsOwn(func() {
		if err := unix.Unshare(unix.CLONE_NEWUTS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC); err != nil {
			t.Error(err)
			return
		}
		out, err := target.Command("readlink", "/proc/self/ns/uts", "/proc/self/ns/net", "/proc/self/ns/ipc").Output()
		set := target.Namespaces()
		if want := fmt.Sprintf("uts:[%d]\nnet:[%d]\nipc:[%d]\n", set[ns.UTS], set[ns.Net], set[ns.IPC]); err != nil || string(out) != want {
			t.Errorf("it is in %q, the target in %q, %v", out, want, err)
		}
		// Nor does the process become a target because its threads differ.
		if _, err := OpenPID(context.Background(), os.Getpid()); !errors.Is(err, ErrOwnNamespace) {
			t.Errorf("itself: %v, want ErrOwnNamespace", err)
		}
	})
}

// onThreadOfItsOwn calls f on a thread that ends with it. That is not the main
// thread, which cannot end.
func onThreadOfItsOwn(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			onThreadOfItsOwn(f) // on another one, since this one waits
			runtime.UnlockOSThread()
			return
		}
		f()
	}()
	<-done
}

// "we never have a ghost process in a namespace. You can always see from the
// process tree which processes are in each namespace": a visitor is in the tree
// of both, with its numbers, and nothing outlives its session.
func TestNeverAGhost(t *testing.T) {
	testutil.NoLeaks(t)
	both(t, func(t *testing.T) {
		target := enter(t, hostFiles())
		c := sh(target, "(setsid sh -c 'setsid sleep 1000 & sleep 1000' &); sleep 1000")
		start(t, c)
		await(t, "the command's children", func() bool { return others(t, target) >= 4 })
		pids := c.Process.PIDs()
		seen := run(t, sh(target, "cat /proc/*/stat 2>/dev/null | cut -d' ' -f1"))
		if !slices.Contains(strings.Fields(seen), strconv.Itoa(pids[1])) {
			t.Errorf("inside %d is not among %q", pids[1], seen)
		}
		if !slices.Contains(members(t, target.Namespaces()[ns.PID]), pids[0]) {
			t.Errorf("outside %d is not seen", pids[0])
		}
		_ = c.Process.Signal(unix.SIGKILL)
		_ = c.Wait()
		if n := others(t, target); n != 0 {
			t.Errorf("%d processes have outlived the session", n)
		}
	})
}

// The session ends with the caller, however that ends.
func TestCallerIsKilled(t *testing.T) {
	testutil.RequireRoot(t) // the test binary is in a directory of its own
	testutil.NoLeaks(t)
	target := enter(t, hostFiles())
	caller := exec.Command("/proc/self/exe", "__enter", strconv.Itoa(target.PID()), "/bin/sh", "-c", "setsid sleep 1000 & sleep 1000")
	caller.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := caller.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, "the command", func() bool { return others(t, target) >= 3 })
	_ = caller.Process.Kill()
	_ = caller.Wait()
	await(t, "the end of the session", func() bool { return others(t, target) == 0 })
	// The warden ends as well; an orphan of an orphan is the test's to reap.
	await(t, "the warden's end", func() bool {
		for _, pid := range childrenCalled("outband-warden") {
			_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
		}
		return len(childrenCalled("outband-warden")) == 0
	})
	if err := target.Command("true").Run(); err != nil {
		t.Error(err)
	}
}
