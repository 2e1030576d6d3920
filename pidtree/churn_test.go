// SPDX-License-Identifier: Apache-2.0

package pidtree

import (
	"context"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/testutil"
)

// churn is how many processes come and go while trees are read.
const churn = 10000

// churnTime bounds the test on a slow machine.
const churnTime = 40 * time.Second

// insideEnv says that the test is in a pid namespace with few numbers.
const insideEnv = "OUTBAND_TEST_CHURN"

// few is how many numbers there are, of which those below 300 are given once.
const few = "500"

// TestChurn: of processes that come and go, with orphans among them and in pid
// namespaces of their own, each tree has those that are there all the time, nobody
// without a parent, no circle, and nobody who ended before it was read. It runs in
// a pid namespace that gives each number to somebody else many times (6.14).
func TestChurn(t *testing.T) {
	testutil.RequireRoot(t)
	if os.Getenv(insideEnv) != "" {
		readWhileChurning(t)
		return
	}
	testutil.NoLeaks(t)
	testutil.RequireKernel(t, 6, 14, "numbers that are bounded for a pid namespace")
	unshare := testutil.RequireCommand(t, "unshare", "util-linux")
	machine, err := os.ReadFile("/proc/sys/kernel/pid_max")
	if err != nil {
		t.Fatal(err)
	}
	fence := testutil.FencedCgroup(t, 300, 512<<20)
	// The machine's own bound is never written: a namespace's begins otherwise.
	const script = `read x; [ "$(cat /proc/sys/kernel/pid_max)" != "$1" ] || exit 77; echo "$2" > /proc/sys/kernel/pid_max && shift 2 && exec "$@"`
	cmd := exec.Command(unshare, "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", script, "sh",
		strings.TrimSpace(string(machine)), few, os.Args[0], "-test.run=^TestChurn$", "-test.v")
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(2*churnTime, func() { _ = cmd.Process.Kill() }).Stop()
	if err := fence.Add(cmd.Process.Pid); err == nil {
		_, err = io.WriteString(in, "\n")
	}
	if werr := cmd.Wait(); err != nil || werr != nil {
		t.Fatalf("%v, %v:\n%s", err, werr, out.String())
	}
	t.Log(out.String())
}

// readWhileChurning is the test where numbers are few.
func readWhileChurning(t *testing.T) {
	var steady []int
	for range 4 { // whose parents end before they do; the first of the namespace adopts and reaps them
		steady = append(steady, churner(t, "read x; while :; do ( ( (:); (:); (:) ) & ); done"))
	}
	before, trees := forks(t), 0
	for end := time.Now().Add(churnTime); forks(t)-before < churn && time.Now().Before(end); trees++ {
		dead := exec.Command("true")
		if err := dead.Run(); err != nil {
			t.Fatal(err)
		}
		tree, err := Snapshot(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if p := tree.Find(dead.Process.Pid); p != nil && p.Parent == os.Getpid() {
			t.Errorf("it has ended: %+v", p)
		}
		for _, pid := range append(steady, os.Getpid()) {
			if p := tree.Find(pid); p == nil || pid != os.Getpid() && p.Parent != os.Getpid() {
				t.Fatalf("%d, which is there all the time: %+v", pid, p)
			}
		}
		checkWhole(t, tree)
	}
	t.Log(forks(t)-before, "processes came in", trees, "trees")
	if trees < 10 {
		t.Errorf("only %d trees were read", trees)
	}
}

// churner starts a shell that is the first process of a pid namespace.
func churner(t *testing.T, script string) int {
	t.Helper()
	cmd := exec.Command("sh", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Cloneflags: unix.CLONE_NEWPID}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if _, err := io.WriteString(in, "\n"); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

// forks is how many processes and threads the machine has made.
func forks(t *testing.T) int {
	t.Helper()
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), "\nprocesses ")
	number, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.Atoi(number)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// checkWhole checks that each process has its parent and one place.
func checkWhole(t *testing.T, tree *Tree) {
	t.Helper()
	for i := range tree.Processes {
		p := &tree.Processes[i]
		for at, steps := p, 0; at.Parent != 0; steps++ {
			parent := tree.Find(at.Parent)
			if parent == nil || parent.Start > at.Start || steps > len(tree.Processes) {
				t.Fatalf("after %d steps from %+v: the parent of %+v is %+v", steps, p, at, parent)
			}
			at = parent
		}
	}
	placed := 0
	var walk func(p *Process)
	walk = func(p *Process) {
		if placed++; placed > len(tree.Processes) {
			t.Fatalf("%+v has more than one place", p)
		}
		for child := range tree.Children(p) {
			walk(child)
		}
	}
	for root := range tree.Roots() {
		walk(root)
	}
	if placed != len(tree.Processes) {
		t.Fatalf("%d of %d processes have a place", placed, len(tree.Processes))
	}
}
