// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
)

func TestSupervisor(t *testing.T) {
	for comm, want := range map[string]string{
		"containerd-shim": "containerd-shim", "conmon": "conmon", "lxc-start": "lxc monitor", "lxd": "lxc monitor",
		"systemd-nspawn": "systemd-nspawn", "unshare": "unshare",
	} {
		h := Recorded(t.TempDir(), []procfs.Task{{PID: 1, Start: 1}, {PID: 10, Parent: 1, Start: 5, Comm: comm}, {PID: 11, Parent: 10, Start: 6}})
		c := Container{Init: Init{PID: 11}}
		h.observe(&c)
		if c.Supervisor == nil || *c.Supervisor != (Supervisor{want, 10, 5}) {
			t.Errorf("%s: %+v", comm, c.Supervisor)
		}
		c = Container{Init: Init{PID: 10}}
		if h.observe(&c); c.Supervisor != nil {
			t.Errorf("the machine's init: %+v", c.Supervisor)
		}
	}
}

// Nobody reads what the parent executes where names are all that is asked.
func TestSupervisorBrief(t *testing.T) {
	tasks := []procfs.Task{{PID: 1, Start: 1}, {PID: 10, Parent: 1, Start: 5, Comm: "conmon"}, {PID: 11, Parent: 10, Start: 6, State: 'Z'}}
	for _, brief := range []bool{false, true} {
		h := Recorded(t.TempDir(), tasks)
		if brief {
			h.Seek("", "")
		}
		c := Container{Init: Init{PID: 11}}
		if h.observe(&c); (c.Supervisor == nil) != brief || c.State != Zombie {
			t.Errorf("brief %v: %+v", brief, c)
		}
	}
}

// TestSupervisorKernel: what the parent executes counts, not what it calls itself.
func TestSupervisorKernel(t *testing.T) {
	target := testutil.Throwaway(t, throwaway.Spec{})
	proc := openProc(t)
	tasks, err := proc.Scan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range tasks {
		tasks[i].Comm, tasks[i].Cmdline = "conmon", "conmon\x00"
	}
	c := Container{Init: Init{PID: target.Pid()}}
	NewHost(proc, tasks).observe(&c)
	exe, err := os.Executable()
	if err != nil || c.Supervisor == nil || c.Supervisor.Name != filepath.Base(exe) {
		t.Errorf("%+v, %v, want %s", c.Supervisor, err, exe)
	}
}
