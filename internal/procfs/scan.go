// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/sys"
)

// ErrIncomplete says that some process could not be read in time.
var ErrIncomplete = errors.New("some processes could not be read in time")

const (
	scanReaders = 2        // processes that are read at a time
	direntsSize = 16 << 10 // bytes: 680 processes at a time

	// A process takes some 50 µs. One that takes lateTime is left to its reader,
	// and another one goes on with the rest; silentTime later it is given up.
	lateTime   = 20 * time.Millisecond
	silentTime = 500 * time.Millisecond
	// Who waits is a thread. Of one scan no more wait than maxLate, of all together
	// than maxSilent: then nobody's memory is asked for any more.
	maxLate, maxSilent = 64, 256
)

// Scan reads all processes, in the order of their numbers. Of each as little is
// read as tells what Task has: the link of its pid namespace, and stat; the numbers
// of those in a pid namespace below as numbersIn has it. Where that cannot tell,
// status is read, which costs more than all else. What ends meanwhile is left out.
//
// A27 (docs/threat-model.md): a process that does not answer is Silent, and holds
// up nobody but its reader. When ctx is done, what has been read is returned with
// ErrIncomplete.
func (fs *FS) Scan(ctx context.Context) ([]Task, error) { return fs.all(ctx, false) }

// Outline is Scan but for the arguments of processes in pid namespaces below, whose
// memory is left alone.
func (fs *FS) Outline(ctx context.Context) ([]Task, error) { return fs.all(ctx, true) }

func (fs *FS) all(ctx context.Context, outline bool) ([]Task, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	pids, err := fs.listPids()
	if err != nil {
		return nil, err
	}
	return fs.read(ctx, pids, outline)
}

// Rescan reads single processes again, see Scan; as an outline has them, if it is to
// be one. Those that could not be read are missing.
func (fs *FS) Rescan(ctx context.Context, outline bool, pids ...int) []Task {
	tasks, _ := fs.read(ctx, pids, outline)
	return tasks
}

func (fs *FS) read(ctx context.Context, pids []int, outline bool) ([]Task, error) {
	if len(pids) == 0 {
		return []Task{}, nil
	}
	s, err := newScan(fs, pids)
	if err != nil {
		return nil, err
	}
	s.outline = outline
	defer s.release()
	err = s.run(ctx)
	tasks, missing := s.told()
	if err == nil && missing > 0 {
		err = fmt.Errorf("%w: %d", ErrIncomplete, missing)
	}
	return tasks, err
}

// identity is a process's, while the machine runs.
type identity struct {
	pid   int
	start uint64
}

// silent are the processes that somebody still waits for: they are not asked
// again, lest each look at all processes loses a thread to them.
var silent waitedFor

type waitedFor struct {
	mu  sync.Mutex
	all map[identity]bool
}

func (s *waitedFor) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all)
}

func (s *waitedFor) has(id identity) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[id]
}

func (s *waitedFor) set(id identity, is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[identity]bool{}
	}
	if is {
		s.all[id] = true
	} else {
		delete(s.all, id)
	}
}

// scan is one Scan while it lasts. Its readers may outlive it.
type scan struct {
	root  *os.File // its own, closed by whoever is last
	users atomic.Int32
	own   uint64 // the reader's pid namespace
	slots []slot
	tasks []Task       // of the slots
	next  atomic.Int64 // slot

	outline bool
	careful atomic.Bool // as many wait as may

	workers []*worker
	left    int          // workers that were left to themselves
	ended   chan *worker // of the others
	quit    chan struct{}
}

// slot is a process while it is read: by its reader until that has stored a
// state, then by nobody but whoever changes that.
type slot struct {
	task  *Task
	pid   int
	state atomic.Uint32
}

const (
	unread  = iota
	asked   // all is there but its arguments
	told    // they are being stored
	done    // it is complete, or silent
	nowhere // it is gone
)

func newScan(fs *FS, pids []int) (*scan, error) {
	var fd int
	var errno error
	err := sys.Control(fs.root, func(at int) { fd, errno = unix.FcntlInt(uintptr(at), unix.F_DUPFD_CLOEXEC, 0) })
	if err = first(err, errno); err != nil {
		return nil, err
	}
	s := &scan{root: os.NewFile(uintptr(fd), "/proc"), slots: make([]slot, len(pids)), tasks: make([]Task, len(pids)),
		ended: make(chan *worker), quit: make(chan struct{})}
	s.users.Store(1)
	for i, pid := range pids {
		s.slots[i].pid, s.slots[i].task = pid, &s.tasks[i]
	}
	s.own, _ = (&reader{root: fd}).namespace(os.Getpid())
	s.careful.Store(silent.count() >= maxSilent)
	return s, nil
}

func (s *scan) release() {
	if s.users.Add(-1) == 0 {
		s.root.Close()
	}
}

// worker is a reader that goes from process to process.
type worker struct {
	at   atomic.Int64 // slot
	late atomic.Bool  // another has taken its place
	// The rest is of whoever watches it.
	seen  int64 // slot that it was at
	since time.Time
}

// work reads processes until there are none left, or until it was late. It says
// so unless nobody asks any more.
func (s *scan) work(w *worker) {
	defer s.release()
	_ = sys.Control(s.root, func(fd int) {
		r := &reader{root: fd, own: s.own, outline: s.outline, careful: &s.careful}
		defer r.spaces.close()
		for !w.late.Load() {
			i := s.next.Add(1) - 1
			if i >= int64(len(s.slots)) {
				break
			}
			w.at.Store(i)
			r.slot(&s.slots[i])
		}
	})
	select {
	case s.ended <- w:
	case <-s.quit:
	}
}

// start has another worker work.
func (s *scan) start() {
	w := &worker{seen: -1}
	w.at.Store(-1)
	s.workers = append(s.workers, w)
	s.users.Add(1)
	go s.work(w)
}

// run has the slots filled: by a few workers, and others in the place of those
// that wait for a process.
func (s *scan) run(ctx context.Context) error {
	defer s.stop()
	for range max(1, min(scanReaders, runtime.GOMAXPROCS(0), len(s.slots)/8)) {
		s.start()
	}
	tick := time.NewTicker(lateTime)
	defer tick.Stop()
	for len(s.workers) > 0 {
		select {
		case w := <-s.ended:
			s.workers = slices.DeleteFunc(s.workers, func(other *worker) bool { return other == w })
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrIncomplete, ctx.Err())
		case now := <-tick.C:
			s.watch(now)
		}
	}
	return nil
}

// watch looks at each worker: it puts another one in the place of who is late,
// and leaves who waits too long to itself.
func (s *scan) watch(now time.Time) {
	waiting, replace := s.left, 0
	for _, w := range s.workers {
		if w.late.Load() {
			waiting++
		}
	}
	s.careful.Store(waiting >= maxLate || waiting+silent.count() >= maxSilent)
	s.workers = slices.DeleteFunc(s.workers, func(w *worker) bool {
		at := w.at.Load()
		switch {
		case at < 0:
		case at != w.seen:
			w.seen, w.since = at, now
		case now.Sub(w.since) >= silentTime:
			s.left++
			return true
		case now.Sub(w.since) >= lateTime && !w.late.Load():
			w.late.Store(true)
			replace++
		}
		return false
	})
	for range replace {
		s.start()
	}
}

// stop ends the scan: what has not told its arguments by now is silent.
func (s *scan) stop() {
	close(s.quit)
	s.next.Store(int64(len(s.slots)))
	for i := range s.slots {
		slot := &s.slots[i]
		for slot.state.Load() == told {
			runtime.Gosched() // it is stored right now
		}
		if slot.state.Load() != asked {
			continue
		}
		id := identity{slot.pid, slot.task.Start}
		silent.set(id, true) // before its reader can find that it was given up
		if slot.state.CompareAndSwap(asked, done) {
			slot.task.Silent = true
		} else {
			silent.set(id, false)
		}
	}
}

// told are the tasks that were read, and how many could not be. They stay where
// they are, unless there is a reader left that may yet write there.
func (s *scan) told() (tasks []Task, missing int) {
	tasks = s.tasks[:0]
	if len(s.workers)+s.left > 0 {
		tasks = make([]Task, 0, len(s.slots))
	}
	for i := range s.slots {
		switch s.slots[i].state.Load() {
		case done:
			tasks = append(tasks, *s.slots[i].task)
		case nowhere:
		default:
			missing++
		}
	}
	slices.SortFunc(tasks, func(a, b Task) int { return a.PID - b.PID })
	return tasks, missing
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
