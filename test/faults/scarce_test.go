// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/test/cve/rig"
)

// stageLimit executes a command under a resource limit: NUMBER VALUE COMMAND ARG...
func stageLimit(args []string) error {
	resource, err := strconv.Atoi(args[0])
	value, verr := strconv.ParseUint(args[1], 10, 64)
	if err := errors.Join(err, verr); err != nil {
		return err
	}
	// Not by x/sys: Go would give back on exec what it has raised at its start.
	if err := syscall.Setrlimit(resource, &syscall.Rlimit{Cur: value, Max: value}); err != nil {
		return err
	}
	return unix.Exec(args[2], args[2:], os.Environ())
}

// TestFewDescriptors calls the tool with ever more descriptors. With few it
// says so, or Go's runtime, which needs three of its own, ends it; with more
// it works. Whatever happens, nothing is left half entered.
func TestFewDescriptors(t *testing.T) {
	begin(t)
	tool, c := rig.Build(t), box(t)
	worked := 0
	for n := 3; n <= 64; n++ {
		stage := rig.HostAttack("limit", fmt.Sprint(unix.RLIMIT_NOFILE), fmt.Sprint(n))
		r := tool.RunCommand(tool.Command(append(stage, tool.Args("enter", fmt.Sprint(c.Pid()), "echo", "in")...)...))
		switch {
		case r.Hung:
			t.Fatalf("%d descriptors: hangs: %.300q", n, r.Err)
		case r.Code == 0 && r.Out == "in\n":
			worked++
		case r.Code == 2 && strings.Contains(r.Err, "fatal error: runtime: ") && n < 10:
			// before main: it has touched nothing
		default:
			if r.Code != codeError || !strings.Contains(r.Err, "too many open files") {
				t.Fatalf("%d descriptors: %+v", n, r)
			}
		}
		rig.Eventually(t, fmt.Sprintf("%d descriptors leave something inside", n), func() bool { return len(inside(c)) == 0 })
	}
	// A record whose end could not be written is the next call's to sweep.
	nothingLeft(t, tool, c)
	if worked == 0 || worked > 55 {
		t.Errorf("%d of 62 worked: the limit does not bite, or never lets go", worked)
	}
}

// nobody is a user that has no processes, and so none beyond its limit.
const nobody = 54_321

// TestFewProcesses calls the tool as a user who may have few processes, for a
// container of that user's own.
func TestFewProcesses(t *testing.T) {
	begin(t)
	prlimit := testutil.RequireCommand(t, "prlimit", "util-linux") // the test binary is not this user's to execute
	tool := rig.Build(t)
	tool.RunDir = filepath.Join("/tmp", fmt.Sprintf("outband-test-%d-run", os.Getpid()))
	if err := errors.Join(os.Mkdir(tool.RunDir, 0o700), os.Chown(tool.RunDir, nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(tool.RunDir) })
	unshare := testutil.RequireCommand(t, "unshare", "util-linux")
	as := func(args ...string) *exec.Cmd {
		cmd := tool.Command(args...)
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
		return cmd
	}
	// Root's containers are not this user's to enter, whatever is mapped inside.
	target := tool.StartCommand(as(unshare, "-Ur", "-pmf", "--mount-proc", "--kill-child", "sleep", "infinity"))
	init := target.Visitor("sleep").PID
	refusals, worked := 0, 0
	for n := 1; n <= 32; n++ {
		stage := []string{prlimit, fmt.Sprintf("--nproc=%d:%d", n, n)}
		r := tool.RunCommand(as(append(stage, tool.Args("enter", "--accept-loss", "seccomp,cgroup,limits", fmt.Sprint(init), "echo", "in")...)...))
		switch {
		case r.Hung:
			t.Fatalf("%d processes: hangs: %.300q", n, r.Err)
		case r.Code == 0 && r.Out == "in\n":
			worked++
		case r.Code == 2 && strings.Contains(r.Err, "runtime"): // no thread: Go gives up
			refusals++
		default:
			refusals++
			if r.Code != codeError || !strings.Contains(r.Err, "temporarily unavailable") {
				t.Fatalf("%d processes: %+v", n, r)
			}
		}
		rig.Eventually(t, fmt.Sprintf("%d processes leave one inside", n), func() bool { return len(insideOf(init)) == 0 })
	}
	if worked == 0 || refusals == 0 {
		t.Errorf("%d worked, %d were refused: the limit does not bite, or never lets go", worked, refusals)
	}
}

// stageTmpfs executes a command in a mount namespace of its own, with a tmpfs
// of 16 KiB at a directory: DIRECTORY KEEP COMMAND ARG... A file of zeros takes
// all of it but KEEP pages.
func stageTmpfs(args []string) error {
	dir, size := args[0], 16<<10
	keep, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	runtime.LockOSThread() // else the mount may be another thread's, which is the host's
	runtime.LockOSThread() // a mount namespace is a thread's: on another one this would mount on the machine
	err = errors.Join(
		unix.Unshare(unix.CLONE_NEWNS),
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", size)),
		os.WriteFile(filepath.Join(dir, "full"), make([]byte, size-keep*os.Getpagesize()), 0o600))
	if err != nil {
		return err
	}
	return unix.Exec(args[2], args[2:], os.Environ())
}

// TestFullDisk has the sessions recorded where nothing can be written any more.
// Root is never let in without a trace.
func TestFullDisk(t *testing.T) {
	begin(t)
	tool, c := rig.Build(t), box(t)
	if err := os.MkdirAll(tool.RunDir, 0o700); err != nil {
		t.Fatal(err)
	}
	for keep, want := range []int{codeError, 0, 0} {
		stage := rig.HostAttack("tmpfs", tool.RunDir, fmt.Sprint(keep))
		r := tool.RunCommand(tool.Command(append(stage, tool.Args("enter", fmt.Sprint(c.Pid()), "echo", "in")...)...))
		if want != 0 {
			refused(t, r, "no space left on device")
		} else if r.Code != 0 || r.Out != "in\n" {
			t.Errorf("%d pages: %+v", keep, r)
		}
		nothingLeft(t, tool, c)
	}
}
