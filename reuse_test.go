// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/sys"
	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
)

// inside runs the test binary as the init of a container and returns what it
// prints.
func inside(t testing.TB, spec throwaway.Spec, args ...string) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	binary := "/bin/outband"
	if spec.Tree != throwaway.TreeOwn {
		binary = "/proc/self/exe"
	}
	spec.Args, spec.Stdout = append([]string{binary}, args...), w
	testutil.Throwaway(t, spec)
	w.Close()
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// A target is held by its pidfd: when it has ended and another process has got
// its number (A19), that one is neither read nor entered nor signalled. The
// test has a pid namespace of its own, in which it may choose numbers.
func TestPidReuse(t *testing.T) {
	testutil.NoLeaks(t)
	both(t, func(t *testing.T) {
		spec := hostFiles()
		spec.User = true
		if out := inside(t, spec, "__reuse"); out != "ok" {
			t.Error(out)
		}
	})
}

func reuseJob([]string) int {
	if err := reuse(); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("ok")
	return 0
}

// container starts a process with namespaces of its own.
func container() (*exec.Cmd, error) {
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWUTS, Pdeathsig: syscall.SIGKILL}
	return cmd, cmd.Start()
}

// containerAs starts one that has a certain number. Threads of this process may
// take it first: then it tries again.
func containerAs(pid int) (*exec.Cmd, error) {
	for range 100 {
		if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(pid-1)), 0); err != nil {
			return nil, err
		}
		cmd, err := container()
		if err != nil || cmd.Process.Pid == pid {
			return cmd, err
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	return nil, fmt.Errorf("number %d is not to be had", pid)
}

func reuse() error {
	victim, err := container()
	if err != nil {
		return err
	}
	pid := victim.Process.Pid
	target, err := OpenPID(context.Background(), pid)
	if err != nil {
		return fmt.Errorf("open the victim: %w", err)
	}
	defer target.Close()
	proc, err := procfs.Open()
	if err != nil {
		return err
	}
	found, err := proc.Hold(pid) // as a lookup does, before anything is read
	if err != nil {
		return err
	}
	pidfd, err := sys.OpenPid(pid)
	if err != nil {
		return err
	}
	_ = victim.Process.Kill()
	_ = victim.Wait()
	decoy, err := containerAs(pid)
	if err != nil {
		return err
	}
	if err := notFooled(target, proc, found, pidfd); err != nil {
		return err
	}
	return untouched(decoy)
}

// notFooled tries everything on what was held of a process that is gone, while
// another one has its number.
func notFooled(target *Target, proc *procfs.FS, found *procfs.Process, pidfd *os.File) error {
	other, err := procfs.Open()
	if err != nil {
		return err
	}
	// The number was given away between the pidfd and the directory: what is
	// read is the decoy's, and looks right.
	dir, err := proc.Process(found.PID)
	if err != nil {
		return err
	}
	torn := &procfs.Process{PID: found.PID, Pidfd: pidfd, Dir: dir}
	if err := (&Target{fs: proc, init: torn}).read(); err != nil {
		return fmt.Errorf("the decoy cannot be read, the test is worth nothing: %w", err)
	}
	if _, err := open("torn", other, torn); !errors.Is(err, ErrGone) {
		return fmt.Errorf("another process's directory: %w, want ErrGone", err)
	}
	if _, err := open("found", proc, found); !errors.Is(err, ErrGone) {
		return fmt.Errorf("found before: %w, want ErrGone", err)
	}
	if err := target.Alive(); !errors.Is(err, ErrGone) {
		return fmt.Errorf("opened before: alive is %w, want ErrGone", err)
	}
	for _, c := range []*Cmd{target.Command("true"), target.Command("/bin/sh", "-c", "kill -9 -1")} {
		if err := c.Start(); !errors.Is(err, ErrGone) {
			return fmt.Errorf("start %q: %w, want ErrGone", c.Args, err)
		}
	}
	if err := target.Signal(unix.SIGKILL); !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal: %w, want ESRCH", err)
	}
	return nil
}

// untouched tells whether the decoy lives, alone in its pid namespace.
func untouched(decoy *exec.Cmd) error {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, decoy.Process.Pid, &info, unix.WEXITED|unix.WSTOPPED|unix.WNOHANG|unix.WNOWAIT, nil)
	if err != nil || info.Signo != 0 {
		return fmt.Errorf("the decoy was touched: %w, signal %d", err, info.Signo)
	}
	target, err := OpenPID(context.Background(), decoy.Process.Pid)
	if err != nil {
		return fmt.Errorf("the decoy itself: %w", err)
	}
	defer target.Close()
	_ = decoy.Process.Kill()
	_ = decoy.Wait()
	return nil
}
