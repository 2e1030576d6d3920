// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/outband/outband"
	"github.com/outband/outband/engine"
)

// healthy is a report in which nothing is wrong.
func healthy() *Report {
	most, fds := uint64(100), uint64(1024)
	via := netip.MustParseAddr("192.0.2.1")
	return &Report{
		Name: "web", State: "running", Init: &Init{PID: 40, PIDs: []int{40, 1}, Comm: "init", State: "S"},
		Processes:   &Processes{Count: 3},
		Limits:      []Limit{{Name: "processes", Used: 3, Max: &most, Of: "/web"}, {Name: "memory", Used: 1 << 30, Of: "/web"}, {Name: "open files", Used: 4, Max: &fds, Of: "init"}},
		CPU:         &CPU{Periods: 1000, Throttled: 100, Of: "/web"},
		Pressure:    []Pressure{{"cpu", 10, 0}},
		Filesystems: []Filesystem{{Point: "/", Type: "overlay", Answers: true, Size: 1000, Used: 500, Inodes: 100, UsedInodes: 10}},
		Names:       &Names{Servers: []string{"192.0.2.53"}},
		Network: &Network{
			Interfaces: []string{"lo", "eth0"}, Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("192.0.2.2")},
			Routes: []Route{{To: netip.MustParsePrefix("0.0.0.0/0"), Via: &via, Interface: "eth0"}, {To: netip.MustParsePrefix("192.0.2.0/24"), Interface: "eth0"}},
		},
	}
}

func process(pid int) Process { return Process{PIDs: []int{pid + 100, pid}, Comm: "x", Parent: 40} }

func many(n int) (list []Process) {
	for i := range n {
		list = append(list, process(i+2))
	}
	return list
}

// judgements are changes of a healthy report, and what is found then: the grade,
// what it is about and a part of the text.
func judgements() map[string]struct {
	change func(*Report)
	want   []string
} {
	type row = struct {
		change func(*Report)
		want   []string
	}
	limit := func(i int, used, most uint64) func(*Report) {
		return func(r *Report) { r.Limits[i].Used, r.Limits[i].Max = used, &most }
	}
	disk := func(f func(*Filesystem)) func(*Report) { return func(r *Report) { f(&r.Filesystems[0]) } }
	return map[string]row{
		"nothing": {func(*Report) {}, nil},
		"frozen":  {func(r *Report) { r.Init.Frozen = []string{"/a"} }, []string{"bad init: it is frozen: cgroup /a"}},
		"stopped init": {func(r *Report) { r.Init.State, r.Processes.Stopped = "T", []Process{{PIDs: []int{40, 1}}} },
			[]string{"bad init: its first process is stopped"}},
		"zombie init": {func(r *Report) { r.Init.State = "Z" }, []string{"bad init: its first process has ended"}},
		"waiting": {func(r *Report) {
			w := process(7)
			w.Wait, w.Syscall = "fuse_wait", "read"
			r.Processes.Waiting = []Process{w}
		},
			[]string{"bad processes: 1 process waits in the kernel, and no signal ends that: 7 x in read (fuse_wait)"}},
		"init waits": {func(r *Report) { r.Processes.Waiting = []Process{{PIDs: []int{40, 1}, Comm: "init"}} },
			[]string{"bad init: its first process waits", "bad processes: 1 process waits in the kernel, and no signal ends that: 1 init in what cannot be read"}},
		"zombies": {func(r *Report) { r.Processes.Zombies = many(6) },
			[]string{"note processes: 6 processes have ended and not reaped, 6 of them by process 40 of the host: 2 x, 3 x, 4 x, 5 x, and 2 more"}},
		"many zombies":    {func(r *Report) { r.Processes.Zombies = many(100) }, []string{"bad processes: 100 processes"}},
		"stopped":         {func(r *Report) { r.Processes.Stopped = many(1) }, []string{"note processes: 1 process is stopped: 2 x"}},
		"processes":       {limit(0, 90, 100), []string{"note processes: 90 of 100 in use (/web)"}},
		"no process left": {limit(0, 100, 100), []string{"bad processes: 100 of 100 in use (/web)"}},
		"refused":         {func(r *Report) { r.Limits[0].Refused = 2 }, []string{"note processes: the limit of 100 was reached 2 times (/web)"}},
		"refused above":   {func(r *Report) { r.Limits[0].Refused, r.Limits[0].Max = 1, nil }, []string{"note processes: the limit of a group above was reached 1 time (/web)"}},
		"memory":          {limit(1, 99<<20, 100<<20), []string{"bad memory: 99.0 MiB of 100 MiB in use (/web)"}},
		"caches":          {func(r *Report) { limit(1, 99<<20, 100<<20)(r); r.Limits[1].Reclaimable = 50 << 20 }, nil},
		"no limit of 0":   {limit(1, 0, 0), nil},
		"killed":          {func(r *Report) { r.OOMKills = 3 }, []string{"note memory: out of memory: the kernel has killed 3 processes"}},
		"files":           {limit(2, 1024, 1024), []string{"bad open files: 1024 of 1024 in use (init)"}},
		"throttled":       {func(r *Report) { r.CPU.Throttled = 300 }, []string{"note cpu: held back in 30 % of periods (/web)"}},
		"pressed":         {func(r *Report) { r.Pressure[0].Some = 55 }, []string{"note cpu: some of it waited for cpu in 55 %"}},
		"dead":            {disk(func(f *Filesystem) { f.Answers = false }), []string{"bad file system /: it does not answer"}},
		"gone read-only":  {disk(func(f *Filesystem) { f.Failed, f.ReadOnly = true, true }), []string{"bad file system /: it has gone read-only by itself"}},
		"read-only":       {disk(func(f *Filesystem) { f.ReadOnly, f.Used = true, 1000 }), nil},
		"image":           {disk(func(f *Filesystem) { f.Type, f.Used = "squashfs", 1000 }), nil},
		"nearly full":     {disk(func(f *Filesystem) { f.Used = 950 }), []string{"note file system /: 950 B of 1000 B in use"}},
		"full":            {disk(func(f *Filesystem) { f.Used = 1000 }), []string{"bad file system /: 1000 B of 1000 B in use"}},
		"no inode":        {disk(func(f *Filesystem) { f.UsedInodes = 100 }), []string{"bad file system /: 100 of 100 inodes in use"}},
		"no default":      {func(r *Report) { r.Network.Routes = r.Network.Routes[1:] }, []string{"note network: there is no default route"}},
		"unreachable": {func(r *Report) { r.Network.Routes[0].Reject = true; r.Names.Servers[0] = "8.8.8.8" },
			[]string{"bad names: no route leads to the server 8.8.8.8", "note network: there is no default route"}},
		"nobody accepts": {func(r *Report) {
			r.Network.Listening = []Socket{{Kind: "tcp", Address: "0.0.0.0:80", Waiting: 9, PIDs: []int{41, 2}, Comm: "x"}}
		},
			[]string{"note network: 9 connections to 0.0.0.0:80 wait to be accepted by 2 x"}},
		"no server":      {func(r *Report) { r.Names.Servers = nil }, []string{"note names: no server"}},
		"no resolver":    {func(r *Report) { r.Names = &Names{Error: "there is none"} }, []string{"note names: there is no /etc/resolv.conf"}},
		"resolver hangs": {func(r *Report) { r.Names = &Names{Error: "filesystem not responding"} }, []string{"bad names: /etc/resolv.conf: filesystem not responding"}},
		"no address":     {func(r *Report) { r.Names.Servers = []string{"dns.example"} }, []string{`bad names: /etc/resolv.conf: "dns.example" is no address`}},
		"alone": {func(r *Report) {
			r.Network, r.Names = &Network{Interfaces: []string{"lo"}}, &Names{Error: "there is none"}
		}, nil},
		"nothing seen": {func(r *Report) { *r = Report{Init: r.Init} }, nil},
		"ended":        {func(r *Report) { *r = Report{Last: &Last{Code: 0}} }, []string{"note init: it does not run: exit code 0"}},
		"killed once": {func(r *Report) { *r = Report{Last: &Last{Code: 137, OOM: true, At: time.Unix(0, 0)}} },
			[]string{"bad init: it does not run: exit code 137, out of memory at 1970-01-01 00:00:00 UTC"}},
		"by a signal": {func(r *Report) { *r = Report{Last: &Last{Code: 139}} }, []string{"bad init: it does not run: exit code 139 (signal 11)"}},
		"unknown end": {func(r *Report) { *r = Report{} }, []string{"note init: it does not run"}},
	}
}

// TestJudge changes a healthy report in one thing each.
func TestJudge(t *testing.T) {
	for name, c := range judgements() {
		t.Run(name, func(t *testing.T) {
			r := healthy()
			c.change(r)
			r.judge()
			if len(r.Findings) != len(c.want) {
				t.Fatalf("%+v, want %q", r.Findings, c.want)
			}
			for i, f := range r.Findings {
				if got := fmt.Sprintf("%s %s: %s", f.Grade, f.About, f.Text); !strings.HasPrefix(got, c.want[i]) {
					t.Errorf("%q, want %q", got, c.want[i])
				}
			}
			want := OK
			if len(c.want) > 0 {
				want = r.Findings[0].Grade
			}
			if r.Verdict != want {
				t.Errorf("verdict %s, want %s", r.Verdict, want)
			}
		})
	}
}

// TestJudgeTwice: what was found before does not count again.
func TestJudgeTwice(t *testing.T) {
	r := healthy()
	r.OOMKills = 1
	r.judge()
	first := r.Findings
	if r.judge(); !reflect.DeepEqual(r.Findings, first) || len(first) != 1 {
		t.Errorf("%+v, then %+v", first, r.Findings)
	}
}

// keeper is an engine that has one container, of which a search by name tells less.
type keeper struct{ engine.Container }

func (k keeper) Name() string { return k.Engine }

func (k keeper) List(_ context.Context, h *engine.Host) ([]engine.Container, error) {
	c := k.Container
	if h.Brief() {
		c.Restart, c.Exit = "", nil
	}
	return []engine.Container{c}, nil
}

// broken is an engine that cannot be asked.
type broken struct{}

func (broken) Name() string { return "broken" }

func (broken) List(context.Context, *engine.Host) ([]engine.Container, error) {
	return nil, errors.Join(errors.New("a is denied"), errors.New("b is denied"))
}

// Of a container that does not run all is told that its engine knows, not what a
// search by name has found.
func TestStopped(t *testing.T) {
	c := engine.Container{Engine: "docker", Name: "web", ID: "1", State: engine.Stopped, Restart: "always", Exit: &engine.Exit{Code: 1}}
	engines := []engine.Engine{broken{}, keeper{c}}
	_, err := outband.OpenIn(t.Context(), "docker:web", t.TempDir(), engines...)
	var found *engine.NotRunningError
	if !errors.As(err, &found) {
		t.Fatal(err)
	}
	r := Stopped(t.Context(), &found.Container, engines...)
	if r.Name != "docker:web" || r.State != "stopped" || r.Restart != "always" || r.Last == nil || r.Last.Code != 1 || r.Verdict != Bad || r.Init != nil || r.Unseen != nil {
		t.Errorf("%+v", r)
	}
	r = Stopped(t.Context(), &c, broken{})
	if want := []Unseen{{"engine", "broken: list containers: a is denied; b is denied"}}; r.Name != "docker:web" || !slices.Equal(r.Unseen, want) {
		t.Errorf("%+v", r)
	}
}

// Errors that are joined stand on one line.
func TestUnseen(t *testing.T) {
	r := &Report{}
	r.unseen("engine", "%v", errors.Join(errors.New("a"), errors.New("b")))
	if want := []Unseen{{"engine", "a; b"}}; !slices.Equal(r.Unseen, want) {
		t.Errorf("%q", r.Unseen)
	}
}

// A hint is a command line: no name makes two of it (A22).
func TestHintWord(t *testing.T) {
	for name, want := range map[string]string{
		"docker:web": "outband enter docker:web --cgroup none ", "podman@u:x; id #": "outband enter 'podman@u:x; id #' --cgroup none ",
		"podman@u:x\nid\n": `outband enter 'podman@u:x\nid\n' --cgroup none `,
	} {
		r := healthy()
		r.Name, r.Init.Frozen = name, []string{"/a"}
		if r.judge(); len(r.Findings) != 1 || !strings.HasPrefix(r.Findings[0].Hint, want) {
			t.Errorf("%+v, want %q", r.Findings, want)
		}
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 150 << 20: "150 MiB", 1<<64 - 1: "16.0 EiB"} {
		if got := Bytes(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
