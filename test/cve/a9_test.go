// SPDX-License-Identifier: Apache-2.0

package cve

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/test/cve/rig"
)

// A null is something in the place of the null device.
type null struct {
	make func(path string) error
	took func(path string) string // what was written to it, as the host sees it
}

// nulls are all that would take what a command writes, and a device that would
// not. canary is a file of the host's.
func nulls(canary string) map[string]null {
	return map[string]null{
		"file": {
			func(path string) error { return os.WriteFile(path, nil, 0o666) },
			content,
		},
		"link to the host": {
			func(path string) error { return os.Symlink(canary, path) },
			func(string) string { return content(canary) },
		},
		"pipe": {
			func(path string) error { return unix.Mkfifo(path, 0o666) },
			fifo,
		},
		"another device": { // /dev/full: what is written fails, and is told in the exit code
			func(path string) error { return unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 7))) },
			func(string) string { return "" },
		},
	}
}

// TestA9 lets a detached command, whose streams are the container's null
// device, into containers whose /dev/null is something else. Each of them would
// take what the command writes.
func TestA9(t *testing.T) {
	begin(t)
	canary := filepath.Join(t.TempDir(), "canary") // of the host
	mutant := rig.Build(t,
		rig.Change{File: "internal/forkexec/null.go", New: "const resolve = 0",
			Old: "const resolve = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS"},
		rig.Change{File: "internal/forkexec/null.go", New: "b.jump(open)", Old: "b.unless(mode.value(), num(uint64(unix.S_IFCHR)<<32), other)"})
	tool := rig.Build(t)
	for name, test := range nulls(canary) {
		t.Run(name, func(t *testing.T) {
			c := testutil.Throwaway(t, throwaway.Spec{})
			null := rootPath(c.Pid(), "/dev/null")
			err := errors.Join(os.Remove(null), os.WriteFile(canary, nil, 0o666), test.make(null))
			if err != nil {
				t.Fatal(err)
			}
			r := tool.Run("enter", "-d", fmt.Sprint(c.Pid()), "echo", "evil")
			if r.Code != 125 || !strings.Contains(r.Err, "/dev/null") || r.Hung {
				t.Errorf("%+v", r)
			}
			if got := test.took(null); got != "" {
				t.Errorf("took %q", got)
			}
			r = mutant.Run("enter", "-d", fmt.Sprint(c.Pid()), "echo", "evil")
			if r.Code != 0 {
				t.Errorf("the mutant refuses it as well, the attack is none: %+v", r)
			}
			if name == "link to the host" || name == "file" {
				rig.Eventually(t, "the mutant's command writes nothing", func() bool { return test.took(null) == "evil\n" })
			}
		})
	}
}

// content is a file's, "" if there is none.
func content(path string) string {
	data, _ := os.ReadFile(path)
	return string(data)
}

// fifo reads what waits in a pipe.
func fifo(path string) string {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err.Error()
	}
	defer unix.Close(fd)
	buf := make([]byte, 64)
	n, _ := unix.Read(fd, buf)
	return string(buf[:max(n, 0)])
}
