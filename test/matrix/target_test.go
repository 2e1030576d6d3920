// SPDX-License-Identifier: Apache-2.0

package matrix

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/outband/outband/test/lab"
)

// target is a container that is entered.
type target struct {
	*lab.Container
	host    *lab.Host
	subject subject
	scratch bool // it has no shell
}

// sleep is the program that every image has.
func (c *target) sleep() string {
	if c.scratch {
		return "/sleep"
	}
	return "sleep"
}

// filters is how many seccomp filters the container's init has.
func (c *target) filters() int {
	n, _ := strconv.Atoi(c.status(c.HostPid)["Seccomp_filters"])
	return n
}

// args is the command line of enter by a user of the host.
func (c *target) args(flags []string, command ...string) []string {
	args := append([]string{outband, "enter", "pid:" + strconv.Itoa(c.HostPid)}, flags...)
	return append(append(args, "--"), command...)
}

// enter runs a command inside, by root on the host, and returns how it ended.
func (c *target) enter(t *testing.T, command ...string) lab.Result {
	t.Helper()
	return c.run(t, c.host.Command(c.args(nil, command...)...))
}

func (c *target) run(t *testing.T, cmd *lab.Command) lab.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTime)
	defer cancel()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r, err := cmd.Wait(ctx)
	if err != nil {
		t.Fatalf("%v: %+v", err, r)
	}
	return r
}

// status reads a process's /proc/PID/status as the machine's root sees it: ids
// are those outside, the same for all.
func (c *target) status(pid int) map[string]string {
	data, err := os.ReadFile(c.host.Path("/proc/" + strconv.Itoa(pid) + "/status"))
	if err != nil {
		return nil
	}
	return parseStatus(string(data))
}

// parseStatus splits the lines of proc_pid_status(5).
func parseStatus(text string) map[string]string {
	fields := map[string]string{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(line, ":")
		fields[name] = strings.Join(strings.Fields(value), " ")
	}
	return fields
}

// cgroups are the paths of a process by hierarchy.
func (c *target) cgroups(pid int) map[string]string {
	data, err := os.ReadFile(c.host.Path("/proc/" + strconv.Itoa(pid) + "/cgroup"))
	if err != nil {
		return nil
	}
	groups := map[string]string{}
	for line := range strings.Lines(string(data)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) == 3 {
			groups[parts[1]] = parts[2]
		}
	}
	return groups
}

// stay is how long the commands that are looked at would sleep. No other process
// has such an argument.
const stay = "987654"

// visitors are the processes of the container's pid namespace that were let in
// to stay, as the host counts. A dead one has no arguments any more: orphans go
// to the container's init, and some of those reap nothing.
func (c *target) visitors() (pids []int) {
	want, err := os.Readlink(c.host.Path("/proc/" + strconv.Itoa(c.HostPid) + "/ns/pid"))
	if err != nil {
		return nil
	}
	files, _ := filepath.Glob(c.host.Path("/proc/[0-9]*/cmdline"))
	for _, file := range files {
		dir := filepath.Dir(file)
		args, err := os.ReadFile(file)
		if err != nil || !strings.HasSuffix(string(args), "sleep\x00"+stay+"\x00") {
			continue
		}
		if got, _ := os.Readlink(dir + "/ns/pid"); got == want {
			pid, _ := strconv.Atoi(filepath.Base(dir))
			pids = append(pids, pid)
		}
	}
	return pids
}

// visit runs look while a command is inside, with that command's number, and
// then kills the program; nothing may be left of the session.
func (c *target) visit(t *testing.T, look func(pid int)) {
	t.Helper()
	cmd := c.host.Command(c.args(nil, c.sleep(), stay)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pids []int
	within(func() bool { pids = c.visitors(); return len(pids) > 0 || cmd.Ended() })
	if len(pids) != 1 {
		t.Errorf("not one came in, but %v: %s", pids, cmd.Said())
	} else {
		look(pids[0])
	}
	cmd.Kill()
	if _, err := cmd.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	c.nothingLeft(t)
}

// nothingLeft waits until no visitor and no cgroup of a session's is there.
func (c *target) nothingLeft(t *testing.T) {
	t.Helper()
	var pids []int
	var groups string
	if !within(func() bool {
		pids = c.visitors()
		groups, _ = c.host.Do(t.Context(), "find", "/sys/fs/cgroup", "-type", "d", "-name", "*outband-*")
		return len(pids) == 0 && groups == ""
	}) {
		t.Errorf("left behind: processes %v, cgroups %q", pids, groups)
	}
}

// within polls until done or the time is over.
func within(done func() bool) bool {
	for until := time.Now().Add(settleTime); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(until) {
			return false
		}
	}
	return true
}
