// SPDX-License-Identifier: Apache-2.0

package cve

import (
	"encoding/binary"
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

// netRaw is a capability that nobody here has in the end.
const netRaw = unix.CAP_NET_RAW

// heir makes a program whose file says that NET_RAW is passed on to it by whoever
// has it inheritable (capabilities(7), "File capabilities"), and returns its path.
func heir(t *testing.T, tool *rig.Tool) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { // others execute it
		t.Fatal(err)
	}
	program := filepath.Join(dir, "status")
	text, err := os.ReadFile(tool.Path)
	if err != nil {
		t.Fatal(err)
	}
	// struct vfs_cap_data: revision 2, effective; permitted and inheritable, low
	// words first
	data := make([]byte, 20)
	binary.LittleEndian.PutUint32(data, 0x02000001)
	binary.LittleEndian.PutUint32(data[8:], 1<<netRaw)
	err = errors.Join(os.WriteFile(program, text, 0o755), unix.Setxattr(program, "security.capability", data, 0))
	if errors.Is(err, unix.ENOTSUP) {
		t.Skip("skipped: files have no capabilities here")
	}
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// capLines are those of a status that say what a process may.
func capLines(status string) string {
	var lines []string
	for _, field := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"} {
		lines = append(lines, field+" "+rig.Field(status, field))
	}
	return strings.Join(lines, "; ")
}

// TestA15 enters for a caller that has inheritable and ambient capabilities. The
// command has init's, and a program that would be passed some gains none.
func TestA15(t *testing.T) {
	begin(t)
	tool := rig.Build(t)
	mutant := rig.Build(t, rig.Change{File: "internal/forkexec/joiner.go",
		Old: "b.capset(StepCapabilities, c.Permitted, c.Effective, c.Inheritable)",
		New: "b.capset(StepCapabilities, c.Permitted, c.Effective, c.Inheritable|1<<unix.CAP_NET_RAW)"})
	program := heir(t, tool)
	status := func(x *rig.Tool, pid int, args ...string) rig.Result {
		cmd := x.Command(x.Args(append([]string{"enter", "-n", fmt.Sprint(pid)}, args...)...)...)
		cmd.SysProcAttr.AmbientCaps = []uintptr{netRaw, unix.CAP_SYS_ADMIN}
		return x.RunCommand(cmd)
	}
	for name, spec := range map[string]throwaway.Spec{
		"plain": {}, "few": {DropCaps: 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_SYS_PTRACE}, "user": {UID: 7, GID: 7}, "no_new_privs": {NoNewPrivs: true},
		"ambient": {UID: 7, GID: 7, AmbientCaps: 1 << unix.CAP_NET_BIND_SERVICE}, "user namespace": {User: true},
	} {
		c := testutil.Throwaway(t, spec)
		init, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.Pid()))
		if err != nil {
			t.Fatal(err)
		}
		if r := status(tool.In(t), c.Pid(), "status"); r.Code != 0 || capLines(r.Out) != capLines(string(init)) {
			t.Errorf("%s: init has %s, the command %+v", name, capLines(string(init)), r)
		}
	}
	c := testutil.Throwaway(t, throwaway.Spec{Tree: throwaway.TreeShared, Args: []string{"/bin/sleep", "infinity"}})
	const none, some = "0000000000000000", "0000000000002000"
	if r := status(tool, c.Pid(), "-u", "7:7", program); r.Code != 0 || rig.Field(r.Out, "CapPrm") != none || rig.Field(r.Out, "CapInh") != none {
		t.Errorf("%s: %+v", capLines(r.Out), r)
	}
	if r := status(mutant, c.Pid(), "-u", "7:7", program); rig.Field(r.Out, "CapPrm") != some {
		t.Errorf("the mutant passes nothing on either: %s: %+v", capLines(r.Out), r)
	}
}
