// SPDX-License-Identifier: Apache-2.0

package cve

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/pty"
	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/test/cve/rig"
)

// attackType types on every terminal that it can reach: those that are open and
// its controlling one (TIOCSTI, and TIOCLINUX for a console).
func attackType([]string) error {
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		return err
	}
	for _, path := range append(fds, "/dev/tty") {
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err == nil {
			typeOn(fd)
			_ = unix.Close(fd)
		}
	}
	for fd := range 256 {
		typeOn(fd)
	}
	return nil
}

// typeOn makes a terminal's owner type.
func typeOn(fd int) {
	for _, c := range []byte("evil\n") {
		_ = ioctlBytes(fd, unix.TIOCSTI, []byte{c})
	}
	_ = ioctlBytes(fd, tiocLinux, []byte{3, 0}) // TIOCL_PASTESEL
}

const tiocLinux = 0x541c

// TestA16 runs the program at an administrator's terminal, with each of its
// streams there or elsewhere. Nothing that runs inside may reach that terminal.
// The mutant hands the streams in.
func TestA16(t *testing.T) {
	begin(t)
	mutant := rig.Build(t, rig.Off("cmd/outband/enter.go", "	cmd.Terminal = f.wantsTerminal()\n"), rig.Change{File: "cmd/outband/enter.go",
		Old: "cmd.PassStreams, cmd.Leave, cmd.Detach = f.passStreams,", New: "cmd.PassStreams, cmd.Leave, cmd.Detach = true,"})
	tool := rig.Build(t)
	c := testutil.Throwaway(t, throwaway.Spec{})
	for redirected := range 8 {
		t.Run(fmt.Sprintf("%03b elsewhere", redirected), func(t *testing.T) {
			if got := typedBy(t, tool, c, redirected); got != 0 {
				t.Errorf("%d characters were typed", got)
			}
			// Of a kernel that does not let anybody type, the mutant tells nothing.
			if legacy := content("/proc/sys/dev/tty/legacy_tiocsti"); legacy != "0\n" && redirected != 7 {
				if typedBy(t, mutant, c, redirected) == 0 {
					t.Error("nor by the mutant, the attack is none")
				}
			}
		})
	}
}

// typedBy counts what is typed at the administrator's terminal while the
// attacker runs in c.
func typedBy(t *testing.T, tool *rig.Tool, c *throwaway.Container, redirected int) int {
	t.Helper()
	master, peer, err := pty.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	defer peer.Close()
	modes, err := pty.Modes(peer)
	if err != nil {
		t.Fatal(err)
	}
	if err := pty.SetModes(peer, pty.Raw(modes)); err != nil { // every character counts at once
		t.Fatal(err)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	tool = tool.In(t)
	cmd := tool.Command(tool.Args(append([]string{"enter", fmt.Sprint(c.Pid()), "--"}, rig.Attack("type")...)...)...)
	files := [3]*os.File{}
	for i := range files {
		if files[i] = peer; redirected&(1<<i) != 0 {
			files[i] = null
		}
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = files[0], files[1], files[2]
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true}
	for i, f := range files {
		if f == peer {
			cmd.SysProcAttr.Setctty, cmd.SysProcAttr.Ctty = true, i
			break
		}
	}
	if r := tool.RunCommand(cmd); r.Hung || r.Code != 0 {
		t.Fatalf("%+v", r)
	}
	return pty.Unread(peer)
}
