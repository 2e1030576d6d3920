// SPDX-License-Identifier: Apache-2.0

package cve

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/test/cve/rig"
)

// The limits of a container that exhausts them.
const (
	fewPids  = 48
	someMem  = 64 << 20
	nearFull = 3 << 20 // bytes that a hog leaves
)

// inFence is a container in a fence whose files are not in its memory.
func inFence(f *testutil.Fence) throwaway.Spec {
	return throwaway.Spec{Tree: throwaway.TreeHost, Cgroups: f.Dirs}
}

// fenceFile is a file of a fence, of the version of cgroups that the machine
// has for it.
func fenceFile(t *testing.T, f *testutil.Fence, names ...string) string {
	t.Helper()
	for _, dir := range f.Dirs {
		for _, name := range names {
			if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
				return filepath.Join(dir, name)
			}
		}
	}
	t.Fatalf("no %q in %q", names, f.Dirs)
	return ""
}

// TestA31 enters a container at its limit of processes: that is told, and there
// is a way past it.
func TestA31(t *testing.T) {
	begin(t)
	fence := testutil.FencedCgroup(t, fewPids, someMem)
	c := testutil.Throwaway(t, inFence(fence))
	current := strings.TrimSpace(content(fenceFile(t, fence, "pids.current")))
	if err := os.WriteFile(fenceFile(t, fence, "pids.max"), []byte(current), 0); err != nil {
		t.Fatal(err)
	}
	inside := []string{"enter", "-n", fmt.Sprint(c.Pid()), "/bin/true"}
	outside := []string{"enter", "-n", fmt.Sprint(c.Pid()), "--cgroup", "none", "/bin/true"}
	tool := rig.Build(t)
	if r := tool.Run(inside...); r.Code != 125 || !strings.Contains(r.Err, "its pid limit is reached") || !strings.Contains(r.Err, "--cgroup none") {
		t.Errorf("%+v", r)
	}
	if r := tool.Run(outside...); r.Code != 0 {
		t.Errorf("outside of its groups: %+v", r)
	}
	untold := rig.Build(t, rig.Change{File: "explain.go",
		Old: "\tforkexec.StepForkCommand: {\n", New: "\tforkexec.StepNone: {\n"})
	if r := untold.Run(inside...); strings.Contains(r.Err, "its pid limit is reached") {
		t.Errorf("the mutant tells it as well: %+v", r)
	}
	always := rig.Build(t, rig.Change{File: "placement.go", Old: "p.c.Cgroup == CgroupNone", New: "false"})
	if r := always.Run(outside...); r.Code == 0 {
		t.Errorf("the mutant, which is always accounted inside, enters as well: %+v", r)
	}
}

// TestA31Bomb enters a container in which a fork bomb goes off, and one with a
// bomb of its own.
func TestA31Bomb(t *testing.T) {
	begin(t)
	fence := testutil.FencedCgroup(t, fewPids, someMem)
	spec := inFence(fence)
	spec.Args = rig.HostAttack("bomb")
	c := testutil.Throwaway(t, spec)
	full := fenceFile(t, fence, "pids.current")
	rig.Eventually(t, "the bomb does not go off", func() bool {
		n, _ := strconv.Atoi(strings.TrimSpace(content(full)))
		return n >= fewPids/2
	})
	tool := rig.Build(t)
	for range 10 {
		r := tool.Run("enter", "-n", fmt.Sprint(c.Pid()), "/bin/true")
		if r.Hung || r.Code != 0 && (r.Code != 125 || !strings.Contains(r.Err, "its pid limit is reached")) {
			t.Errorf("%+v", r)
		}
		if r := tool.Run("enter", "-n", fmt.Sprint(c.Pid()), "--cgroup", "none", "/bin/true"); r.Code != 0 {
			t.Errorf("outside of its groups: %+v", r)
		}
	}
	if err := c.Close(); err != nil {
		t.Errorf("it cannot be forced off: %v", err)
	}
}

// TestA31Visitor ends a session whose command is a fork bomb.
func TestA31Visitor(t *testing.T) {
	begin(t)
	fence := testutil.FencedCgroup(t, fewPids, someMem)
	spec := inFence(fence)
	if group := rig.Group(t); group != "" {
		spec.Cgroups = append(spec.Cgroups, group)
	}
	c := testutil.Throwaway(t, spec)
	call := append([]string{"enter", "-n", "--timeout", "1s", fmt.Sprint(c.Pid())}, rig.HostAttack("bomb")...)
	if r := rig.Build(t).Run(call...); r.Code != 124 || r.Hung || r.Err != "" {
		t.Errorf("%+v", r)
	}
	if left := rig.Children(c.Pid()); len(left) > 0 {
		t.Errorf("%d processes are left", len(left))
	}
}

// TestA31Memory enters a container that has next to no memory left.
func TestA31Memory(t *testing.T) {
	begin(t)
	fence := testutil.FencedCgroup(t, fewPids, someMem)
	usage := fenceFile(t, fence, "memory.usage_in_bytes", "memory.current")
	b := newBox(t, inFence(fence), rig.HostAttack("hog"))
	for {
		var ok bool
		b.ask(&ok, "more")
		if used, err := strconv.Atoi(strings.TrimSpace(content(usage))); err != nil || used > someMem-nearFull {
			break
		}
	}
	tool := rig.Build(t)
	for range 5 {
		// Whoever is killed for the memory: the joiner, or the command.
		r := tool.Run("enter", "-n", b.pid(), "/bin/true")
		if told := r.Code == 125 && strings.Contains(r.Err, "--cgroup none") || r.Code == 137; r.Hung || r.Code != 0 && !told {
			t.Errorf("%+v", r)
		}
	}
	if r := tool.Run("enter", "-n", b.pid(), "--cgroup", "none", "/bin/true"); r.Code != 0 {
		t.Errorf("outside of its groups: %+v", r)
	}
}

// TestA31Killed enters a container with a command that takes more memory than
// that may have: the limit is the command's as well, unless it stays outside.
func TestA31Killed(t *testing.T) {
	begin(t)
	const little = 16 << 20
	c := testutil.Throwaway(t, inFence(testutil.FencedCgroup(t, fewPids, little)))
	large := []string{"/bin/dd", "if=/dev/zero", "of=/dev/null", "count=1", "bs=64M"}
	tool := rig.Build(t)
	if r := tool.Run(append([]string{"enter", "-n", fmt.Sprint(c.Pid())}, large...)...); r.Code != 128+int(unix.SIGKILL) {
		t.Errorf("%+v", r)
	}
	if r := tool.Run(append([]string{"enter", "-n", fmt.Sprint(c.Pid()), "--cgroup", "none"}, large...)...); r.Code != 0 {
		t.Errorf("outside of its groups: %+v", r)
	}
}

// attackBomb forks for ever, and so does what it forks. Children of a Go program
// that were forked alone can make raw system calls, and no more.
func attackBomb([]string) error {
	runtime.LockOSThread()
	signal.Ignore(unix.SIGCHLD) // the kernel reaps
	pause := unix.Timespec{Nsec: 5_000_000}
	for {
		_, _, _ = unix.RawSyscall(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0)
		_, _, _ = unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&pause)), 0, 0)
	}
}

// attackHog takes another megabyte for each line that it reads.
func attackHog([]string) error {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		_, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_POPULATE)
		if err != nil {
			return errors.Join(errors.New("no more memory"), err)
		}
		fmt.Println(true)
	}
	return lines.Err()
}
