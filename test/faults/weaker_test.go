// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/test/cve/rig"
)

// guards are calls that keep something out, or give something up. None of them
// may be left out.
var guards = map[string]int{
	"close_range": unix.SYS_CLOSE_RANGE, "prctl": unix.SYS_PRCTL, "capset": unix.SYS_CAPSET, "setgroups": unix.SYS_SETGROUPS,
	"setresuid": unix.SYS_SETRESUID, "chroot": unix.SYS_CHROOT, "umask": unix.SYS_UMASK, "setns": unix.SYS_SETNS,
}

// TestNeverWeaker takes these from a caller that has the host's root open: it
// gets in nobody. A mutant goes on without the one that closes it.
func TestNeverWeaker(t *testing.T) {
	begin(t)
	tool, c := rig.Build(t), box(t)
	root, err := os.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	enter := func(tool *rig.Tool, nr int, errno unix.Errno) rig.Result {
		stage := rig.HostAttack("filter", fmt.Sprint(nr), fmt.Sprint(int(errno)))
		cmd := tool.Command(append(stage, tool.Args("enter", "-n", fmt.Sprint(c.Pid()), "true")...)...)
		cmd.ExtraFiles = []*os.File{root, root, root}
		return tool.RunCommand(cmd)
	}
	for name, nr := range guards {
		t.Run(name, func(t *testing.T) {
			for _, errno := range []unix.Errno{unix.ENOSYS, unix.EPERM} {
				refused(t, enter(tool.In(t), nr, errno))
			}
			nothingLeft(t, tool, c)
		})
	}
	const file, rest = "internal/forkexec/", "num(uint64(^uint32(0))), num(0))"
	mutant := rig.Build(t,
		rig.Change{File: file + "warden.go", Old: "num(len(b.files)), " + rest, New: "num(len(b.files)), " + rest + ".tolerate()"},
		rig.Change{File: file + "joiner.go", Old: "num(fdExec+1), " + rest, New: "num(fdExec+1), " + rest + ".tolerate()"})
	if r := enter(mutant, unix.SYS_CLOSE_RANGE, unix.ENOSYS); r.Code != 0 {
		t.Errorf("the mutant refuses it as well: %+v", r)
	}
}
