// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
)

// Deadline bounds every wait of a test: what takes longer hangs.
const Deadline = 30 * time.Second

// Attackers are what the test binary can be inside a container, by name. One
// that returns an error prints it and ends with exit code 1.
type Attackers map[string]func(args []string) error

const (
	attackArg    = "__attack"
	dirVariable  = "OUTBAND_RIG"    // the directory of builds
	nestVariable = "OUTBAND_NESTED" // the test that runs nested
	nestTimeout  = 3 * Deadline
)

// Attack is the command by which a container with a tree of its own runs an
// attacker.
func Attack(name string, args ...string) []string {
	return append([]string{"/bin/outband", attackArg, name}, args...)
}

// HostAttack is Attack for a process that has the host's files.
func HostAttack(name string, args ...string) []string {
	self, err := os.Executable()
	if err != nil {
		self = "/proc/self/exe"
	}
	return append([]string{self, attackArg, name}, args...)
}

// Main is the whole of a package's TestMain. It does not return.
func Main(m *testing.M, attackers Attackers) {
	throwaway.Main(os.Args)
	if len(os.Args) > 2 && os.Args[1] == attackArg {
		os.Exit(attack(attackers, os.Args[2:]))
	}
	switch {
	case Nested():
		if err := settleIn(); err != nil {
			fmt.Fprintln(os.Stderr, "nested:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	case os.Getenv(dirVariable) != "":
		testutil.Main(m)
	}
	code, err := supervise()
	if err != nil {
		fmt.Fprintln(os.Stderr, "supervise:", err)
		code = 1
	}
	os.Exit(code)
}

func attack(attackers Attackers, args []string) int {
	f := attackers[args[0]]
	if f == nil {
		fmt.Fprintf(os.Stderr, "there is no attacker %q\n", args[0])
		return 1
	}
	if err := f(args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", args[0], err)
		return 1
	}
	return 0
}

// supervise runs the tests in a process of their own, so that somebody is left
// to remove the builds: the test process itself ends in os.Exit.
func supervise() (code int, err error) {
	dir, err := os.MkdirTemp("", "outband-rig-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.Chmod(dir, 0o755); err != nil { // rootless tests execute what is in it
		return 0, err
	}
	cmd := again(os.Args[1:], dirVariable+"="+dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGQUIT)
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s)
		}
	}()
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		return 0, err
	}
	return max(cmd.ProcessState.ExitCode(), 0) | signalled(cmd.ProcessState), nil
}

// signalled is 1 for a process that a signal ended, which has no exit code.
func signalled(s *os.ProcessState) int {
	if s.ExitCode() < 0 {
		return 1
	}
	return 0
}

// again is the test binary once more, with the same files and directory.
func again(args []string, env ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// Nest runs the calling test, which must not be a subtest, once more in a
// process that is number 1 of a pid namespace and has mounts of its own. It
// returns true in the test's outer run, which then has nothing left to do.
//
// It is for tests that give a process's number to another one, change what
// belongs to a pid namespace, or run mutants that leave something behind:
// whatever that is, it ends with the namespace.
func Nest(t *testing.T) (done bool) {
	t.Helper()
	if Nested() {
		return false
	}
	testutil.RequireRoot(t)
	args := []string{"-test.run=^" + t.Name() + "$", "-test.v", "-test.timeout=" + nestTimeout.String()}
	if testing.Short() {
		args = append(args, "-test.short")
	}
	cmd := again(args, nestVariable+"="+t.Name())
	cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWPID | unix.CLONE_NEWNS
	cmd.WaitDelay = time.Second
	hung := time.AfterFunc(nestTimeout+Deadline, func() { _ = cmd.Process.Kill() })
	defer hung.Stop()
	said, err := cmd.CombinedOutput()
	text := string(said)
	switch skip := "--- SKIP: " + t.Name(); {
	case err != nil:
		t.Fatalf("nested: %v\n%s", err, text)
	case strings.Contains(text, skip+" "):
		t.Skipf("nested: %s", text)
	case testing.Verbose():
		t.Log(text)
	}
	return true
}

// Nested tells whether the test runs nested: then what it leaves ends with its
// namespace, and cgroups of other tests look like its own, since it cannot see
// whose they are (testutil.NoLeaks).
func Nested() bool { return os.Getenv(nestVariable) != "" }

// settleIn gives the nested process a /proc that counts as it does.
func settleIn() error {
	if os.Getpid() != 1 {
		return errors.New("not the first process of a pid namespace")
	}
	return errors.Join(
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""))
}
