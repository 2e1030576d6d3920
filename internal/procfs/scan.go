// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/sys"
)

// Task is a process as a scan of all of them has it.
type Task struct {
	PID, Parent int   // in the procfs's pid namespace; Parent 0: outside of it
	NSpid       []int // its number on each level, outermost first
	PIDNS       uint64
	Start       uint64 // clock ticks since boot
	UID         uint32 // effective
	State       byte   // R S D T t Z X I
	Kthread     bool
	Exiting     bool   // it is on its way out
	Comm        string // raw
	// Cmdline is what cmdline holds, raw, its first MaxCmdline bytes at most.
	Cmdline string
}

// MaxCmdline is how much is kept of a command line: a page, as ps(1) of old had.
// Hostile ones are megabytes long, and there may be ten thousand of them.
const MaxCmdline = 4096

// ErrIncomplete says that some process could not be read in time.
var ErrIncomplete = errors.New("some processes could not be read in time")

const (
	scanBatch   = 32       // processes that are read in one go
	direntsSize = 64 << 10 // bytes; the C library asks for 32 KiB
	maxStatus   = 1 << 20  // bytes, with the 65536 groups that a process may have
)

// Scan reads all processes, in the order of their numbers. Of each as little is
// read as tells what Task has: the link of its pid namespace, and stat; the numbers
// of those in a pid namespace below as numbersIn has it. Where that cannot tell,
// status is read, which costs more than all else. What ends meanwhile is left out.
//
// A27 (docs/threat-model.md): a process that does not answer holds up one
// reader. When ctx is done, what has been read is returned with ErrIncomplete.
func (fs *FS) Scan(ctx context.Context) ([]Task, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	pids, err := fs.listPids()
	if err != nil {
		return nil, err
	}
	s, err := newScan(fs, pids)
	if err != nil {
		return nil, err
	}
	batches := (len(pids) + scanBatch - 1) / scanBatch
	results := make(chan []Task, batches) // a late reader is never held up
	for range max(1, min(2, runtime.GOMAXPROCS(0), batches)) {
		go s.work(results, batches)
	}
	tasks := make([]Task, 0, len(pids))
	for range batches {
		select {
		case read := <-results:
			tasks = append(tasks, read...)
		case <-ctx.Done():
			s.next.Store(int64(batches)) // the others stop
			sortTasks(tasks)
			return tasks, fmt.Errorf("%w: %w", ErrIncomplete, ctx.Err())
		}
	}
	sortTasks(tasks)
	return tasks, nil
}

func sortTasks(tasks []Task) {
	slices.SortFunc(tasks, func(a, b Task) int { return a.PID - b.PID })
}

// scan is one Scan while it lasts.
type scan struct {
	root  *os.File // its own: a reader may outlive the FS
	users atomic.Int32
	own   uint64 // the reader's pid namespace
	pids  []int
	next  atomic.Int64 // batch
}

func newScan(fs *FS, pids []int) (*scan, error) {
	var fd int
	var errno error
	err := sys.Control(fs.root, func(at int) { fd, errno = unix.FcntlInt(uintptr(at), unix.F_DUPFD_CLOEXEC, 0) })
	if err = first(err, errno); err != nil {
		return nil, err
	}
	s := &scan{root: os.NewFile(uintptr(fd), "/proc"), pids: pids}
	s.users.Store(int32(max(1, min(2, runtime.GOMAXPROCS(0), (len(pids)+scanBatch-1)/scanBatch))))
	r := &reader{root: fd}
	s.own, _ = r.namespace(os.Getpid())
	return s, nil
}

// work reads batches until there are none left. Whoever is last closes the
// directory.
func (s *scan) work(results chan<- []Task, batches int) {
	defer func() {
		if s.users.Add(-1) == 0 {
			s.root.Close()
		}
	}()
	_ = sys.Control(s.root, func(fd int) {
		r := &reader{root: fd, own: s.own}
		defer r.spaces.close()
		for {
			i := int(s.next.Add(1)) - 1
			if i >= batches {
				return
			}
			batch := s.pids[i*scanBatch : min((i+1)*scanBatch, len(s.pids))]
			read := make([]Task, 0, len(batch))
			for _, pid := range batch {
				if t, ok := r.task(pid); ok {
					read = append(read, t)
				}
			}
			results <- read
		}
	})
}

// Rescan reads single processes again, see Scan.
func (fs *FS) Rescan(pids []int) []Task {
	s, err := newScan(fs, nil)
	if err != nil {
		return nil
	}
	defer s.root.Close()
	var tasks []Task
	_ = sys.Control(s.root, func(fd int) {
		r := &reader{root: fd, own: s.own}
		defer r.spaces.close()
		for _, pid := range pids {
			if t, ok := r.task(pid); ok {
				tasks = append(tasks, t)
			}
		}
	})
	return tasks
}

// reader reads processes one after the other with the same buffers.
type reader struct {
	root   int
	own    uint64
	path   []byte
	buf    [MaxCmdline]byte
	spaces spaces
}

// file is the path of a process's file, ended by NUL.
func (r *reader) file(pid int, name string) []byte {
	r.path = strconv.AppendInt(r.path[:0], int64(pid), 10)
	r.path = append(append(r.path, name...), 0)
	return r.path
}

// task reads one process; false when it is gone.
func (r *reader) task(pid int) (Task, bool) {
	n, err := sys.ReadAt(r.root, r.file(pid, "/stat"), r.buf[:])
	if err != nil {
		return Task{}, false
	}
	t, err := ParseTask(r.buf[:n])
	if err != nil || t.PID != pid {
		return Task{}, false
	}
	if t.UID, err = sys.OwnerAt(r.root, r.file(pid, "")); err != nil {
		return Task{}, false
	}
	if t.Kthread { // it is in the machine's namespaces, and has no arguments
		t.PIDNS, t.NSpid = r.own, []int{pid}
		return t, true
	}
	t.PIDNS, err = r.namespace(pid)
	switch {
	case err == nil && t.PIDNS == r.own && r.own != 0:
		t.NSpid = []int{pid}
	default:
		if t.NSpid = r.numbersIn(pid, t.PIDNS); t.NSpid == nil && !r.levels(&t) {
			return Task{}, false
		}
		if t.PIDNS == 0 && len(t.NSpid) == 1 { // it may not be read, but is the reader's
			t.PIDNS = r.own
		}
	}
	if t.State == 'Z' || t.State == 'X' {
		return t, true
	}
	n, err = sys.ReadAt(r.root, r.file(pid, "/cmdline"), r.buf[:])
	if errors.Is(err, unix.ESRCH) {
		return Task{}, false
	}
	t.Cmdline = string(r.buf[:max(n, 0)])
	return t, true
}

// levels reads from status what number a process has on each level.
func (r *reader) levels(t *Task) bool {
	status := r.buf[:]
	n, err := sys.ReadAt(r.root, r.file(t.PID, "/status"), status)
	if err == nil && n == len(status) { // tens of thousands of groups
		status = make([]byte, maxStatus)
		n, err = sys.ReadAt(r.root, r.file(t.PID, "/status"), status)
	}
	if err != nil {
		return false
	}
	t.NSpid = nspid(status[:n])
	return len(t.NSpid) > 0 && t.NSpid[0] == t.PID
}

// nspid returns the line NSpid of status; before it only the groups can be long.
func nspid(status []byte) []int {
	_, rest, ok := bytes.Cut(status, []byte("\nNSpid:"))
	if !ok {
		return nil
	}
	line, _, ok := bytes.Cut(rest, []byte("\n"))
	if !ok {
		return nil
	}
	pids, err := numbers[int](string(line))
	if err != nil {
		return nil
	}
	return pids
}

// namespace returns the pid namespace a process is in; 0 with fs.ErrPermission
// where the reader may not know it.
func (r *reader) namespace(pid int) (uint64, error) {
	var buf [64]byte
	n, err := sys.ReadlinkAt(r.root, r.file(pid, "/ns/pid"), buf[:])
	if err != nil {
		return 0, err
	}
	number, ok := bytes.CutPrefix(buf[:n], []byte("pid:["))
	number, closed := bytes.CutSuffix(number, []byte("]"))
	if !ok || !closed {
		return 0, ErrFormat
	}
	return strconv.ParseUint(string(number), 10, 64)
}

// Bits of the flags in stat.
const (
	exitingFlag = 0x00000004 // PF_EXITING
	kthreadFlag = 0x00200000 // PF_KTHREAD
)

// ParseTask parses /proc/PID/stat (proc_pid_stat(5)): what Task has of it. The
// comm may hold anything; the last ")" ends it.
func ParseTask(stat []byte) (t Task, err error) {
	open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if open < 2 || end < open {
		return Task{}, fmt.Errorf("stat: %w", ErrFormat)
	}
	if t.PID, err = strconv.Atoi(string(stat[:open-1])); err != nil {
		return Task{}, fmt.Errorf("stat: %w: %w", ErrFormat, err)
	}
	t.Comm = string(stat[open+1 : end])
	const state, parent, flags, start = 3, 4, 9, 22 // fields, counted from 1
	at := state
	for field := range bytes.FieldsSeq(stat[end+1:]) {
		switch at {
		case state:
			t.State = field[0]
		case parent:
			t.Parent, err = strconv.Atoi(string(field))
		case flags:
			var n uint64
			n, err = strconv.ParseUint(string(field), 10, 64)
			t.Kthread, t.Exiting = n&kthreadFlag != 0, n&exitingFlag != 0
		case start:
			t.Start, err = strconv.ParseUint(string(field), 10, 64)
			if err == nil {
				return t, nil
			}
		}
		if err != nil {
			return Task{}, fmt.Errorf("stat: %w: %w", ErrFormat, err)
		}
		at++
	}
	return Task{}, fmt.Errorf("stat: %w: it ends early", ErrFormat)
}

// listPids returns the numbers of all processes.
func (fs *FS) listPids() ([]int, error) { return listNumbers(fs.root, ".", 0) }

// Descriptors returns the numbers of the process's descriptors in order, not
// many more than limit.
func (d *Dir) Descriptors(limit int) ([]int, error) { return listNumbers(d.file, "fd", limit) }

// listNumbers returns the entries of a directory that are numbers; of one that is
// long not many more than limit, if that is not 0.
func listNumbers(at *os.File, name string, limit int) ([]int, error) {
	dir, err := openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	var list []int
	buf := make([]byte, direntsSize)
	if limit > 0 {
		buf = buf[:min(direntsSize, 32*limit)] // an entry of four digits takes 24 bytes
	}
	for limit == 0 || len(list) < limit {
		var n int
		var errno error
		cerr := sys.Control(dir, func(fd int) { n, errno = unix.Getdents(fd, buf) })
		if errors.Is(errno, unix.EINTR) {
			continue
		}
		if err := first(cerr, errno); err != nil {
			return nil, &os.PathError{Op: "getdents", Path: dir.Name(), Err: err}
		}
		if n == 0 {
			break
		}
		list = appendPids(list, buf[:n])
	}
	return list, nil
}

// appendPids appends the numbers among the names of directory entries as
// getdents64(2) has them.
func appendPids(pids []int, entries []byte) []int {
	const length, name = 16, 19 // offsets in struct linux_dirent64
	for len(entries) > name {
		size := int(binary.NativeEndian.Uint16(entries[length:]))
		if size <= name || size > len(entries) {
			break
		}
		pid := 0
		for i, c := range entries[name:size] {
			if c == 0 && i > 0 {
				pids = append(pids, pid)
				break
			}
			if c < '0' || c > '9' || pid > 1<<30/10 {
				break
			}
			pid = pid*10 + int(c-'0')
		}
		entries = entries[size:]
	}
	return pids
}
