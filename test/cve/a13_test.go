// SPDX-License-Identifier: Apache-2.0

package cve

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/test/cve/rig"
)

// A trap is something in the place of a container's passwd.
type trap struct {
	make func(path string) error
	told string // what is said of it
	lost string // what a mutant says of it, which opens whatever it finds
}

const hostUser = "trapped:x:7:7::/:/bin/sh\n"

// traps are all that a reader must not fall into. canary is a file of the
// host's, which knows a user that the container does not have.
func traps(canary string) map[string]trap {
	link := func(to string) func(string) error { return func(p string) error { return os.Symlink(to, p) } }
	pipe := func(p string) error { return unix.Mkfifo(p, 0o666) }
	return map[string]trap{
		"pipe": {pipe, "not a regular file", "not responding"},
		"link to a pipe": {func(p string) error { return errors.Join(pipe(p+"-"), os.Symlink("passwd-", p)) },
			"not a regular file", "not responding"},
		"endless device":           {link("/dev/zero"), "not a regular file", "not smaller than"},
		"socket":                   {socket, "not a regular file", ""},
		"10 GiB":                   {func(p string) error { return errors.Join(os.WriteFile(p, nil, 0o644), os.Truncate(p, 10<<30)) }, "not smaller than", ""},
		"link to the host":         {link("/proc/1/root" + canary), "too many levels of symbolic links", ""},
		"link out of the root":     {link(canary), "not in its /etc/passwd", "uid=7"},
		"link upwards":             {link("../../../../../.." + canary), "not in its /etc/passwd", ""}, // stays at the root of the mounts anyway
		"directory":                {func(p string) error { return os.Mkdir(p, 0o755) }, "not a regular file", "is a directory"},
		"nothing":                  {func(string) error { return nil }, "not in its /etc/passwd", ""},
		"link to what is not read": {link("/dev/full"), "not a regular file", "not smaller than"},
	}
}

func socket(path string) error {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false)
	return l.Close()
}

// TestA13 names a user of containers whose passwd is anything but a file of
// theirs.
func TestA13(t *testing.T) {
	begin(t)
	canary := filepath.Join(t.TempDir(), "passwd") // of the host
	if err := os.WriteFile(canary, []byte(hostUser), 0o644); err != nil {
		t.Fatal(err)
	}
	const file = "internal/forkexec/reader.go"
	tool := rig.Build(t)
	mutant := rig.Build(t, rig.Change{File: file, Old: "num(unix.O_RDONLY|unix.O_NONBLOCK|", New: "num(unix.O_RDONLY|"},
		rig.Change{File: file, Old: "b.ifSame(mode.value(), num(uint64(unix.S_IFREG)<<32), regular)", New: "b.jump(regular)"},
		rig.Change{File: file, Old: "b.call(StepRead, unix.SYS_OPENAT2, num(readRoot), b.text(path), how, num(24))",
			New: `b.call(StepRead, unix.SYS_OPENAT, num(readRoot), b.text(path[1:]), num(unix.O_PATH|unix.O_CLOEXEC), num(0))`})
	for name, test := range traps(canary) {
		t.Run(name, func(t *testing.T) {
			c := testutil.Throwaway(t, throwaway.Spec{})
			passwd := rootPath(c.Pid(), "/etc/passwd")
			if err := errors.Join(os.Remove(passwd), test.make(passwd)); err != nil {
				t.Fatal(err)
			}
			s := tool.In(t).Start("enter", fmt.Sprint(c.Pid()), "-u", "trapped", "id")
			r := s.Wait()
			if r.Code != 125 || r.Out != "" || !strings.Contains(r.Err, test.told) {
				t.Errorf("%+v", r)
			}
			const most = 64 << 10 // KiB
			if used := s.ProcessState.SysUsage().(*syscall.Rusage).Maxrss; used > most {
				t.Errorf("%d KiB", used)
			}
			if r := tool.In(t).Run("enter", fmt.Sprint(c.Pid()), "-u", "7:8", "id"); r.Code != 0 || r.Out != "uid=7 gid=8 groups=\n" {
				t.Errorf("by numbers alone: %+v", r)
			}
			if r := mutant.In(t).Run("enter", fmt.Sprint(c.Pid()), "-u", "trapped", "id"); !strings.Contains(r.Out+r.Err, test.lost) {
				t.Errorf("the mutant keeps out of it as well: %+v", r)
			}
		})
	}
}

// attackDeadfs puts a file system that takes requests and answers none in the
// place of a directory. Not even SIGKILL ends who waits for it.
func attackDeadfs(args []string) error {
	const device = "/dev/fuse"
	if err := unix.Mknod(device, unix.S_IFCHR|0o666, int(unix.Mkdev(10, 229))); err != nil {
		return err
	}
	f, err := os.OpenFile(device, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", f.Fd())
	if err := unix.Mount("dead", args[0], "fuse", 0, options); err != nil {
		return err
	}
	go swallow(f)
	fmt.Println("ready")
	return stay()
}

// swallow answers the first request of a FUSE connection, which no other comes
// before, and takes the rest.
func swallow(f *os.File) {
	buf := make([]byte, 1<<17)
	for first := true; ; first = false {
		if _, err := unix.Read(int(f.Fd()), buf); err != nil {
			return
		}
		if !first {
			continue
		}
		reply := make([]byte, 16+64) // struct fuse_out_header, struct fuse_init_out: version 7.31
		binary.LittleEndian.PutUint32(reply, uint32(len(reply)))
		copy(reply[8:16], buf[8:16])
		binary.LittleEndian.PutUint32(reply[16:], 7)
		binary.LittleEndian.PutUint32(reply[20:], 31)
		_, _ = unix.Write(int(f.Fd()), reply)
	}
}

// TestA13DeadNull enters a container whose /dev does not answer, with streams
// that are the null device: an error in time, and nothing at all with streams
// that are not.
func TestA13DeadNull(t *testing.T) {
	begin(t)
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skipf("skipped: needs FUSE: %v", err)
	}
	b := newBox(t, throwaway.Spec{}, rig.Attack("deadfs", "/dev"))
	if said, ok := b.hear(); !ok || said != "ready" {
		t.Fatalf("%q", said)
	}
	tool := rig.Build(t)
	for _, flag := range []string{"-n", "-d"} {
		r := tool.In(t).Run("enter", flag, b.pid(), "true")
		if r.Code != 125 || r.Hung || !strings.Contains(r.Err, "does not respond") {
			t.Errorf("%s: %+v", flag, r)
		}
	}
	if r := tool.In(t).Run("enter", b.pid(), "true"); r.Code != 0 {
		t.Errorf("with pipes: %+v", r)
	}
	patient := rig.Build(t, rig.Change{File: "command.go", Old: "startTimeout = 3 * time.Second", New: "startTimeout = time.Hour"})
	s := patient.In(t).Start("enter", "-n", b.pid(), "true")
	if rig.Within(5*time.Second, s.Ended) {
		t.Errorf("the mutant ends as well: %+v", s.Wait())
	}
	if err := b.Close(); err != nil { // with it goes the file system, and who waits for it
		t.Error(err)
	}
	// The cgroups of what was given up are the next entry's to sweep.
	if r := tool.In(t).Run("enter", "-n", fmt.Sprint(testutil.Throwaway(t, throwaway.Spec{}).Pid()), "true"); r.Code != 0 {
		t.Errorf("afterwards: %+v", r)
	}
}

// TestA13Dead names a user of a container whose /etc does not answer. It is
// told, and whoever waits in the kernel is waited for by nobody.
func TestA13Dead(t *testing.T) {
	begin(t)
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skipf("skipped: needs FUSE: %v", err)
	}
	b := newBox(t, throwaway.Spec{}, rig.Attack("deadfs", "/etc"))
	if said, ok := b.hear(); !ok || said != "ready" {
		t.Fatalf("%q", said)
	}
	tool := rig.Build(t)
	for _, args := range [][]string{{"-u", "root", "true"}, {"-u", "0", "true"}, {}} {
		r := tool.In(t).Run(append([]string{"enter", "-n", b.pid()}, args...)...)
		if r.Code != 125 || r.Hung || !strings.Contains(r.Err, "filesystem not responding") {
			t.Errorf("%q: %+v", args, r)
		}
	}
	if r := tool.In(t).Run("enter", "-n", b.pid(), "true"); r.Code != 0 {
		t.Errorf("without a name: %+v", r)
	}
	patient := rig.Build(t, rig.Change{File: "users.go", Old: "readTimeout = 2 * time.Second", New: "readTimeout = time.Hour"})
	s := patient.In(t).Start("enter", "-n", b.pid(), "-u", "root", "true")
	if rig.Within(4*time.Second, s.Ended) {
		t.Errorf("the mutant ends as well: %+v", s.Wait())
	}
	if err := b.Close(); err != nil { // with it goes the file system, and who waits for it
		t.Error(err)
	}
}
