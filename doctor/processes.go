// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/cgroup"
	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/sys"
)

const (
	// lingering is how long a process has to be in a state for it to count: each
	// of them is for a moment in the life of a healthy process.
	lingering = 20 * time.Millisecond
	// maxDetails bounds of how many processes more is read than their state.
	maxDetails = 64
)

// processes counts them, and finds those that get nowhere.
func processes(ctx context.Context, p *patient) func(*Report) {
	f, err := p.family()
	if err != nil {
		return func(r *Report) { r.unseen("processes", "%v", err) }
	}
	found, hidden, froze := &Processes{Count: len(f.members)}, false, p.freezers()
	for _, m := range p.stuck(ctx, f) {
		switch m.State {
		case 'Z':
			found.Zombies = append(found.Zombies, Process{PIDs: m.NSpid, Comm: m.Comm, Parent: m.Parent})
		case 'T', 't':
			found.Stopped = append(found.Stopped, Process{PIDs: m.NSpid, Comm: m.Comm, Parent: m.Parent})
		case 'D':
			if hidden = p.still; hidden { // in version 1 of cgroups all of them look so
				continue
			}
			if group := froze(m); group != "" {
				found.Frozen = append(found.Frozen, Process{PIDs: m.NSpid, Comm: m.Comm, Parent: m.Parent, Cgroup: group})
			} else if w := p.waits(m, len(found.Waiting) < maxDetails); !frozenIn(w.Wait) {
				found.Waiting = append(found.Waiting, w)
			}
		}
	}
	return func(r *Report) {
		r.Processes = found
		if f.incomplete != nil {
			r.unseen("processes", "%v", f.incomplete)
		}
		if hidden {
			r.unseen("processes", "who waits in the kernel looks as who is frozen does")
		}
	}
}

// stuck are the members that get nowhere, and still do after a while.
func (p *patient) stuck(ctx context.Context, f *family) (list []*procfs.Task) {
	suspects := map[int]*procfs.Task{}
	var pids []int
	for _, m := range f.members {
		if strings.IndexByte("ZTtD", m.State) >= 0 {
			suspects[m.PID] = m
			pids = append(pids, m.PID)
		}
	}
	if len(pids) == 0 {
		return nil
	}
	select {
	case <-time.After(lingering):
	case <-ctx.Done():
	}
	for _, now := range p.target.Proc().Rescan(ctx, true, pids...) {
		if m := suspects[now.PID]; now.Start == m.Start && now.State == m.State {
			list = append(list, m)
		}
	}
	return list
}

// freezers tells of processes which group keeps them frozen, "" for none: one below
// init's, or beside it (A28, docs/threat-model.md).
func (p *patient) freezers() func(*procfs.Task) string {
	proc := p.target.Proc()
	self, err := proc.Self()
	if err != nil {
		return func(*procfs.Task) string { return "" }
	}
	defer self.Close()
	own, err := self.Groups()
	known := map[string]string{} // by all groups of a process: those of many are the same
	return func(m *procfs.Task) string {
		dir, gone := proc.Process(m.PID)
		if err != nil || gone != nil {
			return ""
		}
		defer dir.Close()
		groups, err := dir.Groups()
		if err != nil {
			return ""
		}
		key := fmt.Sprint(groups)
		if _, ok := known[key]; !ok {
			known[key] = ""
			if found := cgroup.Frozen(groups, own, p.mounts); len(found) > 0 {
				known[key] = found[0].Path
			}
		}
		return known[key]
	}
}

// waits says what a process waits for. All of it may be hidden from the reader.
func (p *patient) waits(m *procfs.Task, details bool) Process {
	w := Process{PIDs: m.NSpid, Comm: m.Comm, Parent: m.Parent}
	if !details {
		return w
	}
	dir, err := p.target.Proc().Process(m.PID)
	if err != nil {
		return w
	}
	defer dir.Close()
	if b, err := dir.ReadFile("wchan"); err == nil && string(b) != "0" {
		w.Wait = strings.TrimSpace(string(b))
	}
	if b, err := dir.ReadFile("syscall"); err == nil {
		w.Syscall = syscallName(string(b))
	}
	return w
}

// frozenIn tells whether a function of the kernel's keeps frozen processes, which
// look as if they waited.
func frozenIn(wait string) bool {
	return strings.Contains(wait, "refrigerator") || strings.Contains(wait, "freezer")
}

// syscallName says what a process asked for, by /proc/PID/syscall; "" where it
// does not ask for anything.
func syscallName(line string) string {
	word, _, _ := strings.Cut(strings.TrimSpace(line), " ")
	n, err := strconv.ParseInt(word, 10, 64)
	if err != nil || n < 0 {
		return ""
	}
	names := map[int64]string{ // those that wait
		unix.SYS_READ: "read", unix.SYS_WRITE: "write", unix.SYS_PREAD64: "pread", unix.SYS_PWRITE64: "pwrite",
		unix.SYS_READV: "readv", unix.SYS_WRITEV: "writev", unix.SYS_OPENAT: "openat", unix.SYS_OPENAT2: "openat2", unix.SYS_CLOSE: "close",
		unix.SYS_FSTAT: "fstat", unix.SYS_STATX: "statx", unix.SYS_STATFS: "statfs", unix.SYS_FSTATFS: "fstatfs",
		unix.SYS_FACCESSAT: "faccessat", unix.SYS_READLINKAT: "readlinkat", unix.SYS_GETDENTS64: "getdents",
		unix.SYS_FSYNC: "fsync", unix.SYS_FDATASYNC: "fdatasync", unix.SYS_SYNC: "sync", unix.SYS_SYNCFS: "syncfs",
		unix.SYS_FALLOCATE: "fallocate", unix.SYS_FTRUNCATE: "ftruncate", unix.SYS_UNLINKAT: "unlinkat", unix.SYS_MKDIRAT: "mkdirat",
		unix.SYS_RENAMEAT2: "renameat2", unix.SYS_MOUNT: "mount", unix.SYS_UMOUNT2: "umount", unix.SYS_IOCTL: "ioctl",
		unix.SYS_MMAP: "mmap", unix.SYS_MUNMAP: "munmap", unix.SYS_EXECVE: "execve", unix.SYS_CLONE: "clone", unix.SYS_CLONE3: "clone3",
		unix.SYS_EXIT_GROUP: "exit_group", unix.SYS_FLOCK: "flock", unix.SYS_FCNTL: "fcntl", unix.SYS_SENDTO: "sendto",
		unix.SYS_RECVFROM: "recvfrom", unix.SYS_CONNECT: "connect", unix.SYS_GETXATTR: "getxattr",
	}
	if name, ok := names[n]; ok {
		return name
	}
	return fmt.Sprintf("system call %d", n)
}

// Of open files, a share of the limit from which on more is read of a process
// than how many it has.
const nearly = 0.8

// descriptors finds who has nearly as many files open as it may. Limits are
// inherited, so that of most processes the number alone is read.
func descriptors(ctx context.Context, p *patient) func(*Report) {
	init := p.target.Process().Dir
	own, err := mayOpen(init)
	count, cerr := countFiles(init)
	if err = cmp.Or(err, cerr); err != nil {
		return func(r *Report) { r.unseen("open files", "%v", err) }
	}
	list := []Limit{openFiles(count, own, "init")}
	f, err := p.family()
	if err != nil {
		return func(r *Report) { r.Limits = append(r.Limits, list...) }
	}
	for _, m := range f.members[1:] {
		if ctx.Err() != nil || len(list) > maxDetails {
			break
		}
		if n := sizeOfFiles(p.target.Proc().File(), strconv.Itoa(m.PID)+"/fd"); float64(n) >= nearly*float64(own) {
			list = append(list, p.files(m)...)
		}
	}
	return func(r *Report) { r.Limits = append(r.Limits, list...) }
}

// files is what a process has open, where that is nearly what it may.
func (p *patient) files(m *procfs.Task) []Limit {
	dir, err := p.target.Proc().Process(m.PID)
	if err != nil {
		return nil
	}
	defer dir.Close()
	most, err := mayOpen(dir)
	if err != nil {
		return nil
	}
	if n := sizeOfFiles(p.target.Proc().File(), strconv.Itoa(m.PID)+"/fd"); float64(n) >= nearly*float64(most) {
		return []Limit{openFiles(n, most, fmt.Sprintf("process %d (%s)", m.NSpid[len(m.NSpid)-1], m.Comm))}
	}
	return nil
}

// mayOpen is how many files a process may have open.
func mayOpen(dir *procfs.Dir) (uint64, error) {
	b, err := dir.ReadFile("limits")
	if err != nil {
		return 0, err
	}
	limits, err := procfs.ParseLimits(b)
	return limits[unix.RLIMIT_NOFILE].Cur, err
}

func openFiles(n, most uint64, of string) Limit {
	l := Limit{Name: "open files", Used: n, Of: of}
	if most != unix.RLIM_INFINITY {
		l.Max = &most
	}
	return l
}

// sizeOfFiles is how many files a process has open, as the size of its fd
// directory tells (6.2); 0 before.
func sizeOfFiles(at *os.File, name string) uint64 {
	var st unix.Stat_t
	var errno error
	err := sys.Control(at, func(fd int) { errno = unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	if err != nil || errno != nil {
		return 0
	}
	return uint64(max(st.Size, 0))
}

// maxCounted is at how many open files counting stops: as many as the kernel lets a
// process have unless told otherwise (fs.nr_open).
const maxCounted = 1 << 20

// countFiles is how many files a process has open. They are counted where the
// kernel does not tell.
func countFiles(dir *procfs.Dir) (uint64, error) {
	if n := sizeOfFiles(dir.File(), "fd"); n > 0 {
		return n, nil
	}
	fds, err := dir.Descriptors(maxCounted)
	return uint64(len(fds)), err
}
