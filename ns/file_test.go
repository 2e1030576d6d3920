// SPDX-License-Identifier: Apache-2.0

package ns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
)

// openFile opens a namespace of a process for a test.
func openFile(t *testing.T, pid int, kind Kind) File {
	t.Helper()
	f, err := OpenFile(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestOpenFile(t *testing.T) {
	testutil.NoLeaks(t)
	own, err := Of(dirOf(t, os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range Kinds() {
		f := openFile(t, os.Getpid(), kind)
		id, ierr := f.ID()
		k, kerr := f.Kind()
		if err := errors.Join(ierr, kerr); err != nil || id != own[kind] || k != kind {
			t.Errorf("%v %d, %v, want %v %d", k, id, err, kind, own[kind])
		}
	}
}

// A namespace may be mounted on a file, and linked to.
func TestOpenFileThatIsALink(t *testing.T) {
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("/proc/self/ns/net", link); err != nil {
		t.Fatal(err)
	}
	f, err := OpenFile(link)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if kind, err := f.Kind(); err != nil || kind != Net {
		t.Errorf("%v, %v", kind, err)
	}
}

// What is no namespace is not opened: the fifo would hang that.
func TestOpenFileRefuses(t *testing.T) {
	testutil.NoLeaks(t)
	dir := t.TempDir()
	fifo, file := filepath.Join(dir, "fifo"), filepath.Join(dir, "file")
	if err := errors.Join(unix.Mkfifo(fifo, 0o600), os.WriteFile(file, nil, 0)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{fifo, file, dir, "/dev/null", "/proc/self/status"} {
		if f, err := OpenFile(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, %v, want an error that names it", path, f, err)
		}
	}
	if _, err := OpenFile(filepath.Join(dir, "nothing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, want fs.ErrNotExist", err)
	}
	if _, err := OpenFile(""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("empty path: %v, want fs.ErrNotExist", err)
	}
}

func TestParent(t *testing.T) {
	testutil.NoLeaks(t)
	c := testutil.Throwaway(t, throwaway.Spec{User: true})
	for _, kind := range []Kind{PID, User} {
		parent, err := openFile(t, c.Pid(), kind).Parent()
		if err != nil {
			t.Fatal(err)
		}
		defer parent.Close()
		got, gerr := parent.ID()
		want, werr := openFile(t, os.Getpid(), kind).ID()
		if err := errors.Join(gerr, werr); err != nil || got != want {
			t.Errorf("the %v namespace above is %d, %v, want %d", kind, got, err, want)
		}
		if up, err := openFile(t, os.Getpid(), kind).Parent(); !errors.Is(err, ErrOutside) {
			t.Errorf("above one's own %v namespace: %v, %v, want ErrOutside", kind, up, err)
		}
	}
	if up, err := openFile(t, c.Pid(), Net).Parent(); !errors.Is(err, unix.EINVAL) {
		t.Errorf("above a net namespace: %v, %v, want EINVAL", up, err)
	}
}

func TestOwner(t *testing.T) {
	testutil.NoLeaks(t)
	c := testutil.Throwaway(t, throwaway.Spec{User: true})
	want, err := openFile(t, c.Pid(), User).ID()
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []Kind{PID, Mount, Net, IPC, UTS} {
		owner, err := openFile(t, c.Pid(), kind).Owner()
		if err != nil {
			t.Fatal(err)
		}
		defer owner.Close()
		if got, err := owner.ID(); err != nil || got != want {
			t.Errorf("the owner of %v is %d, %v, want %d", kind, got, err, want)
		}
	}
}

// levels are the inits of a container with so many pid namespaces, outermost
// first.
func levels(t *testing.T, depth int) []int {
	t.Helper()
	var pids []int
	for c := testutil.Throwaway(t, throwaway.Spec{Depth: depth}); ; c = c.Inner[0] {
		pids = append(pids, c.Pid())
		if len(c.Inner) == 0 {
			return pids
		}
	}
}

func TestDescendsFrom(t *testing.T) {
	testutil.NoLeaks(t)
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // which closes what was forgotten
	pids := levels(t, 3)
	id := func(pid int) ID {
		set, err := Of(dirOf(t, pid))
		if err != nil {
			t.Fatal(err)
		}
		return set[PID]
	}
	own, other := os.Getpid(), levels(t, 1)[0]
	tests := []struct {
		name       string
		of, from   int
		descendant bool
	}{
		{"itself", own, own, true}, {"child", pids[0], own, true}, {"grandchild", pids[2], own, true},
		{"one level", pids[2], pids[1], true}, {"upwards", pids[0], pids[2], false}, {"above one's own", own, pids[0], false},
		{"a sibling", pids[2], other, false}, {"sibling, the other way", other, pids[0], false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ancestor := id(test.from)
			testutil.NoLeaks(t) // no level stays open
			f := openFile(t, test.of, PID)
			for range 3 {
				if got, err := f.DescendsFrom(ancestor); err != nil || got != test.descendant {
					t.Errorf("%v, %v, want %v", got, err, test.descendant)
				}
			}
		})
	}
	if _, err := openFile(t, own, Net).DescendsFrom(1); !errors.Is(err, unix.EINVAL) {
		t.Errorf("a net namespace: %v, want EINVAL", err)
	}
}

// The kernel allows 32 levels below the first: each is found.
func TestDescendsFromDeepest(t *testing.T) {
	testutil.NoLeaks(t)
	pids := levels(t, 31)
	own, err := openFile(t, os.Getpid(), PID).ID()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := openFile(t, pids[len(pids)-1], PID).DescendsFrom(own); err != nil || !got {
		t.Errorf("level 31: %v, %v", got, err)
	}
}

func TestClosedFile(t *testing.T) {
	f := openFile(t, os.Getpid(), PID)
	f.Close()
	_, err1 := f.ID()
	_, err2 := f.Kind()
	_, err3 := f.Parent()
	_, err4 := f.DescendsFrom(1)
	for i, err := range []error{err1, err2, err3, err4} {
		if err == nil {
			t.Errorf("%d: no error", i)
		}
	}
}
