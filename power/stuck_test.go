// SPDX-License-Identifier: Apache-2.0

package power

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband"
	"github.com/outband/outband/internal/testutil"
)

// What the test binary is as the init of a container, and as its child.
const (
	stuckArg = "outband-test-stuck"
	statArg  = "outband-test-stat"
)

// fuseDevice is the descriptor of /dev/fuse that a stuck init is given.
const fuseDevice = 3

// stuckInit mounts a file system that does not answer and has a child that waits
// for it.
func stuckInit(dir string) int {
	err := unix.Mount("stuck", dir, "fuse", unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fuseDevice))
	unix.Close(fuseDevice)
	if err == nil {
		err = exec.Command("/proc/self/exe", statArg, filepath.Join(dir, "file")).Start()
	}
	fmt.Println(err)
	for {
		time.Sleep(time.Hour)
	}
}

func statFile(name string) int {
	var st unix.Stat_t
	_ = unix.Stat(name, &st)
	return 0
}

// stuck is a container one of whose processes waits in the kernel and cannot be
// killed, until release is called.
func stuck(t *testing.T) (target *outband.Target, release func()) {
	t.Helper()
	testutil.RequireRoot(t)
	testutil.RequireFUSE(t)
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	device := os.NewFile(uintptr(fd), "/dev/fuse")
	cmd := exec.Command("/proc/self/exe", stuckArg, t.TempDir())
	cmd.ExtraFiles = []*os.File{device}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID, Unshareflags: unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(errors.Join(err, device.Close()))
	}
	release = func() { device.Close() }
	t.Cleanup(func() {
		device.Close() // first: nothing else ends who waits for it
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "<nil>\n" {
		t.Fatalf("its init says %q, %v", line, err)
	}
	if err := swallow(fd); err != nil {
		t.Fatal(err)
	}
	if target, err = outband.OpenPID(t.Context(), cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { target.Close() })
	return target, release
}

// swallow answers the first request of a file system and takes the next, so that
// who made it waits whatever happens.
func swallow(device int) error {
	buf := make([]byte, 1<<17)
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if n, err := unix.Read(device, buf); err != nil || n < 40 {
			continue
		}
		const init = 26 // FUSE_INIT
		if binary.NativeEndian.Uint32(buf[4:]) != init {
			return nil
		}
		reply := make([]byte, 16+64) // struct fuse_out_header, struct fuse_init_out of version 7.31
		binary.NativeEndian.PutUint32(reply, uint32(len(reply)))
		copy(reply[8:16], buf[8:16])
		binary.NativeEndian.PutUint32(reply[16:], 7)
		binary.NativeEndian.PutUint32(reply[20:], 31)
		if _, err := unix.Write(device, reply); err != nil {
			return err
		}
	}
	return errors.New("nobody asks the file system")
}

// TestLeft: what would not die is told with what it waits for, within the time
// that there is, and ends when that is over. The init waits for it.
func TestLeft(t *testing.T) {
	testutil.NoLeaks(t)
	target, release := stuck(t)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	r, err := New(target, Options{Look: -1}).Kill(ctx)
	var stood *StoodError
	if !errors.As(err, &stood) || stood.Rung != Slay || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if took := time.Since(began); took > patience/2 {
		t.Errorf("it took %v", took)
	}
	waits := false
	for _, p := range r.Left {
		if p.State == 'D' && len(p.PIDs) == 2 && p.Waits != "" && p.Comm != "" {
			waits = true
		}
	}
	if r.Done || !waits { // its first thread may be gone from the init
		t.Errorf("left: %+v", r.Left)
	}
	time.AfterFunc(100*time.Millisecond, release)
	r, err = New(target, Options{Look: -1}).Kill(t.Context())
	if err != nil || !r.Done || len(r.Left) > 0 {
		t.Errorf("released: %+v, %v", r, err)
	}
}
