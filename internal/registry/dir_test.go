// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const otherUID = 65534

func TestDefault(t *testing.T) {
	tests := []struct {
		euid int
		run  string
		want string
	}{
		{0, "", "/run/outband"},
		{0, "/run/user/1000", "/run/outband"}, // kept by sudo
		{1000, "/run/user/1000", "/run/user/1000/outband"},
		{1000, "/tmp/x/", "/tmp/x/outband"},
		{1000, "", "/run/user/1000/outband"},
		{1000, "relative", "/run/user/1000/outband"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%d %q", tt.euid, tt.run), func(t *testing.T) {
			got := Default(tt.euid, func(name string) string {
				if name != "XDG_RUNTIME_DIR" {
					t.Errorf("asks for %s", name)
				}
				return tt.run
			})
			if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// checkModes runs a session in dir and checks the mode of all that there is.
func checkModes(t *testing.T, dir string) {
	t.Helper()
	r := open(t, dir)
	e := begin(t, r, Record{Target: "web"})
	checkMode(t, dir, fs.ModeDir|0o700)
	checkMode(t, filepath.Join(dir, sessionsName), fs.ModeDir|0o700)
	checkMode(t, e.File().Name(), 0o600)
	if err := e.End(Outcome{How: "exit 0"}); err != nil {
		t.Fatal(err)
	}
	checkMode(t, filepath.Join(dir, auditName), 0o600)
}

// Class A40: whatever the umask and whatever was there.
func TestModes(t *testing.T) {
	for _, mask := range []int{0, 0o022, 0o777} {
		t.Run(fmt.Sprintf("umask %04o", mask), func(t *testing.T) {
			dir := filepath.Join(tempDir(t), "outband")
			setUmask(t, mask)
			checkModes(t, dir)
		})
	}
	for _, mode := range []uint32{0, 0o755, 0o777, 0o2770, 0o1777} {
		t.Run(fmt.Sprintf("found %04o", mode), func(t *testing.T) {
			dir := filepath.Join(tempDir(t), "outband")
			sessions, log := filepath.Join(dir, sessionsName), filepath.Join(dir, auditName)
			err := errors.Join(os.MkdirAll(sessions, 0o700), os.WriteFile(log, nil, 0o600),
				unix.Chmod(log, mode&0o777), unix.Chmod(sessions, mode), unix.Chmod(dir, mode))
			if err != nil {
				t.Fatal(err)
			}
			checkModes(t, dir)
		})
	}
}

// Root opens what nobody may open; other users do not.
func TestModesAsUser(t *testing.T) {
	needRoot(t)
	for _, found := range []string{"nothing", "closed"} {
		t.Run(found, func(t *testing.T) {
			parent := tempDir(t)
			if err := os.Chown(parent, otherUID, otherUID); err != nil {
				t.Fatal(err)
			}
			cmd := child(t, "user", strconv.Itoa(otherUID), parent, found)
			if out, err := cmd.Output(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			for _, name := range []string{"outband", "outband/" + sessionsName} {
				checkMode(t, filepath.Join(parent, name), fs.ModeDir|0o700)
			}
			checkMode(t, filepath.Join(parent, "outband", auditName), 0o600)
		})
	}
}

// childUser runs a session as another user with a umask of 0777, and if
// asked in a directory whose maker got no further.
func childUser(args []string) error {
	unix.Umask(0o777)
	if err := become(args[0]); err != nil {
		return err
	}
	dir := filepath.Join(args[1], "outband")
	if args[2] == "closed" {
		for _, name := range []string{sessionsName, auditName} {
			path := filepath.Join(dir, name)
			err := errors.Join(os.MkdirAll(dir, 0), os.Chmod(dir, 0o700))
			if name == auditName {
				err = errors.Join(err, os.WriteFile(path, nil, 0))
			} else {
				err = errors.Join(err, os.Mkdir(path, 0))
			}
			if err != nil {
				return err
			}
		}
		if err := os.Chmod(dir, 0); err != nil {
			return err
		}
	}
	r, err := Open(dir)
	if err != nil {
		return err
	}
	e, err := r.Begin(Record{Target: "web"})
	if err != nil {
		return err
	}
	return e.End(Outcome{How: "exit 0"})
}

// TestOpenRefuses has what may be planted where the registry will be. host is a
// directory that must stay as it was.
func TestOpenRefuses(t *testing.T) {
	tests := []struct {
		name  string
		root  bool
		plant func(host, dir string) error
		path  string // opened, below the parent of dir
		want  error
		hint  string
	}{
		{"symlink", false, func(host, dir string) error { return os.Symlink(host, dir) }, "outband", ErrUnsafe, "remove it"},
		{"symlink and slash", false, func(host, dir string) error { return os.Symlink(host, dir) }, "outband/", ErrUnsafe, "remove it"},
		{"dangling symlink", false, func(host, dir string) error { return os.Symlink(host+"/new", dir) }, "outband", ErrUnsafe, "remove it"},
		{"file", false, func(_, dir string) error { return os.WriteFile(dir, nil, 0o600) }, "outband", ErrUnsafe, "remove it"},
		{"another's", true, func(_, dir string) error {
			return errors.Join(os.Mkdir(dir, 0o700), os.Chown(dir, otherUID, otherUID))
		}, "outband", ErrUnsafe, "remove it"},
		{"sessions symlink", false, func(host, dir string) error {
			return errors.Join(os.Mkdir(dir, 0o700), os.Symlink(host, filepath.Join(dir, sessionsName)))
		}, "outband", ErrUnsafe, "remove it"},
		{"sessions another's", true, func(_, dir string) error {
			sessions := filepath.Join(dir, sessionsName)
			return errors.Join(os.MkdirAll(sessions, 0o700), os.Chown(sessions, otherUID, otherUID))
		}, "outband", ErrUnsafe, "remove it"},
		{"no parent", false, func(_, _ string) error { return nil }, "none/outband", fs.ErrNotExist, "XDG_RUNTIME_DIR"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.root {
				needRoot(t)
			}
			parent, host := tempDir(t), tempDir(t)
			if err := errors.Join(os.Chmod(host, 0o755), tt.plant(host, filepath.Join(parent, "outband"))); err != nil {
				t.Fatal(err)
			}
			_, err := Open(parent + "/" + tt.path)
			var e *Error
			if !errors.Is(err, tt.want) || !errors.As(err, &e) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			if !strings.Contains(e.Hint(), tt.hint) || !strings.Contains(err.Error(), "outband") {
				t.Errorf("got %q, hint %q", err, e.Hint())
			}
			checkMode(t, host, fs.ModeDir|0o755)
			if names, err := os.ReadDir(host); err != nil || len(names) > 0 {
				t.Errorf("in the host's directory: %v, %v", names, err)
			}
		})
	}
}

// A directory that others can read and that cannot be closed to them.
func TestOpenRefusesReadOnly(t *testing.T) {
	needRoot(t)
	dir := tempDir(t)
	if err := errors.Join(os.Mkdir(filepath.Join(dir, sessionsName), 0o700), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := child(t, "readonly", dir)
	cmd.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS
	if out, err := cmd.Output(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func childReadOnly(args []string) error {
	dir := args[0]
	err := errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount(dir, dir, "", unix.MS_BIND, ""),
		unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	if err != nil {
		return err
	}
	if _, err := Open(dir); !errors.Is(err, ErrUnsafe) {
		return fmt.Errorf("opened: %w", err)
	}
	return nil
}
