// SPDX-License-Identifier: Apache-2.0

package testutil

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// muteArg is the first argument of a process that becomes mute.
const muteArg = "outband-test-mute"

// muteTime is how long that may take.
const muteTime = 10 * time.Second

// Mute starts a process whose arguments and environment cannot be read: whoever
// tries waits until the test ends. One of its threads has a page read from a file
// system that does not answer, with the lock of its memory held; another waits to
// change that memory, and everybody else waits behind it.
func Mute(t testing.TB) (pid int) {
	t.Helper()
	RequireRoot(t)
	RequireFUSE(t)
	file := filepath.Join(t.TempDir(), "file")
	// Not by package os: it cannot be polled before it is mounted.
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err := errors.Join(err, os.WriteFile(file, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	device := os.NewFile(uintptr(fd), "/dev/fuse")
	cmd := exec.Command("/proc/self/exe", muteArg, file)
	// A signal to the thread that reads would have it begin anew.
	cmd.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1")
	cmd.ExtraFiles = []*os.File{device}
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(errors.Join(err, device.Close()))
	}
	t.Cleanup(func() {
		device.Close() // first: nothing else ends who waits for the file system
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if err := serveMute(fd); err != nil {
		t.Fatal("a file system that does not answer:", err)
	}
	seen := 0
	if !waitFor(muteTime, func() bool {
		if seen++; !waiting(cmd.Process.Pid) { // for a moment any may
			seen = 0
		}
		return seen >= 5
	}) {
		t.Fatal("nobody waits behind the one that reads")
	}
	return cmd.Process.Pid
}

// waiting tells whether a thread of a process waits for a lock of the kernel's.
func waiting(pid int) bool {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	return slices.ContainsFunc(files, func(file string) bool {
		stat, _ := os.ReadFile(file)
		return strings.Contains(string(stat), ") D ")
	})
}

// muteMain is the process, if args say so.
func muteMain(args []string) {
	if len(args) != 3 || args[1] != muteArg {
		return
	}
	const device = 3
	options := fmt.Sprintf("fd=%d,rootmode=100000,user_id=0,group_id=0", device)
	err := unix.Mount("mute", args[2], "fuse", unix.MS_NOSUID|unix.MS_NODEV, options)
	unix.Close(device)
	var st unix.Stat_t
	if err == nil {
		err = unix.Stat(args[2], &st) // the kernel learns its size
	}
	var page []byte
	if err == nil {
		var fd int
		if fd, err = unix.Open(args[2], unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
			page, err = unix.Mmap(fd, 0, os.Getpagesize(), unix.PROT_READ, unix.MAP_PRIVATE)
		}
		if err == nil { // no read ahead: each attempt is one request
			err = unix.Madvise(page, unix.MADV_RANDOM)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "mute:", err)
		os.Exit(1)
	}
	go func() {
		runtime.LockOSThread()
		os.Exit(int(page[0])) // never gets it
	}()
	for { // until the lock is held
		more, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err == nil {
			err = unix.Munmap(more)
		}
		if err != nil {
			os.Exit(1)
		}
		time.Sleep(time.Millisecond)
	}
}

// Requests of FUSE and the sizes of its headers, by <linux/fuse.h>.
const (
	fuseGetattr = 3
	fuseOpen    = 14
	fuseRead    = 15
	fuseInit    = 26
	fuseIn      = 40
	fuseOut     = 16
)

// serveMute is a file system of one file, whose only page fails to be read once.
// The second attempt is made with the lock held: it is not answered, and nothing
// is any more.
func serveMute(device int) error {
	buf := make([]byte, 1<<17) // more than any request without data
	reads := 0
	for end := time.Now().Add(muteTime); time.Now().Before(end); {
		n, err := unix.Read(device, buf)
		switch {
		case err != nil: // there is no request, or it is not mounted yet
			time.Sleep(time.Millisecond)
			continue
		case n < fuseIn:
			return fmt.Errorf("a request of %d bytes", n)
		}
		body, errno := []byte(nil), unix.ENOSYS
		switch binary.NativeEndian.Uint32(buf[4:]) {
		case fuseInit:
			body, errno = make([]byte, 64), 0
			binary.NativeEndian.PutUint32(body, 7)
			binary.NativeEndian.PutUint32(body[4:], 31)
		case fuseGetattr:
			body, errno = make([]byte, 104), 0
			binary.NativeEndian.PutUint64(body[16:], 1)                        // ino
			binary.NativeEndian.PutUint64(body[24:], uint64(os.Getpagesize())) // size
			binary.NativeEndian.PutUint32(body[76:], unix.S_IFREG|0o600)
			binary.NativeEndian.PutUint32(body[80:], 1) // nlink
		case fuseOpen:
			body, errno = make([]byte, 16), 0
		case fuseRead:
			if reads++; reads == 2 {
				return nil
			}
			errno = unix.EIO
		}
		reply := make([]byte, fuseOut, fuseOut+len(body))
		binary.NativeEndian.PutUint32(reply, uint32(fuseOut+len(body)))
		binary.NativeEndian.PutUint32(reply[4:], uint32(-int32(errno)))
		copy(reply[8:16], buf[8:16]) // unique
		if _, err := unix.Write(device, append(reply, body...)); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return errors.New("nobody reads from it")
}
