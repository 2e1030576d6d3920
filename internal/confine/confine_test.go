// SPDX-License-Identifier: Apache-2.0

package confine

import (
	"errors"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
)

// stateOf reads how a process is confined.
func stateOf(t *testing.T, pid int) State {
	t.Helper()
	fs, err := procfs.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer fs.Close()
	dir, err := fs.Process(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	status, err := dir.Status()
	if err != nil {
		t.Fatal(err)
	}
	stat, err := dir.ReadFile("stat")
	if err != nil {
		t.Fatal(err)
	}
	state, err := Read(dir, status, stat)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// What is read of a container is what it was made with.
func TestRead(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	const sysTime = 1 << unix.CAP_SYS_TIME
	c := testutil.Throwaway(t, throwaway.Spec{
		UID: 1001, GID: 1002, Groups: []int{7, 8}, DropCaps: sysTime, AmbientCaps: 1 << unix.CAP_CHOWN, NoNewPrivs: true,
		Rlimits: map[int]unix.Rlimit{unix.RLIMIT_CORE: {Cur: 10, Max: 20}}, Umask: 0o27, OOMScoreAdj: 123,
	})
	got := stateOf(t, c.Pid())
	want := stateOf(t, os.Getpid())
	want.UID, want.GID, want.Groups = [3]uint32{1001, 1001, 1001}, [3]uint32{1002, 1002, 1002}, []uint32{7, 8}
	want.Caps.Effective, want.Caps.Permitted, want.Caps.Inheritable, want.Caps.Ambient = 1, 1, 1, 1
	want.Caps.Bounding &^= sysTime
	want.NoNewPrivs, want.Umask, want.OOMScoreAdj = true, 0o27, 123
	want.Limits[unix.RLIMIT_CORE] = unix.Rlimit{Cur: 10, Max: 20}
	for _, d := range Compare(want, got) {
		t.Errorf("%+v", d)
	}
}

// A filter of system calls is seen.
func TestReadSeccomp(t *testing.T) {
	cmd := exec.Command("/proc/self/exe", filterArg)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { in.Close(); _ = cmd.Wait() }()
	if n, err := out.Read(make([]byte, 1)); n != 1 {
		t.Fatal(err)
	}
	if s := stateOf(t, cmd.Process.Pid); s.Seccomp != 2 || s.Filters != 1 && s.Filters != -1 || !s.NoNewPrivs {
		t.Errorf("%+v", s)
	}
}

func TestReadWhatIsGone(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	fs, err := procfs.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer fs.Close()
	dir, err := fs.Process(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	_ = cmd.Wait()
	if s, err := Read(dir, procfs.Status{NSpid: []int{cmd.Process.Pid}}, nil); !errors.Is(err, unix.ESRCH) && !errors.Is(err, unix.ENOENT) {
		t.Errorf("%+v, %v, want ESRCH", s, err)
	}
}

func TestTranslate(t *testing.T) {
	full := procfs.IDMap{{Inside: 0, Outside: 100000, Count: 65536}}
	single := procfs.IDMap{{Inside: 1000, Outside: 0, Count: 1}}
	own := procfs.IDMap{{Inside: 0, Outside: 0, Count: 4294967295}}
	tests := []struct {
		name       string
		uids, gids procfs.IDMap
		uid, gid   [3]uint32
		groups     []uint32
		want       Inside
	}{
		{"the same namespace", own, own, [3]uint32{1, 2, 3}, [3]uint32{4, 5, 6}, []uint32{7},
			Inside{UID: [3]uint32{1, 2, 3}, GID: [3]uint32{4, 5, 6}, Groups: []uint32{7}, Mapped: true}},
		{"a range", full, full, [3]uint32{100000, 101000, 165535}, [3]uint32{100000, 100001, 100002}, []uint32{100024},
			Inside{UID: [3]uint32{0, 1000, 65535}, GID: [3]uint32{0, 1, 2}, Groups: []uint32{24}, Mapped: true}},
		{"one number, not 0", single, single, [3]uint32{}, [3]uint32{}, nil,
			Inside{UID: [3]uint32{1000, 1000, 1000}, GID: [3]uint32{1000, 1000, 1000}, Groups: []uint32{}, Mapped: true}},
		{"an effective user without", full, full, [3]uint32{100000, 5, 100000}, [3]uint32{100000, 100000, 100000}, nil,
			Inside{UID: [3]uint32{0, 65534, 0}, Groups: []uint32{}}},
		{"a group without", full, full, [3]uint32{100000, 100000, 100000}, [3]uint32{100000, 100000, 7}, nil,
			Inside{GID: [3]uint32{0, 0, 65534}, Groups: []uint32{}}},
		{"a supplementary group without", full, full, [3]uint32{100000, 100000, 100000}, [3]uint32{100000, 100000, 100000}, []uint32{100001, 65534},
			Inside{Groups: []uint32{1, 65534}}},
		{"no map yet", nil, nil, [3]uint32{65534, 65534, 65534}, [3]uint32{65534, 65534, 65534}, nil,
			Inside{UID: [3]uint32{65534, 65534, 65534}, GID: [3]uint32{65534, 65534, 65534}, Groups: []uint32{}}},
	}
	for _, test := range tests {
		got := State{UID: test.uid, GID: test.gid, Groups: test.groups}.Translate(test.uids, test.gids)
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %+v, want %+v", test.name, got, test.want)
		}
	}
}

func TestCompare(t *testing.T) {
	init := State{
		UID: [3]uint32{1, 2, 3}, GID: [3]uint32{4, 5, 6}, Groups: []uint32{7},
		Caps:       Caps{Effective: 0b0110, Permitted: 0b0110, Inheritable: 0b0110, Bounding: 0b0110, Ambient: 0b0110},
		NoNewPrivs: true, Seccomp: 2, Filters: 3, Label: "confined", OOMScoreAdj: 5, Umask: 0o22,
	}
	init.Limits[unix.RLIMIT_NOFILE] = unix.Rlimit{Cur: 10, Max: 20}
	tests := []struct {
		field  string
		change func(*State)
		more   bool
	}{
		{"uid", func(s *State) { s.UID[1] = 0 }, false},
		{"gid", func(s *State) { s.GID[2] = 0 }, false},
		{"groups", func(s *State) { s.Groups = nil }, false},
		{"effective", func(s *State) { s.Caps.Effective = 0b0010 }, false},
		{"effective", func(s *State) { s.Caps.Effective = 0b1000 }, true},
		{"permitted", func(s *State) { s.Caps.Permitted |= 1 }, true},
		{"inheritable", func(s *State) { s.Caps.Inheritable = 0 }, false},
		{"bounding", func(s *State) { s.Caps.Bounding |= 1 << 40 }, true},
		{"ambient", func(s *State) { s.Caps.Ambient = 1 }, true},
		{"no_new_privs", func(s *State) { s.NoNewPrivs = false }, true},
		{"seccomp", func(s *State) { s.Seccomp = 0 }, true},
		{"filters", func(s *State) { s.Filters = 2 }, true},
		{"filters", func(s *State) { s.Filters = 4 }, false},
		{"lsm", func(s *State) { s.Label = "unconfined" }, true},
		{"limit: Max open files", func(s *State) { s.Limits[unix.RLIMIT_NOFILE].Cur = 9 }, false},
		{"limit: Max open files", func(s *State) { s.Limits[unix.RLIMIT_NOFILE].Max = 21 }, true},
		{"oom_score_adj", func(s *State) { s.OOMScoreAdj = 4 }, true},
		{"oom_score_adj", func(s *State) { s.OOMScoreAdj = 6 }, false},
		{"umask", func(s *State) { s.Umask = 0 }, false},
	}
	for _, test := range tests {
		p := init
		p.Groups = slices.Clone(init.Groups)
		test.change(&p)
		ds := Compare(init, p)
		if len(ds) != 1 || ds[0].Field != test.field || ds[0].Privilege != test.more || ds[0].Init == ds[0].Process {
			t.Errorf("%s: %+v", test.field, ds)
		}
	}
	if ds := Compare(init, init); len(ds) != 0 {
		t.Errorf("of itself: %+v", ds)
	}
	// No field of a State is left out of the comparison.
	if all := Compare(init, State{Limits: procfs.Limits{unix.RLIMIT_CPU: {Cur: 1}}}); len(all) < reflect.TypeFor[State]().NumField()+4 {
		t.Errorf("%d differences of an empty state: %s", len(all), fields(all))
	}
}

func fields(ds []Difference) string {
	var names []string
	for _, d := range ds {
		names = append(names, d.Field)
	}
	return strings.Join(names, ", ")
}

func TestParse(t *testing.T) {
	limits := procfs.Limits{unix.RLIMIT_CORE: {Cur: 1, Max: 2}}
	tests := []struct {
		name         string
		score, label string
		want         State // its OOMScoreAdj and Label
		fails        bool
	}{
		{"without a label", "-17\n", "", State{OOMScoreAdj: -17}, false},
		{"AppArmor's", "0\n", "docker-default (enforce)\n", State{Label: "docker-default (enforce)"}, false},
		{"SELinux's", "1000\n", "system_u:system_r:container_t:s0:c1,c2\x00", State{OOMScoreAdj: 1000, Label: "system_u:system_r:container_t:s0:c1,c2"}, false},
		{"no score", "", "", State{}, true},
		{"a score that is none", "x\n", "", State{}, true},
	}
	for _, test := range tests {
		got, err := Parse(procfs.Status{}, limits, []byte(test.score), []byte(test.label))
		if (err != nil) != test.fails || err != nil && !errors.Is(err, procfs.ErrFormat) {
			t.Errorf("%s: %v", test.name, err)
		}
		if !test.fails && got.Limits != limits || got.OOMScoreAdj != test.want.OOMScoreAdj || got.Label != test.want.Label {
			t.Errorf("%s: %+v", test.name, got)
		}
	}
}

// What a kernel says of no I/O priority can be set.
func TestIOPriority(t *testing.T) {
	for n, want := range map[int]int{0: 0, 4: 0, 7: 0, 1 << 13: 1 << 13, 2<<13 | 4: 2<<13 | 4, 3<<13 | 7: 3<<13 | 7} {
		if got := ioPriority(n); got != want {
			t.Errorf("%#x: %#x, want %#x", n, got, want)
		}
	}
}
