// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
)

func TestRun(t *testing.T) {
	testutil.NoLeaks(t)
	both(t, func(t *testing.T) {
		target := enter(t, hostFiles())
		tests := []struct {
			script string
			code   int
			signal unix.Signal
			text   string // of the error
		}{
			{"exit 0", 0, 0, ""}, {"exit 1", 1, 0, "exit 1"}, {"exit 255", 255, 0, "exit 255"},
			{"kill -KILL $$", -1, unix.SIGKILL, "SIGKILL"}, {"kill -TERM $$", -1, unix.SIGTERM, "SIGTERM"},
			{"kill -34 $$", -1, 34, "signal 34"}, {"trap 'exit 7' TERM; kill $$", 7, 0, "exit 7"},
		}
		for _, test := range tests {
			c := sh(target, test.script)
			err := c.Run()
			s := c.ProcessState
			if s.ExitCode() != test.code || s.Signal() != test.signal || s.Success() != (test.code == 0) || s.Left() {
				t.Errorf("%s: %v, %+v", test.script, err, s)
			}
			var exit *ExitError
			if (err == nil) != (test.text == "") || err != nil && (!errors.As(err, &exit) || exit.ProcessState != s || err.Error() != test.text) {
				t.Errorf("%s: %v, want %q", test.script, err, test.text)
			}
		}
	})
}

// What cannot be executed is told apart, and nothing is executed.
func TestNotExecuted(t *testing.T) {
	testutil.NoLeaks(t)
	both(t, func(t *testing.T) {
		target := enter(t, hostFiles())
		dir := t.TempDir()
		file := func(name string, mode os.FileMode, content string) string {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, []byte(content), mode); err != nil {
				t.Fatal(err)
			}
			return path
		}
		tests := []struct {
			name string
			args []string
			want []error
			hint bool
		}{
			{"missing", []string{"no-such-command"}, []error{ErrExec, fs.ErrNotExist, unix.ENOENT}, true},
			{"missing path", []string{"/no/such/file"}, []error{ErrExec, fs.ErrNotExist}, true},
			{"directory", []string{"/etc"}, []error{ErrExec, fs.ErrPermission}, false},
			{"not executable", []string{file("plain", 0o644, "#!/bin/sh\n")}, []error{ErrExec, fs.ErrPermission}, false},
			{"file as directory", []string{"/etc/passwd/x"}, []error{ErrExec, fs.ErrNotExist}, true},
			{"script without interpreter", []string{file("script", 0o755, "exit\n")}, []error{ErrExec, unix.ENOEXEC}, true},
			{"interpreter missing", []string{file("bad", 0o755, "#!/no/such/shell\n")}, []error{ErrExec, fs.ErrNotExist}, true},
			{"name too long", []string{strings.Repeat("x", 5000)}, []error{ErrExec, unix.ENAMETOOLONG}, false},
			{"arguments too long", []string{"true", strings.Repeat("x", 200000)}, []error{ErrExec, unix.E2BIG}, false},
		}
		for _, test := range tests {
			c := target.Command(test.args[0], test.args[1:]...)
			err := c.Start()
			for _, want := range test.want {
				if !errors.Is(err, want) {
					t.Errorf("%s: %.200v is not %v", test.name, err, want)
				}
			}
			if (Hint(err) != "") != test.hint || c.Process != nil || c.ProcessState != nil {
				t.Errorf("%s: hint %q, process %v", test.name, Hint(err), c.Process)
			}
			if err := c.Wait(); err == nil {
				t.Errorf("%s: it can be waited for", test.name)
			}
		}
	})
}

func TestMisuse(t *testing.T) {
	testutil.NoLeaks(t)
	target := enter(t, throwaway.Spec{})
	c := target.Command("true")
	if err := c.Wait(); err == nil {
		t.Error("waited before the start")
	}
	if err := c.Run(); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err == nil {
		t.Error("started twice")
	}
	for range 2 {
		if err := c.Wait(); err == nil {
			t.Error("waited twice")
		}
	}
	if pids := c.Process.PIDs(); pids != nil {
		t.Errorf("numbers %v when it has ended", pids)
	}
	if err := c.Process.Signal(unix.SIGKILL); err == nil {
		t.Error("signalled when it has ended")
	}
	c = target.Command("true")
	c.PassStreams = true
	if err := c.Start(); !errors.Is(err, ErrInvalid) {
		t.Errorf("streams that are no files: %v, want ErrInvalid", err)
	}
	for text, c := range map[string]*Cmd{"no command": target.Command(""), "NUL": target.Command("a\x00")} {
		if err := c.Run(); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), text) {
			t.Errorf("%v, want ErrInvalid with %s", err, text)
		}
	}
}

func TestDirectory(t *testing.T) {
	testutil.NoLeaks(t)
	both(t, func(t *testing.T) {
		target := enter(t, throwaway.Spec{})
		for dir, want := range map[string]string{"": "/", "/": "/", "/etc": "/etc", "tmp": "/tmp", "/dev/pts/..": "/dev", "//etc//": "/etc"} {
			c := target.Command("pwd")
			c.Dir = dir
			if out := run(t, c); out != want+"\n" {
				t.Errorf("%q is %q, want %s", dir, out, want)
			}
		}
		for dir, want := range map[string]error{"/no": fs.ErrNotExist, "/etc/passwd": unix.ENOTDIR, "/" + strings.Repeat("x", 300): unix.ENAMETOOLONG} {
			c := target.Command("pwd")
			c.Dir = dir
			if err := c.Run(); !errors.Is(err, want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("%q: %v, want %v that names it", dir, err, want)
			}
		}
		// A4: no descriptor is a way out.
		for fd := range 60 {
			c := target.Command("pwd")
			c.Dir = fmt.Sprintf("/proc/self/fd/%d", fd)
			if out, err := c.CombinedOutput(); err == nil || c.Process != nil {
				t.Errorf("%s is %q", c.Dir, out)
			}
		}
	})
}

func TestEnvironmentInside(t *testing.T) {
	testutil.NoLeaks(t)
	t.Setenv("SECRET", "of the caller")
	target := enter(t, throwaway.Spec{Env: []string{"PATH=/bin", "A=init's", "B=2", "LANG=C"}})
	c := target.Command("env")
	c.Env = []string{"A=mine", "C=3\n4", "A=last"}
	got := strings.Split(strings.TrimSuffix(run(t, c), "\n"), "\n")
	slices.Sort(got)
	if want := []string{"4", "A=last", "B=2", "C=3", "LANG=C", "PATH=/bin"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
