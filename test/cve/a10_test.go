// SPDX-License-Identifier: Apache-2.0

package cve

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/test/cve/rig"
)

// attackPts puts something else in the place of the container's devpts and
// tells when it was opened.
func attackPts(args []string) error {
	err := unix.Unmount("/dev/pts", unix.MNT_DETACH)
	switch args[0] {
	case "a pipe":
		err = errors.Join(err, unix.Mount("tmpfs", "/dev/pts", "tmpfs", 0, ""), unix.Mkfifo("/dev/pts/ptmx", 0o666))
	case "a link to a pipe":
		err = errors.Join(err, unix.Mount("tmpfs", "/dev/pts", "tmpfs", 0, ""), unix.Mkfifo("/tmp/pipe", 0o666), os.Symlink("/tmp/pipe", "/dev/pts/ptmx"))
	case "a link for a directory":
		err = errors.Join(err, os.Remove("/dev/pts"), os.Mkdir("/tmp/pts", 0o755), os.Symlink("../tmp/pts", "/dev/pts"), unix.Mkfifo("/tmp/pts/ptmx", 0o666))
	case "a pipe over its own":
		err = errors.Join(unix.Mount("devpts", "/dev/pts", "devpts", 0, "newinstance,ptmxmode=0666"), unix.Mkfifo("/tmp/pipe", 0o666),
			unix.Mount("/tmp/pipe", "/dev/pts/ptmx", "", unix.MS_BIND, ""))
	case "a device node":
		err = errors.Join(err, unix.Mount("tmpfs", "/dev/pts", "tmpfs", 0, ""), unix.Mknod("/dev/pts/ptmx", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	}
	if err != nil {
		return err
	}
	fmt.Println("ready")
	go func() {
		for _, pipe := range []string{"/tmp/pipe", "/tmp/pts/ptmx", "/dev/pts/ptmx"} {
			if fd, err := unix.Open(pipe, unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil { // waits for a writer
				_ = unix.Close(fd)
				fmt.Println("opened")
				return
			}
		}
	}()
	return stay()
}

// TestA10 asks for a terminal in containers whose devpts is something else.
// Nothing of it may be opened; the terminal is one of outband's own instead.
// The mutant opens what has the name.
func TestA10(t *testing.T) {
	begin(t)
	mutant := rig.Build(t,
		rig.Change{File: "internal/forkexec/terminal.go", Old: "const links = unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS", New: "const links = 0"},
		rig.Change{File: "internal/forkexec/terminal.go", Old: "unix.RESOLVE_BENEATH|unix.RESOLVE_NO_XDEV|links", New: "unix.RESOLVE_IN_ROOT*0"},
		rig.Off("internal/forkexec/terminal.go", "	b.unless(variable{stat.n}.value(), num(devptsMagic), own) // f_type comes first\n"))
	tool := rig.Build(t)
	for _, name := range []string{"a pipe", "a link to a pipe", "a link for a directory", "a pipe over its own", "a device node"} {
		t.Run(name, func(t *testing.T) {
			for _, x := range []struct {
				tool *rig.Tool
				safe bool
			}{{tool, true}, {mutant, name == "a device node"}} {
				b := newBox(t, throwaway.Spec{}, rig.Attack("pts", name))
				if line, _ := b.hear(); line != "ready" {
					t.Fatalf("the attacker says %q", line)
				}
				r := x.tool.In(t).Run("enter", "-t", b.pid(), "echo", "inside")
				if x.safe && (r.Code != 0 || r.Out != "inside\r\n" || r.Hung) {
					t.Errorf("%+v", r)
				}
				// The attacker's pipe has a reader if it was never opened: the test
				// opens it itself, and the answer to that is the only one.
				if x.safe && name != "a device node" {
					b.checkUnopened(name)
				} else if name != "a device node" {
					if line, _ := b.hear(); line != "opened" {
						t.Errorf("the mutant does not open it either, the attack is none: %q", line)
					}
				}
			}
		})
	}
}

// checkUnopened finds the attacker still waiting for somebody to open its pipe:
// a writer that may not wait finds a reader only there.
func (b *box) checkUnopened(name string) {
	b.t.Helper()
	path := map[string]string{"a pipe": "/dev/pts/ptmx", "a link to a pipe": "/tmp/pipe", "a link for a directory": "/tmp/pts/ptmx", "a pipe over its own": "/tmp/pipe"}[name]
	// Its reader waits in open(2) until now: with a writer it says so.
	var fd int
	rig.Eventually(b.t, "the attacker does not wait: its pipe was opened before", func() (ok bool) {
		var err error
		fd, err = unix.Open(b.path(path), unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		return err == nil
	})
	defer unix.Close(fd)
	if line, _ := b.hear(); line != "opened" {
		b.t.Errorf("%s: the attacker says %q", name, line)
	}
}
