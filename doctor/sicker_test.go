// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/engine"
	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
)

// sicker are more of sicknesses.
func sicker() map[string]func() error {
	return map[string]func() error{
		"large": func() error { return take(64 << 20) },
		"oom": func() error {
			_ = exec.Command("/bin/outband", sickJob, "hog").Run() // it is killed
			return nil
		},
		"hog": func() error { // rather this one than its parent
			return errors.Join(os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0), take(1<<30))
		},
		"queue": dontAccept,
		"dead":  beStuck,
	}
}

// take takes memory.
func take(bytes int) error {
	for range bytes >> 20 {
		if _, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_POPULATE); err != nil {
			return err
		}
	}
	return nil
}

// dontAccept has connections wait to be accepted, as many as may.
func dontAccept() error {
	if err := loopback(); err != nil {
		return err
	}
	const backlog = 8
	at := &unix.SockaddrInet4{Port: 80, Addr: [4]byte{127, 0, 0, 1}}
	listener, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err = errors.Join(err, unix.Bind(listener, at), unix.Listen(listener, backlog)); err != nil {
		return err
	}
	for range backlog + 1 { // the kernel lets one more in
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if err = errors.Join(err, unix.Connect(fd, at)); err != nil {
			return err
		}
	}
	return nil
}

// loopback brings up the interface to oneself.
func loopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}

// beStuck mounts a file system that does not answer, and has a child wait for it
// that was killed and cannot end. Init serves it: with init both are gone. The
// child is there before, lest it holds what keeps the file system up.
func beStuck() error {
	child, begin, err := startStuck("/mnt/x")
	if err != nil {
		return err
	}
	device, err := mountMute("/mnt")
	if err != nil {
		return err
	}
	asked := make(chan bool, 1)
	go swallow(device, asked)
	if _, err := unix.Write(begin, []byte{0}); err != nil {
		return err
	}
	<-asked
	pidfd, err := unix.PidfdOpen(child, 0)
	if err = errors.Join(err, unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)); err != nil {
		return err
	}
	for { // the test has a deadline
		stat, _ := os.ReadFile("/proc/" + strconv.Itoa(child) + "/stat")
		if strings.Contains(string(stat), ") D ") {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
}

// startStuck starts a process that opens a file as soon as something is written
// to begin. A child of a Go program that was forked alone can make raw system
// calls, and no more; it has one thread, which is the process.
func startStuck(path string) (pid, begin int, err error) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return 0, 0, err
	}
	name, err := unix.BytePtrFromString(path)
	if err != nil {
		return 0, 0, err
	}
	var b byte
	at := unix.AT_FDCWD
	id, _, errno := unix.RawSyscall(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0)
	if errno != 0 {
		return 0, 0, errno
	}
	if id == 0 {
		_, _, _ = unix.RawSyscall(unix.SYS_READ, uintptr(ends[0]), uintptr(unsafe.Pointer(&b)), 1)
		_, _, _ = unix.RawSyscall6(unix.SYS_OPENAT, uintptr(at), uintptr(unsafe.Pointer(name)), unix.O_RDONLY, 0, 0, 0)
		for {
			_, _, _ = unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
	}
	return int(id), ends[1], nil
}

func mountMute(dir string) (device int, err error) {
	const name = "/dev/fuse"
	if err := errors.Join(os.Mkdir(dir, 0o755), unix.Mknod(name, unix.S_IFCHR|0o600, int(unix.Mkdev(10, 229)))); err != nil {
		return 0, err
	}
	device, err = unix.Open(name, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	return device, unix.Mount("mute", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", device))
}

// swallow answers the kernel's first request, by version 7.31 of <linux/fuse.h>,
// and takes all others.
func swallow(device int, asked chan<- bool) {
	buf := make([]byte, 1<<17) // more than any request without data
	for first := true; ; first = false {
		if _, err := unix.Read(device, buf); err != nil {
			return
		}
		if !first {
			select {
			case asked <- true:
			default:
			}
			continue
		}
		reply := make([]byte, 16+64)
		binary.NativeEndian.PutUint32(reply, uint32(len(reply)))
		copy(reply[8:16], buf[8:16]) // unique
		binary.NativeEndian.PutUint32(reply[16:], 7)
		binary.NativeEndian.PutUint32(reply[20:], 31)
		_, _ = unix.Write(device, reply)
	}
}

// expect fails unless each pattern fits something that was found.
func expect(t *testing.T, r *Report, patterns ...string) {
	t.Helper()
	for _, p := range patterns {
		if !slices.ContainsFunc(r.found(), regexp.MustCompile(`^`+p).MatchString) {
			t.Errorf("nothing found fits %q: %q; not seen: %v", p, r.found(), r.Unseen)
		}
	}
}

// TestStuck: a file system that does not answer costs its deadline; what else
// there is, is told, and so is who waits for it and cannot be killed.
func TestStuck(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.RequireFUSE(t)
	testutil.NoLeaks(t)
	t.Cleanup(func() { reapGivenUp(t) })
	r := look(t, start(t, "dead", nil))
	expect(t, r, `bad file system /mnt: it does not answer \(fuse, mute\)$`,
		`bad processes: 1 process waits in the kernel, and no signal ends that: \d+ outband in openat( \(\w+\))?$`)
	if len(r.Filesystems) < 2 || r.Names == nil || r.Network == nil || r.Limits == nil || len(r.Unseen) > 0 {
		t.Errorf("%+v", r)
	}
}

// reapGivenUp reaps who was given up, now that the file system is gone: the test
// has adopted it, and has no other child.
func reapGivenUp(t *testing.T) {
	n := 0
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		if pid > 0 {
			n++
		}
		if errors.Is(err, unix.ECHILD) {
			break
		}
	}
	if n == 0 {
		t.Error("nobody was given up: the test shows nothing")
	}
}

func TestQueue(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	r := look(t, start(t, "queue", nil))
	expect(t, r, `note network: 9 connections to 127.0.0.1:80 wait to be accepted by 1 outband$`)
	if len(r.Network.Listening) != 1 || !slices.Equal(r.Network.Listening[0].PIDs, r.Init.PIDs) {
		t.Errorf("%+v", r.Network.Listening)
	}
}

// TestFrozen: what is frozen is looked at by nobody who would be frozen, too.
func TestFrozen(t *testing.T) {
	testutil.RequireRoot(t)
	for root, words := range map[string][3]string{
		"/sys/fs/cgroup/unified": {"cgroup.freeze", "1", "0"}, "/sys/fs/cgroup": {"cgroup.freeze", "1", "0"},
		"/sys/fs/cgroup/freezer": {"freezer.state", "FROZEN", "THAWED"},
	} {
		if _, err := os.Stat(filepath.Join(root, "cgroup.procs")); err != nil {
			continue
		}
		t.Run(filepath.Base(root), func(t *testing.T) {
			testutil.NoLeaks(t)
			group := makeGroup(t, root)
			c := start(t, "nothing", func(s *throwaway.Spec) { s.Cgroups = []string{group} })
			t.Cleanup(func() { write(t, filepath.Join(group, words[0]), words[2]) })
			write(t, filepath.Join(group, words[0]), words[1])
			r := look(t, c)
			expect(t, r, "bad init: it is frozen: cgroup /"+filepath.Base(group)+"$")
			if r.State != string(engine.Paused) || len(r.Filesystems) == 0 || !r.Filesystems[0].Answers || len(r.Findings) > 1 && r.Findings[1].Grade == Bad {
				t.Errorf("%+v", r)
			}
		})
	}
}

// TestFrozenChild: a process in a frozen group of version 1 below init's looks as
// one does that waits in the kernel, and is not told to be that.
func TestFrozenChild(t *testing.T) {
	testutil.RequireRoot(t)
	const root = "/sys/fs/cgroup/freezer"
	if _, err := os.Stat(filepath.Join(root, "cgroup.procs")); err != nil {
		t.Skipf("skipped: no freezer of version 1: %v", err)
	}
	testutil.NoLeaks(t)
	group := makeGroup(t, root)
	below := filepath.Join(group, "b\x1b")
	if err := os.Mkdir(below, 0o755); err != nil {
		t.Fatal(err)
	}
	c := start(t, "child", func(s *throwaway.Spec) { s.Cgroups = []string{group} })
	child := "" // of whichever thread
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", c.Pid()))
	for _, file := range threads {
		b, _ := os.ReadFile(file)
		child += strings.TrimSpace(string(b))
	}
	t.Cleanup(func() {
		write(t, filepath.Join(below, "freezer.state"), "THAWED")
		c.Close()
		for end := time.Now().Add(5 * time.Second); os.Remove(below) != nil && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		}
	})
	write(t, filepath.Join(below, "cgroup.procs"), child)
	write(t, filepath.Join(below, "freezer.state"), "FROZEN")
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if b, _ := os.ReadFile(filepath.Join(below, "freezer.state")); string(b) == "FROZEN\n" { // all of it
			break
		}
	}
	r := look(t, c)
	path := "/" + filepath.Base(group) + "/b\x1b"
	expect(t, r, "note processes: 1 process is frozen: [0-9]+ outband by cgroup "+regexp.QuoteMeta(path)+"$")
	if r.State != string(engine.Running) || r.Verdict == Bad || len(r.Processes.Waiting) > 0 || len(r.Processes.Frozen) != 1 || r.Processes.Frozen[0].Cgroup != path {
		t.Errorf("%+v, %+v", r, r.Processes)
	}
}

// makeGroup makes a cgroup, named as those of tests are.
func makeGroup(t *testing.T, root string) string {
	t.Helper()
	dir, err := os.MkdirTemp(root, fmt.Sprintf("test-outband-%d-doctor-", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		var err error
		for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			if err = os.Remove(dir); err == nil {
				return
			}
		}
		t.Error(err)
	})
	return dir
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0); err != nil {
		t.Error(err)
	}
}

// TestFenced: limits of processes and memory that are used up, and a process that
// was killed for the latter.
func TestFenced(t *testing.T) {
	testutil.RequireRoot(t)
	group := `\(/test-outband-\d+-fence-\d+\)$`
	for name, c := range map[string]struct {
		job, limit, current string // files of both versions
		more                uint64
		want                string
	}{
		"processes": {"nothing", "pids.max", "pids.current", 0, `bad processes: (\d+) of \d+ in use ` + group},
		"memory": {"large", "memory.limit_in_bytes memory.max", "memory.usage_in_bytes memory.current", 256 << 10,
			`(bad|note) memory: \d+\.?\d* MiB of \d+\.?\d* MiB in use ` + group},
		"killed": {"oom", "", "", 0, `note memory: out of memory: the kernel has killed 1 process$`},
	} {
		t.Run(name, func(t *testing.T) {
			testutil.NoLeaks(t)
			fence := testutil.FencedCgroup(t, 64, 128<<20)
			box := start(t, c.job, func(s *throwaway.Spec) { s.Cgroups = fence.Dirs })
			if c.limit != "" {
				text, _ := os.ReadFile(fileOf(t, fence, c.current))
				used, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				write(t, fileOf(t, fence, c.limit), strconv.FormatUint(used+c.more, 10))
			}
			expect(t, look(t, box), c.want)
		})
	}
}

// fileOf is the one of some files that a fence has.
func fileOf(t *testing.T, f *testutil.Fence, names string) string {
	t.Helper()
	for _, dir := range f.Dirs {
		for name := range strings.FieldsSeq(names) {
			if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
				return filepath.Join(dir, name)
			}
		}
	}
	t.Fatalf("no %q in %q", names, f.Dirs)
	return ""
}
