// SPDX-License-Identifier: Apache-2.0

package sys_test

import (
	"encoding/binary"
	"os"
	"syscall"
	"testing"
	"unsafe"

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
	status, ok := exitStatus(t, f)
	if ok != sys.ReapsByPidfd() {
		t.Fatalf("the kernel tells the status: %v, ReapsByPidfd says %v", ok, !ok)
	}
	if ok && syscall.WaitStatus(status).Signal() != unix.SIGKILL {
		t.Errorf("status %#x, want SIGKILL", status)
	}
}

// exitStatus asks for the exit status of a process that is reaped.
func exitStatus(t *testing.T, pidfd *os.File) (status uint32, ok bool) {
	t.Helper()
	// PIDFD_GET_INFO for the first version of struct pidfd_info (6.13), of 64
	// bytes: the mask comes first, PIDFD_INFO_EXIT in it; exit_code is the last.
	const getInfo, infoExit, exitCode = 0xc040ff0b, 1 << 3, 60
	info := [64]byte{0: infoExit}
	var errno syscall.Errno
	err := sys.Control(pidfd, func(fd int) {
		_, _, errno = unix.Syscall(unix.SYS_IOCTL, uintptr(fd), getInfo, uintptr(unsafe.Pointer(&info)))
	})
	if err != nil {
		t.Fatal(err)
	}
	return binary.LittleEndian.Uint32(info[exitCode:]), errno == 0 && info[0]&infoExit != 0
}
