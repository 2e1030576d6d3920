// SPDX-License-Identifier: Apache-2.0

package cve

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/test/cve/rig"
)

// attackRobber is an init that tries to rob each process whose number it is
// told.
func attackRobber([]string) error {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		pid, err := strconv.Atoi(lines.Text())
		if err != nil {
			return err
		}
		if err := json.NewEncoder(os.Stdout).Encode(robOne(pid)); err != nil {
			return err
		}
	}
	return lines.Err()
}

// attackLurker is an init that robs whatever comes, on two threads, until it
// is told that it is enough. The argument says whether it may trace.
func attackLurker(args []string) error {
	traces := args[0] == "true"
	var mu sync.Mutex
	var all sync.WaitGroup
	enough, found := make(chan struct{}), map[string]bool{}
	for range 2 {
		all.Go(func() {
			for {
				select {
				case <-enough:
					return
				default:
				}
				for _, pid := range others() {
					for _, win := range robOne(pid).wins(traces) {
						mu.Lock()
						found[win] = true
						mu.Unlock()
					}
				}
			}
		})
	}
	_, err := bufio.NewReader(os.Stdin).ReadString('\n')
	close(enough)
	all.Wait()
	for win := range found {
		fmt.Println(strings.ReplaceAll(win, "\n", " "))
	}
	fmt.Println("done")
	return errors.Join(err, stay())
}

// others are the numbers of all processes but init.
func others() []int {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil && pid != 1 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// robOne tries on one process all that there is to try.
func robOne(pid int) loot {
	l := loot{Comm: rig.Comm(pid), Files: map[int]string{}, Taken: map[int]string{}, Links: map[string]string{}}
	dir := fmt.Sprintf("/proc/%d/", pid)
	for n := range rig.Descriptors(pid) {
		var st unix.Stat_t
		if err := unix.Stat(dir+"fd/"+strconv.Itoa(n), &st); err == nil {
			l.Files[n] = kindOf(st)
		}
	}
	for _, name := range []string{"root", "cwd", "exe"} {
		if link, err := os.Readlink(dir + name); err == nil {
			l.Links[name] = link
		}
	}
	for _, name := range []string{"root", "cwd"} {
		if foreign(dir + name) {
			l.Foreign = append(l.Foreign, name)
		}
	}
	l.Taken = takeFiles(pid)
	l.Memory, l.Secret = readMemory(pid)
	l.Traced = trace(pid)
	have, _ := strconv.ParseUint(rig.Status(os.Getpid(), "CapPrm"), 16, 64)
	for _, set := range []string{"CapPrm", "CapEff", "CapInh", "CapAmb"} {
		victim, _ := strconv.ParseUint(rig.Status(pid, set), 16, 64)
		if more := victim &^ have; more != 0 {
			l.More += fmt.Sprintf("%s %#x ", set, more)
		}
	}
	l.After = rig.Comm(pid)
	return l
}

// foreign tells whether a path leads to another file system than that of the
// container's root.
func foreign(path string) bool {
	var own, st unix.Stat_t
	return unix.Stat("/", &own) == nil && unix.Stat(path, &st) == nil && st.Dev != own.Dev
}

// takeFiles duplicates the first descriptors of a process (pidfd_getfd(2), 5.6).
func takeFiles(pid int) map[int]string {
	taken := map[int]string{}
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return taken
	}
	defer unix.Close(pidfd)
	for n := range 16 {
		fd, err := unix.PidfdGetfd(pidfd, n, 0)
		if err != nil {
			continue
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err == nil {
			taken[n] = kindOf(st)
		}
		unix.Close(fd)
	}
	return taken
}

// kindOf says what an open file is.
func kindOf(st unix.Stat_t) string {
	var own unix.Stat_t
	_ = unix.Stat("/", &own) // an init has a root
	switch kind := st.Mode & unix.S_IFMT; {
	case kind == unix.S_IFIFO:
		return "pipe"
	case kind == unix.S_IFSOCK:
		return "socket"
	case kind == unix.S_IFCHR && st.Rdev == unix.Mkdev(1, 3):
		return "null"
	case kind == unix.S_IFREG && st.Dev == own.Dev:
		return "container's file"
	}
	return fmt.Sprintf("file of mode %o", st.Mode)
}

// readMemory reads what it can of a process's memory; both ways, since they
// are guarded apart.
func readMemory(pid int) (read, found bool) {
	maps, _ := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err == nil {
		defer mem.Close()
	}
	for line := range strings.Lines(string(maps)) {
		var from, to uint64
		if _, err := fmt.Sscanf(line, "%x-%x", &from, &to); err != nil || from >= 1<<47 {
			continue // vsyscall
		}
		buf := make([]byte, min(to-from, 1<<20))
		n, _ := mem.ReadAt(buf, int64(from))
		if n <= 0 {
			local := []unix.Iovec{{Base: &buf[0], Len: uint64(len(buf))}}
			n, _ = unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: uintptr(from), Len: len(buf)}}, 0)
		}
		read = read || n > 0
		found = found || n > 0 && bytes.Contains(buf[:n], []byte(secret))
	}
	return read, found
}

// trace attaches to a process and lets go of it. A tracer is a thread.
func trace(pid int) bool {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if unix.PtraceSeize(pid) != nil {
		return false
	}
	_ = unix.PtraceInterrupt(pid)
	if _, err := unix.Wait4(pid, nil, unix.WALL, nil); err == nil {
		_ = unix.PtraceDetach(pid)
	}
	return true
}
