// SPDX-License-Identifier: Apache-2.0

package sys_test

import (
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/sys"
	"github.com/outband/outband/internal/testutil"
)

// What ReapsByPidfd says of the version must be true of the kernel: the status
// of a process that is reaped already can be had, and is the right one.
func TestReapsByPidfd(t *testing.T) {
	testutil.NoLeaks(t)
	cmd, pid := child(t, "echo $$", syscall.SysProcAttr{})
	f := pidfd(t, pid)
	_ = cmd.Process.Kill()
	_, _ = cmd.Process.Wait()
	status, ok := sys.ExitStatus(f)
	if ok != sys.ReapsByPidfd() {
		t.Fatalf("the kernel tells the status: %v, ReapsByPidfd says %v", ok, !ok)
	}
	if ok && status.Signal() != unix.SIGKILL {
		t.Errorf("status %#x, want SIGKILL", status)
	}
}

// One that runs has no status yet.
func TestExitStatusRuns(t *testing.T) {
	testutil.NoLeaks(t)
	cmd, pid := child(t, "echo $$", syscall.SysProcAttr{})
	f := pidfd(t, pid)
	if status, ok := sys.ExitStatus(f); ok {
		t.Errorf("it runs, and has ended with %#x", status)
	}
	_ = cmd.Process.Kill()
	_, _ = cmd.Process.Wait()
}
