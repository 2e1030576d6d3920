// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Class A39: what is planted in the place of the log is not written to. The
// session keeps its record, and ends once the log is there again.
func TestAuditPlanted(t *testing.T) {
	host := filepath.Join(tempDir(t), "host")
	tests := []struct {
		name  string
		root  bool
		plant func(path string) error
		want  error
	}{
		{"symlink", false, func(path string) error { return os.Symlink(host, path) }, ErrUnsafe},
		{"dangling symlink", false, func(path string) error { return os.Symlink(host+"-new", path) }, ErrUnsafe},
		{"hard link", false, func(path string) error { return os.Link(host, path) }, ErrUnsafe},
		{"fifo", false, func(path string) error { return unix.Mkfifo(path, 0o600) }, ErrUnsafe},
		{"directory", false, func(path string) error { return os.Mkdir(path, 0o700) }, unix.EISDIR},
		{"another's", true, func(path string) error {
			return errors.Join(os.WriteFile(path, nil, 0o600), os.Chown(path, otherUID, otherUID))
		}, ErrUnsafe},
		{"device", true, func(path string) error { return unix.Mknod(path, unix.S_IFCHR|0o600, 1<<8|3) }, ErrUnsafe},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.root {
				needRoot(t)
			}
			if err := os.WriteFile(host, []byte("host\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			r := open(t, "")
			e := begin(t, r, Record{Target: "web"})
			path := filepath.Join(r.path, auditName)
			if err := tt.plant(path); err != nil {
				t.Fatal(err)
			}
			if err := e.End(Outcome{How: "exit 0"}); !errors.Is(err, tt.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			checkFile(t, host, "host\n")
			checkMode(t, host, 0o644)
			if _, err := os.Lstat(host + "-new"); err == nil {
				t.Error("a file was made outside")
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if err := e.End(Outcome{How: "exit 0"}); err != nil {
				t.Error(err)
			}
			if n := len(auditLines(t, r)); n != 1 {
				t.Errorf("%d lines in the log, want 1", n)
			}
		})
	}
}

// The log moves out of the way once, and no line is lost by it.
func TestRotate(t *testing.T) {
	r := open(t, "")
	lineLen := int64(len(auditOf(t, r)))
	r.auditMax = 200*lineLen + lineLen/2
	other := open(t, r.path)
	other.auditMax = r.auditMax
	done := make(chan error)
	for i := range 6 {
		go func() {
			var err error
			for range 50 {
				e, berr := []*Registry{r, other}[i%2].Begin(Record{Target: "web"})
				if berr != nil {
					err = errors.Join(err, berr)
					break
				}
				err = errors.Join(err, e.End(Outcome{How: "exit 0"}))
			}
			done <- err
		}()
	}
	for range 6 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if n := len(auditLines(t, r)); n != 301 {
		t.Errorf("%d lines in both logs, want 301", n)
	}
	for _, name := range []string{auditName, auditOldName} {
		checkMode(t, filepath.Join(r.path, name), 0o600)
		if fi, err := os.Stat(filepath.Join(r.path, name)); err != nil || fi.Size() > r.auditMax || fi.Size() < 50*lineLen {
			t.Errorf("%s: %v, %v", name, fi, err)
		}
	}
}

// auditOf ends a session and returns what is in the log then.
func auditOf(t *testing.T, r *Registry) string {
	t.Helper()
	if err := begin(t, r, Record{Target: "web"}).End(Outcome{How: "exit 0"}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(r.path, auditName))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// Where the log cannot move it grows, and a line that is longer than a log may
// be gets a log of its own.
func TestRotateFails(t *testing.T) {
	r := open(t, "")
	r.auditMax = 1
	old := filepath.Join(r.path, auditOldName)
	if err := os.Mkdir(old, 0o700); err != nil {
		t.Fatal(err)
	}
	auditOf(t, r)
	if n := strings.Count(auditOf(t, r), "\n"); n != 2 {
		t.Errorf("%d lines, want 2", n)
	}
	if err := os.Remove(old); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(auditOf(t, r), "\n"); n != 1 {
		t.Errorf("%d lines, want 1", n)
	}
	if n := len(logLines(t, old)); n != 2 {
		t.Errorf("%d lines moved, want 2", n)
	}
}

// A line whose writer was killed in the middle of it spoils no other.
func TestAuditTorn(t *testing.T) {
	r := open(t, "")
	path := filepath.Join(r.path, auditName)
	for before, kept := range map[string]string{
		`{"id":"torn`: "", "{}\n" + `{"id":"torn`: "{}\n", "{}\n{}": "{}\n{}\n", "{}": "{}\n", "{}\n": "{}\n",
	} {
		if err := os.WriteFile(path, []byte(before), 0o600); err != nil {
			t.Fatal(err)
		}
		rest, ok := strings.CutPrefix(auditOf(t, r), kept)
		if !ok || !strings.HasPrefix(rest, `{"id":"`) || strings.Count(rest, "\n") != 1 {
			t.Errorf("%q, and then %q", before, rest)
		}
	}
}

// Somebody who holds the log's lock for ever keeps no session from ending.
func TestAuditLocked(t *testing.T) {
	r := open(t, "")
	auditOf(t, r)
	f, err := os.Open(filepath.Join(r.path, auditName))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(auditOf(t, r), "\n"); n != 2 {
		t.Errorf("%d lines, want 2", n)
	}
}

// A log that goes away while its lock is awaited, as it does by two rotations,
// takes no line with it.
func TestAuditGone(t *testing.T) {
	r := open(t, "")
	auditOf(t, r)
	path := filepath.Join(r.path, auditName)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	e, ended := begin(t, r, Record{Target: "web"}), make(chan error, 1)
	go func() { ended <- e.End(Outcome{How: "exit 0"}) }()
	for deadline := time.Now().Add(auditWait / 2); opened(t, path) < 2; {
		if time.Now().After(deadline) {
			t.Fatal("the log is not opened")
		}
		time.Sleep(time.Millisecond)
	}
	if err := errors.Join(os.Remove(path), unix.Flock(int(f.Fd()), unix.LOCK_UN), <-ended); err != nil {
		t.Fatal(err)
	}
	if got := auditLines(t, r); len(got) != 1 || got[0].ID != e.ID() {
		t.Errorf("log: %+v", got)
	}
}

// opened counts our descriptors of a file.
func opened(t *testing.T, path string) int {
	t.Helper()
	links, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil && to == path {
			n++
		}
	}
	return n
}

// On a full disk sessions fail to begin or to end, say why, and the log has
// whole lines only.
func TestDiskFull(t *testing.T) {
	needRoot(t)
	cmd := child(t, "full", tempDir(t))
	cmd.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS
	if out, err := cmd.Output(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// childFull fills a file system of 64 KiB of its own with sessions.
func childFull(args []string) error {
	err := errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("tmpfs", args[0], "tmpfs", 0, "size=64k,mode=0700"))
	if err != nil {
		return err
	}
	r, err := Open(args[0] + "/outband")
	if err != nil {
		return err
	}
	ended, err := fillDisk(r)
	var e *Error
	if !errors.As(err, &e) || !strings.Contains(e.Hint(), "full") {
		return fmt.Errorf("after %d sessions: %w", ended, err)
	}
	data, err := os.ReadFile(filepath.Join(r.path, auditName))
	if err != nil {
		return err
	}
	if n := strings.Count(string(data), "\n"); n != ended || !strings.HasSuffix(string(data), "}\n") {
		return fmt.Errorf("%d lines of %d sessions, the last: %.100q", n, ended, data[max(0, len(data)-100):])
	}
	return nil
}

// fillDisk runs sessions until one does not end, whose record has to be whole.
func fillDisk(r *Registry) (ended int, err error) {
	for ended < 1000 {
		e, err := r.Begin(Record{Target: "web", Command: []string{strings.Repeat("x", 1500)}})
		if err != nil {
			names, rerr := os.ReadDir(filepath.Join(r.path, sessionsName))
			if len(names) > 0 {
				err = fmt.Errorf("left behind: %v", names)
			}
			return ended, errors.Join(err, rerr)
		}
		if err := e.End(Outcome{How: "exit 0"}); err != nil {
			if list, lerr := r.List(); lerr != nil || len(list) > 1 {
				return ended, fmt.Errorf("then listed %v, %w", list, lerr)
			}
			return ended, err
		}
		ended++
	}
	return ended, io.ErrUnexpectedEOF
}
