// SPDX-License-Identifier: Apache-2.0

package cve

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/test/cve/rig"
)

// The defences of A4: nothing that the caller has open gets in, and a directory
// without a path from the container's root is none to work in.
func keepCallersFiles() []rig.Change {
	return []rig.Change{
		rig.Off("internal/forkexec/warden.go", "\tb.call(StepCloseFiles, unix.SYS_CLOSE_RANGE, num(len(b.files)), num(uint64(^uint32(0))), num(0))\n"),
		rig.Off("internal/forkexec/joiner.go", "\tb.call(StepCloseFiles, unix.SYS_CLOSE_RANGE, num(fdExec+1), num(uint64(^uint32(0))), num(0))\n"),
	}
}

func anyDirectory() rig.Change {
	return rig.Change{File: "internal/forkexec/joiner.go", Old: "b.ifSame(first.value(), num('/'), done)", New: "b.jump(done)"}
}

// TestA4 starts the tool with descriptors 3 to 40 open on the host's root.
func TestA4(t *testing.T) {
	begin(t)
	c := testutil.Throwaway(t, throwaway.Spec{})
	open := func(tool *rig.Tool) string {
		cmd := tool.Command(tool.Args(append([]string{"enter", "-n", fmt.Sprint(c.Pid())}, rig.Attack("descriptors")...)...)...)
		cmd.ExtraFiles = leaked(t)
		r := tool.RunCommand(cmd)
		if r.Code != 0 {
			t.Fatalf("%+v", r)
		}
		return r.Out
	}
	if got := open(rig.Build(t)); got != "[0 1 2]\n" {
		t.Errorf("open inside: %s", got)
	}
	if got := open(rig.Build(t, keepCallersFiles()...)); !slices.Contains(strings.Fields(strings.Trim(got, "[]\n")), "40") {
		t.Errorf("the mutant lets nothing in either: %s", got)
	}
}

// TestA4Workdir asks for working directories behind those descriptors, in a
// container that has process numbers of its own and in one that has not, where
// /proc/self leads to the helper.
func TestA4Workdir(t *testing.T) {
	begin(t)
	const shared = throwaway.Default &^ unix.CLONE_NEWPID
	for name, kinds := range map[string]uintptr{"own pid namespace": throwaway.Default, "shared pid namespace": shared} {
		t.Run(name, func(t *testing.T) {
			c := testutil.Throwaway(t, throwaway.Spec{Namespaces: kinds})
			if got := workdirs(t, rig.Build(t), c.Pid()); len(got) > 0 {
				t.Errorf("entered %q", got)
			}
		})
	}
	c := testutil.Throwaway(t, throwaway.Spec{Namespaces: shared})
	mutant := rig.Build(t, append(keepCallersFiles(), anyDirectory())...)
	if got := workdirs(t, mutant, c.Pid()); len(got) == 0 {
		t.Error("the mutant refuses them all as well: the attack is none")
	}
}

// workdirs tries descriptors 3 to 60 and returns those that a command could
// work in.
func workdirs(t *testing.T, tool *rig.Tool, pid int) (entered []string) {
	t.Helper()
	files := leaked(t)
	for n := 3; n <= 60; n++ {
		dir := fmt.Sprintf("/proc/self/fd/%d", n)
		cmd := tool.Command(tool.Args(append([]string{"enter", "-n", fmt.Sprint(pid), "-w", dir}, rig.Attack("where")...)...)...)
		cmd.ExtraFiles = files
		switch r := tool.RunCommand(cmd); {
		case r.Code == 0:
			entered = append(entered, dir+" is "+r.Out)
		case r.Code != 125 || r.Out != "" || !strings.Contains(r.Err, "working directory"):
			t.Fatalf("%s: %+v", dir, r)
		}
	}
	return entered
}

// TestA4Cwd enters a container whose init works outside of its own root.
func TestA4Cwd(t *testing.T) {
	begin(t)
	b := newBox(t, throwaway.Spec{}, rig.Attack("outside"))
	if line, ok := b.hear(); !ok || line != "(unreachable)/" {
		t.Fatalf("init works in %q", line)
	}
	pwd := func(tool *rig.Tool) string {
		r := tool.Run(append([]string{"enter", "-n", b.pid()}, rig.Attack("where")...)...)
		if r.Code != 0 {
			t.Fatalf("%+v", r)
		}
		return r.Out
	}
	if got := pwd(rig.Build(t)); got != "/\n" {
		t.Errorf("the command works in %q", got)
	}
	if got := pwd(rig.Build(t, anyDirectory())); got == "/\n" {
		t.Error("the mutant's command works in / as well: the attack is none")
	}
}

// attackDescriptors prints which descriptors are open.
func attackDescriptors([]string) error {
	var open []int
	for fd := range 1024 {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			open = append(open, fd)
		}
	}
	fmt.Println(open)
	return nil
}

// attackOutside is an init whose root is a mount below its working directory.
func attackOutside([]string) error {
	const cage = "/tmp/cage"
	err := errors.Join(os.Mkdir(cage, 0o755), unix.Mount("/", cage, "", unix.MS_BIND, ""), unix.Chdir("/"), unix.Chroot(cage))
	if err != nil {
		return err
	}
	if err := attackWhere(nil); err != nil {
		return err
	}
	return stay()
}

// attackWhere prints the working directory as the kernel tells it.
func attackWhere([]string) error {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Getcwd(buf)
	if err != nil {
		return err
	}
	fmt.Println(string(buf[:n-1]))
	return nil
}
