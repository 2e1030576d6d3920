// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// nspawn starts systemd in a container of the host's own files, whose /usr it
// sees, and waits until init has put itself into a cgroup below the
// container's, whose processes are in others beside it.
func nspawn(t *testing.T, flags ...string) int {
	t.Helper()
	asRoot(t)
	has(t, "systemd-nspawn")
	args := append([]string{"systemd-nspawn", "--quiet", "--directory=/", "--volatile=yes", "--private-network", "--console=pipe"}, flags...)
	outer := spawn(t, append(args, "--boot", "systemd.unit=multi-user.target", "systemd.log_level=warning")...)
	pid := childOf(t, outer.Process.Pid, "systemd")
	await(t, "an init in a cgroup of its own", func() bool { return strings.HasSuffix(unified(t, pid), "/init.scope") })
	childOf(t, pid, "systemd-journal") // it has raised its limits by now
	return pid
}

// TestNspawn enters an init that stays in a cgroup whose parent has controllers
// enabled, and so can have no processes itself.
func TestNspawn(t *testing.T) {
	check(t, unregistered(t))
}

func TestNspawnUser(t *testing.T) {
	check(t, unregistered(t, "--private-users=pick"))
}

// unregistered is a container of which nobody but its systemd-nspawn knows.
func unregistered(t *testing.T, flags ...string) box {
	t.Helper()
	name := strings.ToLower(t.Name())
	return box{pid: nspawn(t, append(flags, "--register=no", "--machine="+name)...), name: "nspawn:" + name}
}

// TestNspawnRegistered has a container that only systemd-machined has a name for:
// its command line tells none, and systemd-nspawn calls what it starts from / as
// the host is called.
func TestNspawnRegistered(t *testing.T) {
	pid := nspawn(t)
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if said := call(t, "machinectl", "show", "-p", "Leader", "--value", name); number(t, said) != pid {
		t.Fatalf("machined takes %s for the first process of %s, which is %d", said, name, pid)
	}
	full := "nspawn:" + name
	checkNamed(t, full, pid)
	if out := answer(t, "enter", full, "--", "cat", "/proc/1/comm"); out != "systemd\n" {
		t.Errorf("%s: %q", full, out)
	}
	var roots []struct {
		Pids      []int
		Container string
	}
	if err := json.Unmarshal([]byte(answer(t, "tree", full, "-o", "json")), &roots); err != nil || len(roots) != 1 || roots[0].Pids[0] != pid || roots[0].Container != full {
		t.Errorf("tree %s: %+v, %v, want process %d", full, roots, err, pid)
	}
	call(t, "machinectl", "terminate", name)
	await(t, "the end of the machine", func() bool { return list(t, full) == nil })
}
