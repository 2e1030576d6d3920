// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
)

func scanAll(t *testing.T, fs *FS) map[int]Task {
	t.Helper()
	tasks, err := fs.Scan(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	all := map[int]Task{}
	for _, task := range tasks {
		all[task.PID] = task
	}
	if len(all) != len(tasks) || !slices.IsSortedFunc(tasks, func(a, b Task) int { return a.PID - b.PID }) {
		t.Errorf("%d tasks, %d numbers", len(tasks), len(all))
	}
	return all
}

// What a scan says of a process is what its files say one by one.
func TestScan(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	fs := open(t)
	c := testutil.Throwaway(t, throwaway.Spec{Depth: 3, Workers: [][]string{{"sleep", "infinity"}}})
	all := scanAll(t, fs)
	for _, pid := range []int{os.Getpid(), c.Pid(), c.Leaf().Pid(), 1} {
		task, ok := all[pid]
		if !ok {
			t.Fatalf("%d is missing", pid)
		}
		dir, err := fs.Process(pid)
		if err != nil {
			t.Fatal(err)
		}
		status, err := dir.Status()
		stat, serr := dir.ReadFile("stat")
		line, lerr := dir.ReadHead("cmdline", MaxCmdline)
		dir.Close()
		if err := errors.Join(err, serr, lerr); err != nil {
			t.Fatal(err)
		}
		start, _ := ParseStart(stat)
		if !slices.Equal(task.NSpid, status.NSpid) || task.Parent != status.PPid || task.UID != status.UID[1] ||
			task.Comm != status.Name || task.Start != start || task.Cmdline != string(line) {
			t.Errorf("%d: %+v is not %+v", pid, task, status)
		}
	}
	if self := all[os.Getpid()]; self.PIDNS == 0 || self.PIDNS == all[c.Pid()].PIDNS || all[1].PIDNS != self.PIDNS {
		t.Errorf("pid namespaces %d, %d, %d", all[1].PIDNS, self.PIDNS, all[c.Pid()].PIDNS)
	}
}

// An outline lacks the arguments of processes in pid namespaces below, and nothing
// else: their memory is not asked for.
func TestOutline(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	fs := open(t)
	c := testutil.Throwaway(t, throwaway.Spec{Depth: 2})
	tasks, err := fs.Outline(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all := scanAll(t, fs)
	for _, pid := range []int{os.Getpid(), c.Pid(), c.Leaf().Pid()} {
		i, ok := Search(tasks, pid)
		if !ok {
			t.Fatalf("%d is missing", pid)
		}
		want := all[pid]
		if want.Cmdline == "" {
			t.Errorf("%+v", want)
		}
		if len(want.NSpid) > 1 {
			want.Cmdline = ""
		}
		tasks[i].State, want.State = 0, 0 // it goes on meanwhile
		if !reflect.DeepEqual(tasks[i], want) {
			t.Errorf("%+v, want %+v", tasks[i], want)
		}
	}
}

// Where the kernel cannot translate numbers, status has the same.
func TestLevelsBothWays(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	fs := open(t)
	c := testutil.Throwaway(t, throwaway.Spec{Depth: 4})
	pids := []int{c.Pid(), c.Inner[0].Pid(), c.Leaf().Pid()}
	read := func(way func(*spaces)) (out [][]int) {
		r := &reader{root: int(fs.root.Fd())}
		r.own, _ = r.namespace(os.Getpid())
		way(&r.spaces)
		defer r.spaces.close()
		for _, pid := range append(pids, pids...) {
			var task Task
			if !r.task(pid, &task) {
				t.Fatalf("%d is missing", pid)
			}
			out = append(out, task.NSpid)
		}
		return out
	}
	first := read(func(*spaces) {}) // by a pidfd, then by the namespaces
	for what, way := range map[string]func(*spaces){
		"a pidfd": func(s *spaces) { s.missing = true }, "status": func(s *spaces) { s.fdinfo, s.missing = -1, true },
	} {
		if got := read(way); !slices.EqualFunc(first, got, slices.Equal) {
			t.Errorf("the kernel says %v, %s %v", first, what, got)
		}
	}
}

// A reader lets go of namespaces before it holds too many.
func TestSpacesAreBounded(t *testing.T) {
	testutil.NoLeaks(t)
	r := &reader{}
	for i := range uint64(3 * maxSpaces) {
		fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		r.keep(i, []int{fd})
		if len(r.spaces.chains) > maxSpaces {
			t.Fatalf("%d are open", len(r.spaces.chains))
		}
	}
	r.spaces.close()
}

// Processes come and go while they are read: each that is there is as it was, and
// one that was there all the time is never missing.
func TestScanChurn(t *testing.T) {
	testutil.NoLeaks(t)
	fs := open(t)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_ = exec.Command("/bin/true").Run()
				}
			}
		})
	}
	for until := time.Now().Add(time.Second); time.Now().Before(until); {
		all := scanAll(t, fs)
		self, ok := all[os.Getpid()]
		if !ok || self.Parent != os.Getppid() {
			t.Fatalf("the test itself: %v, %+v", ok, self)
		}
		for _, task := range all {
			if len(task.NSpid) == 0 || task.NSpid[0] != task.PID || task.Start == 0 && task.PID > 2 && !task.Kthread {
				t.Fatalf("%+v", task)
			}
		}
	}
	close(stop)
	wg.Wait()
}

// Zombies have a name and no arguments; hostile arguments are cut.
func TestScanOdd(t *testing.T) {
	testutil.NoLeaks(t)
	fs := open(t)
	long := exec.Command("sleep", "1000")
	long.Args = append(long.Args, strings.Repeat("x", 100000))
	long.Args[0] = "a\x1b[31mb"
	long.Args = []string{long.Args[0], "1000"}
	for range 1500 {
		long.Args = append(long.Args, "1000000000")
	}
	long.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	dead := exec.Command("true")
	if err := errors.Join(long.Start(), dead.Start()); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = long.Process.Kill(); _ = long.Wait(); _ = dead.Wait() }()
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, dead.Process.Pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	all := scanAll(t, fs)
	if z := all[dead.Process.Pid]; z.State != 'Z' || z.Comm != "true" || z.Cmdline != "" || !z.Exiting {
		t.Errorf("zombie: %+v", z)
	}
	if l := all[long.Process.Pid]; len(l.Cmdline) != MaxCmdline || !strings.HasPrefix(l.Cmdline, "a\x1b[31mb\x001000\x00") {
		t.Errorf("long: %d bytes", len(l.Cmdline))
	}
}

// A scan ends with its context.
func TestScanStops(t *testing.T) {
	testutil.NoLeaks(t)
	fs := open(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if tasks, err := fs.Scan(ctx); !errors.Is(err, context.Canceled) || tasks != nil {
		t.Errorf("%d tasks, %v", len(tasks), err)
	}
}

func TestParseTask(t *testing.T) {
	rest := " S 1 2 3 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 6 7"
	tests := []struct {
		stat string
		want Task
		bad  bool
	}{
		{stat: "7 (sh)" + rest, want: Task{PID: 7, Comm: "sh", State: 'S', Parent: 1, Start: 12345}},
		{stat: "7 (a) S 1 (b)" + rest, want: Task{PID: 7, Comm: "a) S 1 (b", State: 'S', Parent: 1, Start: 12345}},
		{stat: "7 (a\nb)" + rest, want: Task{PID: 7, Comm: "a\nb", State: 'S', Parent: 1, Start: 12345}},
		{stat: "7 ()" + rest, want: Task{PID: 7, State: 'S', Parent: 1, Start: 12345}},
		{stat: "2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 24 0 0", want: Task{PID: 2, Comm: "kthreadd", State: 'S', Kthread: true, Start: 24}},
		{stat: "9 (x) Z 1 9 9 0 -1 4227084 0 0 0 0 0 0 0 0 20 0 1 0 24 0 0", want: Task{PID: 9, Comm: "x", State: 'Z', Parent: 1, Exiting: true, Start: 24}},
		{stat: "", bad: true}, {stat: "7", bad: true}, {stat: "7 (sh)", bad: true}, {stat: "7 (sh) S 1", bad: true},
		{stat: "x (sh)" + rest, bad: true}, {stat: "(sh)" + rest, bad: true}, {stat: "7 )sh(" + rest, bad: true},
		{stat: "7 (sh) S x 2 3 0 -1 4 1 2 3 4 5 6 7 8 20 0 1 0 12345 6", bad: true},
	}
	for _, test := range tests {
		got, err := ParseTask([]byte(test.stat))
		if (err != nil) != test.bad || !test.bad && fmt.Sprint(got) != fmt.Sprint(test.want) || err != nil && !errors.Is(err, ErrFormat) {
			t.Errorf("%q: %+v, %v", test.stat, got, err)
		}
	}
}

func FuzzParseTask(f *testing.F) {
	f.Add([]byte("7 (sh) S 1 2 3 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 6 7"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if task, err := ParseTask(b); err == nil && !strings.Contains(string(b), task.Comm) {
			t.Errorf("%q is not from %q", task.Comm, b)
		}
	})
}

// entry is a directory entry as getdents64(2) writes it.
func entry(name string) []byte {
	size := (19 + len(name) + 1 + 7) / 8 * 8
	b := make([]byte, size)
	binary.NativeEndian.PutUint16(b[16:], uint16(size))
	copy(b[19:], name)
	return b
}

func TestAppendPids(t *testing.T) {
	var b []byte
	for _, name := range []string{".", "..", "1", "self", "42", "4194304", "7x", "x7", "99999999999999999999", ""} {
		b = append(b, entry(name)...)
	}
	if got := appendPids(nil, b); !slices.Equal(got, []int{1, 42, 4194304}) {
		t.Errorf("%v", got)
	}
}

func FuzzAppendPids(f *testing.F) {
	f.Add(entry("12"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, pid := range appendPids(nil, b) {
			if pid < 0 {
				t.Errorf("%d", pid)
			}
		}
	})
}

func TestParseSignals(t *testing.T) {
	blocked, caught, ok := ParseSignals([]byte("Name:\tx\nSigBlk:\t0000000000000001\nSigIgn:\t00\nSigCgt:\t0000000000004000\n"))
	if blocked != 1 || caught != 0x4000 || !ok {
		t.Errorf("%x %x %v", blocked, caught, ok)
	}
	for _, text := range []string{"", "SigBlk:\t1\n", "SigBlk:\t1\nSigCgt:\tx\n"} {
		if _, _, ok := ParseSignals([]byte(text)); ok {
			t.Errorf("%q is taken for an answer", text)
		}
	}
}

func BenchmarkScan(b *testing.B) {
	fs, err := Open()
	if err != nil {
		b.Fatal(err)
	}
	defer fs.Close()
	n := 0
	for b.Loop() {
		tasks, err := fs.Scan(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		n = len(tasks)
	}
	b.ReportMetric(float64(n), "processes")
}
