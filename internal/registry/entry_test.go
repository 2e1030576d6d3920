// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The names of the fields are a contract.
func TestFields(t *testing.T) {
	r := open(t, "")
	r.newID = func() string { return "1s0hgh5ss5" }
	login := uint32(1000)
	rec := Record{
		Started: time.Date(2026, 1, 2, 3, 4, 5, 60, time.FixedZone("", 3600)), Target: "docker:web", Verb: "console",
		Command: []string{"sh", "-c", "\xff\x1b"}, User: "www", Pids: []int{4711, 12},
		Init: Init{4242, 99, 4026532181}, By: By{0, &login, 77, "pts/3", "/root", "192.0.2.1 5 192.0.2.2 22"},
		Cgroup: "/a/b", Detached: true, Recording: "/root/x.cast",
	}
	e := begin(t, r, rec)
	const want = `{"id":"1s0hgh5ss5","started":"2026-01-02T02:04:05.00000006Z","target":"docker:web","verb":"console",` +
		`"command":["sh","-c","\ufffd\u001b"],"commandRaw":[null,null,"/xs="],"user":"www","pids":[4711,12],` +
		`"init":{"pid":4242,"started":99,"pidns":4026532181},` +
		`"by":{"uid":0,"login_uid":1000,"pid":77,"tty":"pts/3","cwd":"/root","ssh":"192.0.2.1 5 192.0.2.2 22"},` +
		`"cgroup":"/a/b","detached":true,"recording":"/root/x.cast"`
	checkFile(t, e.File().Name(), want+"}\n")
	err := e.End(Outcome{Ended: time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC), How: "exit 1", Error: "no\npty"})
	if err != nil {
		t.Fatal(err)
	}
	checkFile(t, filepath.Join(r.path, auditName),
		want+`,"ended":"2026-01-02T03:00:00Z","how":"exit 1","error":"no\u000apty"}`+"\n")
	if names := records(t, r); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
}

func checkFile(t *testing.T, path, want string) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s has\n%s, %v, want\n%s", path, got, err, want)
	}
}

// What is left out is left out, but lists are lists.
func TestFieldsOfNothing(t *testing.T) {
	r := open(t, "")
	begin(t, r, Record{}).End(Outcome{How: "exit 0"})
	data, err := os.ReadFile(filepath.Join(r.path, auditName))
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		t.Fatal(err)
	}
	if string(fields["command"]) != "[]" || string(fields["pids"]) != "[]" || string(fields["by"]) != `{"uid":0,"login_uid":null,"pid":0}` {
		t.Errorf("got %s", data)
	}
	for _, name := range []string{"init", "cgroup", "recording", "error"} {
		if v, ok := fields[name]; ok {
			t.Errorf("%s is %s", name, v)
		}
	}
}

func TestUpdate(t *testing.T) {
	r := open(t, "")
	rec := Record{Target: "\xff\u202e", Verb: "enter", Command: []string{"a\xff"}, Pids: []int{}}
	e := begin(t, r, rec)
	if got := live(t, r); got[0].Target != rec.Target || !slices.Equal(got[0].Command, rec.Command) {
		t.Errorf("got %+v", got[0])
	}
	err := e.Update(func(rec *Record) {
		rec.Pids, rec.ID, rec.Started = []int{7, 1}, "other", time.Time{}
	})
	if err != nil {
		t.Fatal(err)
	}
	got := live(t, r)[0]
	if got.ID != e.ID() || got.Started.IsZero() || !slices.Equal(got.Pids, []int{7, 1}) || got.Target != rec.Target {
		t.Errorf("got %+v", got)
	}
	if err := e.End(Outcome{How: "exit 0"}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(r.path, auditName))
	if err != nil || !strings.Contains(string(data), `"pids":[7,1]`) {
		t.Errorf("audited: %s, %v", data, err)
	}
}

// live returns the records of sessions that are alive.
func live(t *testing.T, r *Registry) []Record {
	t.Helper()
	list, err := r.List()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestEnded(t *testing.T) {
	r := open(t, "")
	ended, released := begin(t, r, Record{}), begin(t, r, Record{})
	if err := ended.End(Outcome{}); err != nil {
		t.Fatal(err)
	}
	if err := released.Release(); err != nil {
		t.Fatal(err)
	}
	for _, e := range []*Entry{ended, released} {
		errs := []error{e.End(Outcome{}), e.Release(), e.Update(func(*Record) {})}
		for i, err := range errs {
			if !errors.Is(err, ErrEnded) {
				t.Errorf("call %d: %v", i, err)
			}
		}
	}
	if n := len(auditLines(t, r)); n != 1 {
		t.Errorf("%d lines in the log, want 1", n)
	}
}

func TestListIsInOrder(t *testing.T) {
	r := open(t, "")
	var want []string
	for range 5 {
		e := begin(t, r, Record{})
		defer e.Release()
		want = append(want, e.ID())
	}
	var got []string
	for _, rec := range live(t, r) {
		got = append(got, rec.ID)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestID(t *testing.T) {
	last := ""
	for _, v := range []int64{0, 1, 31, 32, 1 << 30, 1<<50 - 1} {
		id := formatID(v)
		if got, ok := recordID(id + recordSuffix); !ok || got != id || id <= last {
			t.Errorf("%d is %q, after %q", v, id, last)
		}
		last = id
	}
	for _, name := range []string{"", ".json", "1s0hgh5ss5", "1s0hgh5ssu.json", "1S0HGH5SS5.json", "../s/xxxxx.json", "1s0hgh5ss51.json"} {
		if id, ok := recordID(name); ok {
			t.Errorf("%q has the id %q", name, id)
		}
	}
}

// Ids of one source are unique and in order, also when the clock is behind.
func TestIDSource(t *testing.T) {
	var s idSource
	s.last.Store(time.Since(time.Unix(idEpoch, 0)).Microseconds() + 3600e6)
	ids := make(chan []string)
	for range 4 {
		go func() {
			var own []string
			for range 1000 {
				own = append(own, s.next())
			}
			ids <- own
		}()
	}
	seen := map[string]bool{}
	for range 4 {
		own := <-ids
		if !slices.IsSorted(own) {
			t.Error("not in order")
		}
		for _, id := range own {
			seen[id] = true
		}
	}
	if len(seen) != 4000 {
		t.Errorf("%d ids, want 4000", len(seen))
	}
}

// With one id for all, only one can begin; the others give up in the end.
func TestBeginCollides(t *testing.T) {
	r := open(t, "")
	tries := 0
	r.newID = func() string { tries++; return "1s0hgh5ss5" }
	defer begin(t, r, Record{}).Release()
	_, err := r.Begin(Record{})
	if !errors.Is(err, unix.EEXIST) || tries != 1+beginTries {
		t.Errorf("after %d tries: %v", tries, err)
	}
	if names := records(t, r); len(names) != 1 {
		t.Errorf("records: %v", names)
	}
}

// Whoever sweeps takes nothing from those who begin: the record of each is
// there under its name, and alive.
func TestBeginWhileSwept(t *testing.T) {
	r := open(t, "")
	stop, swept := make(chan struct{}), make(chan int)
	for range 2 {
		go func() {
			n := 0
			for {
				select {
				case <-stop:
					swept <- n
					return
				default:
					k, err := r.Sweep()
					if err != nil {
						t.Error(err)
					}
					n += k
				}
			}
		}()
	}
	for range 5000 {
		e, err := r.Begin(Record{})
		if err != nil {
			t.Error(err)
			break
		}
		if _, err := os.Lstat(e.File().Name()); err != nil {
			t.Error(err)
			break
		}
		if err := e.End(Outcome{How: "exit 0"}); err != nil {
			t.Error(err)
			break
		}
	}
	close(stop)
	if n := <-swept + <-swept; n != 0 {
		t.Errorf("%d live sessions swept", n)
	}
	if n := len(auditLines(t, r)); n != 5000 {
		t.Errorf("%d lines in the log, want 5000", n)
	}
}

// Class A39: what is planted in the place of a record is neither followed nor
// written to.
func TestBeginPlanted(t *testing.T) {
	host := filepath.Join(tempDir(t), "host")
	plants := map[string]func(path string) error{
		"symlink":          func(path string) error { return os.Symlink(host, path) },
		"dangling symlink": func(path string) error { return os.Symlink(host+"-new", path) },
		"hard link":        func(path string) error { return os.Link(host, path) },
		"fifo":             func(path string) error { return unix.Mkfifo(path, 0o600) },
		"directory":        func(path string) error { return os.Mkdir(path, 0o700) },
	}
	for name, plant := range plants {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(host, []byte("host\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			r := open(t, "")
			ids := []string{"1s0hgh5ss5", "1s0hgh5ss6"}
			r.newID = func() string { id := ids[0]; ids = ids[1:]; return id }
			path := r.recordPath(ids[0])
			if err := plant(path); err != nil {
				t.Fatal(err)
			}
			e := begin(t, r, Record{Target: "web"})
			if e.ID() != "1s0hgh5ss6" {
				t.Errorf("began as %s", e.ID())
			}
			list, err := r.List()
			if len(list) != 1 || !errors.Is(err, ErrUnsafe) || !strings.Contains(err.Error(), path) {
				t.Errorf("list: %v, %v", list, err)
			}
			if n, err := r.Sweep(); n != 0 || !errors.Is(err, ErrUnsafe) && name != "directory" || err == nil {
				t.Errorf("sweep: %d, %v", n, err)
			}
			if err := e.End(Outcome{}); err != nil {
				t.Error(err)
			}
			checkFile(t, host, "host\n")
			checkMode(t, host, 0o644)
			if _, err := os.Lstat(host + "-new"); err == nil {
				t.Error("a file was made outside")
			}
			if _, err := os.Lstat(path); err != nil {
				t.Errorf("what was planted: %v", err)
			}
		})
	}
}
