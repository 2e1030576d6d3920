// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The steps of End, cut short after each; see the package comment.
func TestEndInterrupted(t *testing.T) {
	steps := []func(r *Registry, e *Entry, end []byte) error{
		func(_ *Registry, e *Entry, end []byte) error { return e.append(end) },
		func(r *Registry, _ *Entry, end []byte) error { return r.audit(end) },
	}
	tests := []struct {
		name  string
		steps int
		torn  bool // and then in the middle of the next
		swept int
		how   string
	}{
		{"before", 0, false, 1, HowLost},
		{"in the record's line", 0, true, 1, HowLost},
		{"after the record's line", 1, false, 1, "exit 3"},
		{"in the log's line", 1, true, 1, "exit 3"},
		{"after the log's line", 2, false, 0, "exit 3"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := open(t, "")
			begin(t, r, Record{Target: "before"}).End(Outcome{How: "exit 0"})
			e := begin(t, r, Record{Target: "web"})
			end, err := join(e.line, Outcome{How: "exit 3"})
			if err != nil {
				t.Fatal(err)
			}
			for _, step := range steps[:tt.steps] {
				if err := step(r, e, end); err != nil {
					t.Fatal(err)
				}
			}
			if tt.torn {
				appendPart(t, []string{e.File().Name(), filepath.Join(r.path, auditName)}[tt.steps], end)
			}
			if tt.steps > 0 && len(live(t, r)) > 0 {
				t.Error("an ended session is listed")
			}
			if err := e.Release(); err != nil {
				t.Fatal(err)
			}
			if n := sweepAll(t, r, 2); n != tt.swept {
				t.Errorf("swept %d, want %d", n, tt.swept)
			}
			got := auditLines(t, r)
			if len(got) != 2 || got[1].ID != e.ID() || got[1].How != tt.how || got[1].Error != "" {
				t.Errorf("log: %+v", got)
			}
			if names := records(t, r); len(names) > 0 {
				t.Errorf("left behind: %v", names)
			}
		})
	}
}

// appendPart writes a line without its last byte, as a killed process may.
func appendPart(t *testing.T, path string, line []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(line[:len(line)-1]); err != nil {
		t.Fatal(err)
	}
}

// What a session's end was is kept while the log cannot be written.
func TestEndKept(t *testing.T) {
	tests := []struct {
		name string
		end  func(r *Registry, e *Entry) error
		how  string
	}{
		{"by its owner", func(_ *Registry, e *Entry) error {
			err := e.End(Outcome{How: "exit 3"})
			return errors.Join(err, e.Release())
		}, "exit 3"},
		{"by a sweeper", func(r *Registry, e *Entry) error {
			if err := e.Release(); err != nil {
				return nil
			}
			n, err := r.Sweep()
			if n != 0 {
				return nil
			}
			return err
		}, HowLost},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := open(t, "")
			e := begin(t, r, Record{Target: "web"})
			log := filepath.Join(r.path, auditName)
			if err := os.Mkdir(log, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := tt.end(r, e); !errors.Is(err, unix.EISDIR) {
				t.Fatal(err)
			}
			ended := time.Now()
			if err := os.Remove(log); err != nil {
				t.Fatal(err)
			}
			if n, err := r.Sweep(); n != 1 || err != nil {
				t.Errorf("swept %d, %v", n, err)
			}
			if got := auditLines(t, r); len(got) != 1 || got[0].How != tt.how || got[0].Ended.After(ended) {
				t.Errorf("log: %+v", got)
			}
		})
	}
}

// A sweeper that has opened a record before its session ended, or was swept,
// and has the lock afterwards.
func TestSweepLate(t *testing.T) {
	r := open(t, "")
	ended, swept := begin(t, r, Record{}), begin(t, r, Record{})
	var fds []int
	for _, e := range []*Entry{ended, swept} {
		fd, err := openFile(r.sessions, e.ID()+recordSuffix, unix.O_RDWR|unix.O_APPEND)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		fds = append(fds, fd)
	}
	if err := errors.Join(ended.End(Outcome{How: "exit 0"}), swept.Release()); err != nil {
		t.Fatal(err)
	}
	if n, err := r.Sweep(); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	for i, e := range []*Entry{ended, swept} {
		again, err := r.sweepFile(fds[i], e.ID(), func(Record) error {
			t.Errorf("%d is cleaned", i)
			return nil
		})
		if again || err != nil {
			t.Errorf("%d is swept: %v, %v", i, again, err)
		}
	}
	if n := len(auditLines(t, r)); n != 2 {
		t.Errorf("%d lines in the log, want 2", n)
	}
}

// What has just been made has no lock yet, and is left alone; if it is not, the
// lock is of no use.
func TestBeginning(t *testing.T) {
	r := open(t, "")
	const name = "1s0hgh5ss5" + recordSuffix
	fd, err := openNoFollow(int(r.sessions.Fd()), name, unix.O_RDWR|unix.O_APPEND|unix.O_CREAT|unix.O_EXCL)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if n, err := r.Sweep(); n != 0 || err != nil || len(records(t, r)) != 1 || len(live(t, r)) != 0 {
		t.Errorf("swept %d, %v; records %v", n, err, records(t, r))
	}
	other, err := openFile(r.sessions, name, unix.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	if locked, err := tryLock(other, unix.LOCK_EX); !locked {
		t.Fatal(err)
	}
	if err := fill(fd, []byte("{}")); !errors.Is(err, errSwept) {
		t.Errorf("while a sweeper has the lock: %v", err)
	}
	if err := errors.Join(r.remove(name), unix.Close(other)); err != nil {
		t.Fatal(err)
	}
	if err := fill(fd, []byte("{}")); !errors.Is(err, errSwept) {
		t.Errorf("after it was removed: %v", err)
	}
}

// A sweeper may be killed as well, and the log may have been moved by then.
func TestSweeperKilled(t *testing.T) {
	r := open(t, "")
	e := begin(t, r, Record{Target: "web"})
	end, err := join(e.line, Outcome{How: HowLost})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(e.append(end), r.audit(end), e.Release()); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(r.path, auditName), filepath.Join(r.path, auditOldName)); err != nil {
		t.Fatal(err)
	}
	if n := sweepAll(t, r, 2); n != 0 || len(auditLines(t, r)) != 1 || len(records(t, r)) != 0 {
		t.Errorf("swept %d; log %+v, records %v", n, auditLines(t, r), records(t, r))
	}
}

// The end of one session is not taken for that of another, whose text it is.
func TestAuditedIsNotText(t *testing.T) {
	r := open(t, "")
	e := begin(t, r, Record{Target: "web"})
	end, err := join(e.line, Outcome{How: "exit 0"})
	if err != nil {
		t.Fatal(err)
	}
	other := begin(t, r, Record{Target: string(end), Command: []string{"\n" + string(end)}, By: By{Cwd: string(end)}})
	if err := errors.Join(other.End(Outcome{How: string(end)}), e.append(end), e.Release()); err != nil {
		t.Fatal(err)
	}
	if n, err := r.Sweep(); n != 1 || err != nil {
		t.Errorf("swept %d, %v", n, err)
	}
}

// What a dead session left is cleaned before its record goes.
func TestSweepFunc(t *testing.T) {
	r := open(t, "")
	for _, name := range []string{"stays", "goes"} {
		begin(t, r, Record{Target: name, Cgroup: "/" + name}).Release()
	}
	alive := begin(t, r, Record{Target: "alive"})
	busy := errors.New("busy")
	var cleaned []string
	n, err := r.SweepFunc(func(rec Record) error {
		cleaned = append(cleaned, rec.Cgroup)
		if rec.Target == "stays" {
			return busy
		}
		return nil
	})
	if n != 1 || !errors.Is(err, busy) || len(cleaned) != 2 {
		t.Errorf("swept %d, %v, cleaned %v", n, err, cleaned)
	}
	if got := auditLines(t, r); len(got) != 1 || got[0].Target != "goes" {
		t.Errorf("log: %+v", got)
	}
	if n, err := r.Sweep(); n != 1 || err != nil || len(records(t, r)) != 1 {
		t.Errorf("then swept %d, %v, records %v", n, err, records(t, r))
	}
	if err := alive.End(Outcome{}); err != nil {
		t.Error(err)
	}
}

// writeOld writes a file whose maker is gone for an hour.
func writeOld(t *testing.T, path, content string) {
	t.Helper()
	before := time.Now().Add(-time.Hour)
	if err := errors.Join(os.WriteFile(path, []byte(content), 0o600), os.Chtimes(path, before, before)); err != nil {
		t.Fatal(err)
	}
}

// Files that say nothing, or nonsense, do not stay, and a session is audited
// if there may have been one.
func TestSweepDamaged(t *testing.T) {
	tests := []struct {
		name, content string
		lines         int
	}{
		{"not begun", "", 0},
		{"begun in part", `{"id":"1s0hgh5ss5"`, 0},
		{"no json", "x\n", 1},
		{"empty line", "\n", 1},
		{"no object", "[]\n", 1},
		{"another's", `{"id":"1s0hgh5ss6"}` + "\n", 1},
		{"zeros", strings.Repeat("\x00", 100) + "\n", 1},
		{"a newer version's", `{"id":"1s0hgh5ss5","started":"2026-01-02T03:04:05Z","target":"web","new":["` + "\x7f\u202e" + `"]}` + "\n", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := open(t, "")
			writeOld(t, r.recordPath("1s0hgh5ss5"), tt.content)
			if n, err := r.Sweep(); n != tt.lines || err != nil || len(records(t, r)) > 0 {
				t.Errorf("swept %d, %v; records %v", n, err, records(t, r))
			}
			got := auditLines(t, r)
			if len(got) != tt.lines || tt.lines > 0 && (got[0].ID != "1s0hgh5ss5" || got[0].How != HowLost || got[0].Started.IsZero()) {
				t.Fatalf("log: %+v", got)
			}
			if tt.lines == 0 {
				return
			}
			data, _ := os.ReadFile(filepath.Join(r.path, auditName))
			newer := strings.Contains(tt.content, "new")
			if strings.Contains(string(data), `"new":["\u007f\u202e"]`) != newer || (got[0].Error == errorDamage) == newer {
				t.Errorf("log: %s", data)
			}
		})
	}
}
