// SPDX-License-Identifier: Apache-2.0

package forkexec

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/sys"
)

// nulls are what a target may call /dev/null, made at a path, and what is said
// of it; 0: it is the null device. A fifo would hang an open for writing.
func nulls() map[string]struct {
	make func(path string) error
	want unix.Errno
} {
	device := func(minor uint32) func(string) error {
		return func(path string) error {
			return unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, minor)))
		}
	}
	return map[string]struct {
		make func(path string) error
		want unix.Errno
	}{
		"the null device": {device(3), 0},
		"another device":  {device(7), unix.ENXIO},
		"a block device": {func(path string) error {
			return unix.Mknod(path, unix.S_IFBLK|0o666, int(unix.Mkdev(1, 3)))
		}, unix.ENXIO},
		"a file":               {func(path string) error { return os.WriteFile(path, nil, 0o666) }, unix.ENXIO},
		"a fifo":               {func(path string) error { return unix.Mkfifo(path, 0o666) }, unix.ENXIO},
		"a directory":          {func(path string) error { return os.Mkdir(path, 0o755) }, unix.ENXIO},
		"a link":               {func(path string) error { return os.Symlink("/dev/null", path) }, unix.ELOOP},
		"a link of the kernel": {func(path string) error { return os.Symlink("/proc/self/fd/0", path) }, unix.ELOOP},
		"nothing":              {func(string) error { return nil }, unix.ENOENT},
	}
}

// nullSpec is a session with a Null, whose command exits with 7 where it has
// read nothing from a device and written to one.
func (x *target) nullSpec(t *testing.T, root *os.File) (*Spec, func()) {
	t.Helper()
	s, release := x.spec(true, "for fd in 0 1 2; do test -c /proc/self/fd/$fd || exit 8; done; echo lost && ! read x && exit 7")
	s.Stdin, s.Stdout, s.Stderr, s.Proc, s.Null = nil, nil, nil, openPath(t, "/proc"), &Null{Root: root}
	return s, release
}

// TestNull has a null device, and what is none: that is not opened, and is told.
// (Mutants that lost: no look at the number; links followed.)
func TestNull(t *testing.T) {
	x := newTarget(t)
	for name, test := range nulls() {
		t.Run(name, func(t *testing.T) {
			x, dir := x.in(t), t.TempDir()
			if err := errors.Join(os.Mkdir(filepath.Join(dir, "dev"), 0o755), test.make(filepath.Join(dir, "dev/null"))); err != nil {
				t.Fatal(err)
			}
			spec, release := x.nullSpec(t, openPath(t, dir))
			defer release()
			status, err := x.run(spec, sys.ReapsByPidfd())
			if test.want == 0 && (err != nil || status.Code != 7) {
				t.Errorf("%+v, %v", status, err)
			}
			if e := (*Error)(nil); test.want != 0 && (!errors.As(err, &e) || *e != Error{StepNull, test.want}) {
				t.Errorf("%+v, %v, want %v", status, err, test.want)
			}
		})
	}
}

// TestNullInTheWay has something else in the place of the directory.
func TestNullInTheWay(t *testing.T) {
	x, dir := newTarget(t), t.TempDir()
	if err := os.Symlink("/dev", filepath.Join(dir, "dev")); err != nil {
		t.Fatal(err)
	}
	spec, release := x.nullSpec(t, openPath(t, dir))
	defer release()
	var e *Error
	if _, err := x.run(spec, sys.ReapsByPidfd()); !errors.As(err, &e) || *e != (Error{StepNull, unix.ELOOP}) {
		t.Errorf("%v, want ELOOP", err)
	}
}

// TestNullHangs has a directory that never answers: the session is given up in
// time, the caller has touched nothing.
func TestNullHangs(t *testing.T) {
	x := newTarget(t)
	spec, release := x.nullSpec(t, openPath(t, "/"))
	defer release()
	at := -1
	for i, o := range assemble(spec, nil, nil, nil).ops {
		if Step(o.step) == StepNull {
			at = i
			break
		}
	}
	spec.alter, spec.Deadline = hanging.at(at), time.Now().Add(200*time.Millisecond)
	if _, err := x.run(spec, sys.ReapsByPidfd()); !errors.Is(err, ErrDeadline) {
		t.Errorf("%v, want ErrDeadline", err)
	}
	x.clearVisitors()
}
