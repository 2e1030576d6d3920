// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"bytes"
	"errors"
	"fmt"
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
	// Cmdline is what cmdline holds, raw, its first MaxCmdline bytes at most; see
	// Outline.
	Cmdline string
	// Silent says that it did not tell its arguments in time: something holds on
	// to its memory. All else of it is here. Where very many do not, the others are
	// not asked either.
	Silent bool
}

// First tells whether it is the first process of a pid namespace below the reader's.
func (t *Task) First() bool { return len(t.NSpid) > 1 && t.NSpid[len(t.NSpid)-1] == 1 }

// Search finds the process with a number among processes in the order of theirs.
func Search(tasks []Task, pid int) (at int, ok bool) {
	low, high := 0, len(tasks)
	for low < high {
		if middle := int(uint(low+high) >> 1); tasks[middle].PID < pid {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low, low < len(tasks) && tasks[low].PID == pid
}

// MaxCmdline is how much is kept of a command line: a page, as ps(1) of old had.
// Hostile ones are megabytes long, and there may be ten thousand of them.
const MaxCmdline = 4096

// maxStatus is how long a status is, with the 65536 groups that a process may
// have, bytes.
const maxStatus = 1 << 20

// reader reads processes one after the other with the same buffers.
type reader struct {
	root int
	own  uint64
	// outline says that arguments are wanted only of those in its own pid namespace,
	// careful that none are.
	outline bool
	careful *atomic.Bool
	path    []byte
	buf     [MaxCmdline]byte
	spaces  spaces
	// kthreads is whose kernel threads are, once it is known.
	kthreads *uint32
}

// file is the path of a process's file, ended by NUL.
func (r *reader) file(pid int, name string) []byte {
	r.path = strconv.AppendInt(r.path[:0], int64(pid), 10)
	r.path = append(append(r.path, name...), 0)
	return r.path
}

// slot reads one process into its slot.
func (r *reader) slot(s *slot) {
	t := s.task
	if !r.task(s.pid, t) {
		s.state.Store(nowhere)
		return
	}
	if t.Kthread || t.State == 'Z' || t.State == 'X' || r.outline && len(t.NSpid) > 1 { // no arguments
		s.state.Store(done)
		return
	}
	id := identity{t.PID, t.Start}
	if t.Silent = silent.has(id) || r.careful.Load(); t.Silent {
		s.state.Store(done)
		return
	}
	s.state.Store(asked)
	// A27: for this the kernel takes a lock of the process's memory, which others
	// may hold for ever. Nothing above needs one.
	n, err := sys.ReadAt(r.root, r.file(s.pid, "/cmdline"), r.buf[:])
	if !s.state.CompareAndSwap(asked, told) { // given up
		silent.set(id, false)
		return
	}
	if errors.Is(err, unix.ESRCH) {
		s.state.Store(nowhere)
		return
	}
	t.Cmdline = string(r.buf[:n])
	s.state.Store(done)
}

// task reads all of a process but its arguments; false when it is gone.
func (r *reader) task(pid int, t *Task) bool {
	n, err := sys.PeekAt(r.root, r.file(pid, "/stat"), r.buf[:])
	if err != nil {
		return false
	}
	if *t, err = ParseTask(r.buf[:n]); err != nil || t.PID != pid {
		return false
	}
	if t.Kthread && r.kthreads != nil {
		t.UID = *r.kthreads
	} else if t.UID, err = sys.OwnerAt(r.root, r.file(pid, "")); err != nil {
		return false
	}
	if t.Kthread { // it is the machine's root's, in the machine's namespaces
		uid := t.UID
		r.kthreads, t.PIDNS, t.NSpid = &uid, r.own, []int{pid}
		return true
	}
	t.PIDNS, err = r.namespace(pid)
	if err == nil && t.PIDNS == r.own && r.own != 0 {
		t.NSpid = []int{pid}
		return true
	}
	if t.NSpid = r.numbersIn(pid, t.PIDNS); t.NSpid == nil && !r.levels(t) {
		return false
	}
	if t.PIDNS == 0 && len(t.NSpid) == 1 { // it may not be read, but is the reader's
		t.PIDNS = r.own
	}
	return true
}

// levels reads from status what number a process has on each level.
func (r *reader) levels(t *Task) bool {
	status := r.buf[:]
	n, err := sys.PeekAt(r.root, r.file(t.PID, "/status"), status)
	if err == nil && n == len(status) { // tens of thousands of groups
		status = make([]byte, maxStatus)
		n, err = sys.PeekAt(r.root, r.file(t.PID, "/status"), status)
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
