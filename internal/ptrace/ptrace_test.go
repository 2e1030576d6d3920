// SPDX-License-Identifier: Apache-2.0

package ptrace

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/sys"
	"github.com/outband/outband/internal/testutil"
)

// roleVariable makes the test binary be something else than a test.
const roleVariable = "OUTBAND_TEST_ROLE"

func TestMain(m *testing.M) {
	roles := map[string]func() error{"filtered": filtered, "reader": reader}
	if role := roles[os.Getenv(roleVariable)]; role != nil {
		if err := role(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	testutil.Main(m)
}

// patience bounds every wait.
const patience = 20 * time.Second

func untilPatience() time.Time { return time.Now().Add(patience) }

// chain is what a tracee of a test runs under: two filters that refuse some
// call nobody makes, the second with SECCOMP_FILTER_FLAG_LOG.
func chain() []Filter {
	return []Filter{{refuse(unix.SYS_ACCT), 0}, {refuse(unix.SYS_SWAPON, unix.SYS_SWAPOFF), unix.SECCOMP_FILTER_FLAG_LOG}}
}

// instruction is a struct sock_filter.
func instruction(code uint16, jt, jf byte, k uint32) []byte {
	return []byte{byte(code), byte(code >> 8), jt, jf, byte(k), byte(k >> 8), byte(k >> 16), byte(k >> 24)}
}

// refuse is a filter under which calls fail with EPERM.
func refuse(calls ...int) []byte {
	program := instruction(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, 0, 0, 0)
	for _, nr := range calls {
		program = append(program, instruction(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, 0, 1, uint32(nr))...)
		program = append(program, instruction(unix.BPF_RET|unix.BPF_K, 0, 0, unix.SECCOMP_RET_ERRNO|uint32(unix.EPERM))...)
	}
	return append(program, instruction(unix.BPF_RET|unix.BPF_K, 0, 0, unix.SECCOMP_RET_ALLOW)...)
}

// filtered is a process under the chain, which echoes its input.
func filtered() error {
	for _, f := range chain() {
		if err := setFilter(f); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	_, err := io.Copy(os.Stdout, os.Stdin)
	return err
}

// reader reads the filters of its parent's choice and says how that went.
func reader() error {
	var p Tracee
	if _, err := fmt.Sscan(os.Getenv("TRACEE"), &p.PID); err != nil {
		return err
	}
	var err error
	if p.Pidfd, err = sys.OpenPid(p.PID); err != nil {
		return err
	}
	if p.Dir, err = os.Open(fmt.Sprintf("/proc/%d", p.PID)); err != nil {
		return err
	}
	_, err = Filters(p, len(chain()), untilPatience())
	return err
}

// role starts the test binary in a role.
func role(t *testing.T, name string, env ...string) *exec.Cmd {
	t.Helper()
	c := exec.Command("/proc/self/exe")
	c.Env = append(env, roleVariable+"="+name)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return c
}

// tracee is a process under the chain, and a way to ask whether it runs.
func tracee(t *testing.T) (p Tracee, answers func() bool, end func()) {
	t.Helper()
	c := role(t, "filtered")
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	end = func() {
		once.Do(func() {
			_ = c.Process.Kill()
			in.Close()
			_ = c.Wait()
		})
	}
	t.Cleanup(end)
	lines := bufio.NewReader(out)
	hear := func() string { line, _ := lines.ReadString('\n'); return line }
	if line := hear(); line != "ready\n" {
		t.Fatalf("the tracee says %q", line)
	}
	p.PID = c.Process.Pid
	if p.Pidfd, err = sys.OpenPid(p.PID); err != nil {
		t.Fatal(err)
	}
	if p.Dir, err = os.Open(fmt.Sprintf("/proc/%d", p.PID)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Pidfd.Close(); p.Dir.Close() })
	return p, func() bool { fmt.Fprintln(in, "on"); return hear() == "on\n" }, end
}

// traced tells whether the process has a tracer.
func (p Tracee) traced() bool { return !p.shows("TracerPid", 0) }

// same compares chains.
func same(a, b []Filter) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !bytes.Equal(a[i].Program, b[i].Program) || a[i].Flags != b[i].Flags {
			return false
		}
	}
	return true
}

func TestFilters(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	p, answers, _ := tracee(t)
	for range 20 {
		got, err := Filters(p, len(chain()), untilPatience())
		if err != nil || !same(got, chain()) {
			t.Fatalf("%v, %v", got, err)
		}
		if !answers() || p.traced() {
			t.Fatal("it does not go on")
		}
	}
	for _, count := range []int{0, 1, 3} {
		if _, err := Filters(p, count, untilPatience()); !errors.Is(err, ErrChanged) {
			t.Errorf("%d filters expected: %v", count, err)
		}
	}
	if !answers() || p.traced() {
		t.Error("it does not go on")
	}
}

// Many read at once: one after the other has its turn.
func TestFiltersAtOnce(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	p, answers, _ := tracee(t)
	var all sync.WaitGroup
	for range 12 {
		all.Go(func() {
			if got, err := Filters(p, len(chain()), untilPatience()); err != nil || !same(got, chain()) {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
	all.Wait()
	if !answers() || p.traced() {
		t.Error("it does not go on")
	}
}

// A process that a debugger has is not to be had.
func TestFiltersTraced(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	p, answers, _ := tracee(t)
	let := make(chan struct{})
	debugger := func() error { return unix.PtraceSeize(p.PID) }
	if err := onThread(debugger, let); err != nil {
		t.Fatal(err)
	}
	if _, err := Filters(p, len(chain()), time.Now().Add(20*time.Millisecond)); !errors.Is(err, ErrTraced) {
		t.Errorf("%v", err)
	}
	close(let)
	if !answers() {
		t.Error("it does not go on")
	}
}

// A19: a number that is another process's by now is let go of untouched.
func TestFiltersGone(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	dead, _, end := tracee(t)
	innocent, answers, _ := tracee(t)
	end()
	if _, err := Filters(dead, len(chain()), untilPatience()); !errors.Is(err, unix.ESRCH) {
		t.Errorf("%v", err)
	}
	dead.PID, dead.Dir = innocent.PID, innocent.Dir
	if got, err := Filters(dead, len(chain()), untilPatience()); !errors.Is(err, unix.ESRCH) {
		t.Errorf("%v, %v: read of an innocent one", got, err)
	}
	if !answers() || innocent.traced() {
		t.Error("the innocent one does not go on")
	}
}

// Without privilege it is refused by the kernel, and nothing is left traced.
func TestFiltersUnprivileged(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	p, answers, _ := tracee(t)
	c := role(t, "reader", fmt.Sprintf("TRACEE=%d", p.PID))
	c.SysProcAttr.Credential = &syscall.Credential{Uid: 61234, Gid: 61234}
	out, err := c.CombinedOutput()
	if err == nil || !strings.Contains(string(out), unix.EPERM.Error()) {
		t.Errorf("%v, %s", err, out)
	}
	if !answers() || p.traced() {
		t.Error("it does not go on")
	}
}
