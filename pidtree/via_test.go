// SPDX-License-Identifier: Apache-2.0

package pidtree

import (
	"context"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
)

// What let a visitor in is told by its parent, its cgroup and its record; what is
// below it came with it.
func TestExplain(t *testing.T) {
	for _, test := range []struct {
		name, exe, container, group string
		comm                        string
		session                     []int
		want                        map[int]string
	}{
		{name: "nothing is known", want: map[int]string{30: "", 31: "", 35: "", 32: ""}},
		{name: "nsenter", exe: "nsenter", want: map[int]string{30: "nsenter", 31: "nsenter", 32: ""}},
		{name: "docker", exe: "containerd-shim-runc-v2", container: "docker:web", want: map[int]string{30: "docker exec", 31: "docker exec"}},
		{name: "a user's podman", exe: "conmon", container: "podman@joe:web", want: map[int]string{30: "podman exec"}},
		{name: "a pod", exe: "containerd-shim-runc-v2", container: "pod:a/b/c", want: map[int]string{30: "containerd exec"}},
		{name: "runc by hand", exe: "runc", container: "docker:web", want: map[int]string{30: "runc exec"}},
		{name: "a name alone", exe: "sh", comm: "crun", want: map[int]string{30: ""}},
		{name: "a program without a path", exe: "/", comm: "crun", want: map[int]string{30: "crun exec", 31: "crun exec"}},
		{name: "a session's cgroup", exe: "nsenter", group: "/web/outband-0123456789/x", want: map[int]string{30: "outband", 31: "outband", 35: "outband"}},
		{name: "a record", exe: "sh", session: []int{30, 5}, want: map[int]string{30: "outband", 31: "outband", 35: ""}},
		{name: "another's record", exe: "sh", session: []int{30, 6}, want: map[int]string{30: "", 31: ""}},
		{name: "no name of a launcher", exe: "nsenter\x1b", want: map[int]string{30: ""}},
	} {
		tree := newTree(shape(), false)
		tree.Find(20).Container, tree.Find(10).Comm = test.container, test.comm
		tree.explain([][]int{test.session}, func(pid int) string {
			if pid != 10 && pid != 1 && pid != 30 && pid != 21 && pid != 92 {
				t.Errorf("%s: what %d executes is asked for", test.name, pid)
			}
			if pid == 10 {
				return test.exe
			}
			return ""
		}, func(int) []procfs.Group { return []procfs.Group{{Path: test.group}} })
		for pid, want := range test.want {
			if got := tree.Find(pid).Via; got != want {
				t.Errorf("%s: %d came in by %q, want %q", test.name, pid, got, want)
			}
		}
		for _, pid := range []int{1, 10, 20, 21, 70} {
			if got := tree.Find(pid).Via; got != "" {
				t.Errorf("%s: %d came in by %q", test.name, pid, got)
			}
		}
	}
}

// A container in the pid namespace of another was not let in by an exec.
func TestExplainShared(t *testing.T) {
	tree := newTree(shape(), false)
	tree.Find(30).Container = "docker:other"
	tree.explain(nil, func(int) string { return "containerd-shim" }, func(int) []procfs.Group { return nil })
	if got := tree.Find(30).Via; got != "docker" {
		t.Errorf("%q", got)
	}
	if got := tree.Find(31).Via; got != "docker" {
		t.Errorf("its child: %q", got)
	}
}

// The kernel's own answer for nsenter, and when that has died.
func TestExplainNsenter(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	nsenter := testutil.RequireCommand(t, "nsenter", "util-linux")
	c := testutil.Throwaway(t, throwaway.Spec{})
	cmd := exec.Command(nsenter, "-t", strconv.Itoa(c.Pid()), "-p", "sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	guest := func() *Process {
		tree, err := Snapshot(context.Background())
		if err == nil {
			err = tree.Explain(func() [][]int { return nil })
		}
		if err != nil {
			t.Fatal(err)
		}
		for p := range tree.Children(tree.Find(c.Pid())) {
			if p.Comm == "sleep" {
				return p
			}
		}
		return nil
	}
	var p *Process
	for end := time.Now().Add(10 * time.Second); (p == nil || p.Via == "") && time.Now().Before(end); time.Sleep(time.Millisecond) {
		p = guest()
	}
	if p == nil || !p.Visitor || p.Via != "nsenter" {
		t.Fatalf("%+v", p)
	}
	sleep, err := os.FindProcess(p.PID())
	if err != nil {
		t.Fatal(err)
	}
	// It is reaped here where the test's processes are adopted by the test.
	t.Cleanup(func() { _ = sleep.Kill(); _, _ = sleep.Wait() })
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if p = guest(); p == nil || !p.Visitor || p.Via != "" {
		t.Errorf("when nsenter has died: %+v", p)
	}
}
