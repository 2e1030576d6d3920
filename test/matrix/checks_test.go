// SPDX-License-Identifier: Apache-2.0

package matrix

import (
	"context"
	"errors"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/outband/outband/test/lab"
)

// check is one thing that is tested with each container. It returns what the
// table says: yes, or a word of the legend in report_test.go.
type check struct {
	name string
	do   func(t *testing.T, c *target) string
}

// checks are the columns of the table.
func checks() []check {
	return []check{
		{"command", checkCommand},
		{"confinement", checkConfinement},
		{"filters", checkFilters},
		{"cgroup", checkCgroup},
		{"as exec", checkExec},
		{"machine", checkMachine},
		{"owner", checkOwner},
		{"refusals", checkRefusals},
	}
}

const (
	yes  = "yes"
	none = "–"
)

// checkCommand: output and exit codes are passed on, and what a command has left
// in the background ends.
func checkCommand(t *testing.T, c *target) string {
	if c.scratch {
		if r := c.enter(t, c.sleep(), "0"); r.Code != 0 {
			t.Errorf("sleep: %+v", r)
		}
		if r := c.enter(t, c.sleep(), "never"); r.Code != 1 {
			t.Errorf("sleep never: %+v", r)
		}
	} else {
		if r := c.enter(t, "id", "-u"); r.Code != 0 || strings.TrimSpace(r.Out) == "" {
			t.Errorf("id: %+v", r)
		}
		if r := c.enter(t, "sh", "-c", "echo out; echo err >&2; exit 42"); r.Code != 42 || r.Out != "out\n" || !strings.Contains(r.Err, "err\n") {
			t.Errorf("sh: %+v", r)
		}
		if r := c.enter(t, "sh", "-c", "(sleep "+stay+" &) >&- 2>&-"); r.Code != 0 {
			t.Errorf("sh: %+v", r)
		}
		c.nothingLeft(t)
	}
	if r := c.enter(t, "/no/such/program"); r.Code != 127 {
		t.Errorf("no such program: %+v", r)
	}
	return yes
}

// confined are the lines of proc_pid_status(5) in which a visitor has to be what
// init is.
var confined = []string{
	"Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters",
}

// differences lists the lines in which two differ.
func differences(init, visitor map[string]string) (lines []string) {
	for _, name := range confined {
		if init[name] != visitor[name] {
			lines = append(lines, name+": init "+init[name]+", visitor "+visitor[name])
		}
	}
	return lines
}

// checkConfinement: what is let in is confined as init, seen from outside.
func checkConfinement(t *testing.T, c *target) string {
	c.visit(t, func(pid int) {
		if d := differences(c.status(c.HostPid), c.status(pid)); d != nil {
			t.Errorf("differs from init:\n%s", strings.Join(d, "\n"))
		}
	})
	return yes
}

// checkFilters: a target with filters is entered under them, as checkConfinement
// has counted; and what one of them forbids is forbidden.
func checkFilters(t *testing.T, c *target) string {
	n := c.filters()
	if c.subject.options.NoMkdir {
		if r := c.enter(t, "mkdir", "/tmp/visitor"); r.Code != 1 || !strings.Contains(r.Err, "Read-only file system") {
			t.Errorf("mkdir: %+v", r)
		}
	}
	if n == 0 {
		return "none"
	}
	return strconv.Itoa(n)
}

// checkCgroup: in each hierarchy the visitor is where init is, or in a group of
// its session's below that.
func checkCgroup(t *testing.T, c *target) string {
	own := ""
	c.visit(t, func(pid int) {
		init := c.cgroups(c.HostPid)
		for hierarchy, path := range c.cgroups(pid) {
			rest, ok := strings.CutPrefix(path, strings.TrimSuffix(init[hierarchy], "/"))
			session := strings.HasPrefix(rest, "/outband-") && !strings.Contains(rest[1:], "/")
			if session {
				own = ", own"
			}
			if !ok || rest != "" && path != init[hierarchy] && !session {
				t.Errorf("hierarchy %q: init is in %s, the visitor in %s", hierarchy, init[hierarchy], path)
			}
		}
	})
	return yes + own
}

// execDiffers is what an engine's own exec leaves out that init has, by engine
// and container; "" stands for all containers. Outband goes by init.
var execDiffers = map[[2]string]string{
	{"crun", ""}:                "NoNewPrivs", // 1.8 takes it from exec's own flag alone
	{"podman", "user"}:          "Groups",     // of --user=UID:GID init alone has GID
	{"podman-rootless", "user"}: "Groups",
}

// checkExec: what the engine's own exec starts is confined as what enter starts,
// seen from inside.
func checkExec(t *testing.T, c *target) string {
	if c.scratch {
		return none
	}
	ctx, cancel := context.WithTimeout(t.Context(), commandTime)
	defer cancel()
	theirs, err := c.Exec(ctx, "cat", "/proc/self/status")
	if errors.Is(err, lab.ErrNotOffered) {
		return none
	}
	if err != nil || theirs.Code != 0 {
		t.Fatalf("%v: %+v", err, theirs)
	}
	ours := c.enter(t, "cat", "/proc/self/status")
	said := yes
	for _, d := range differences(parseStatus(theirs.Out), parseStatus(ours.Out)) {
		name, _, _ := strings.Cut(d, ":")
		if engine := c.host.Engine.Name; execDiffers[[2]string{engine, ""}] == name || execDiffers[[2]string{engine, c.subject.name}] == name {
			said = "but " + name
			continue
		}
		t.Errorf("differs from exec: %s", strings.Replace(d, "init", "exec", 1))
	}
	return said
}

// checkMachine: the program gets in from the machine, too, two levels above the
// container.
func checkMachine(t *testing.T, c *target) string {
	ctx, cancel := context.WithTimeout(t.Context(), commandTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.host.Path(outband), "enter", "pid:"+strconv.Itoa(c.Pid), "--", c.sleep(), "0")
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, said)
	}
	c.nothingLeft(t)
	return yes
}

// checkOwner: a user enters a container of their own. The filters of others are
// not shown to them (CAP_SYS_ADMIN, ptrace(2)), so those are lost or the way is
// refused, whatever root can do.
func checkOwner(t *testing.T, c *target) string {
	if c.host.Engine.User == nil {
		return none
	}
	byOwner := func(flags []string) lab.Result {
		cmd := c.host.Command(c.args(flags, c.sleep(), "0")...)
		cmd.User, cmd.Env = c.host.Engine.User, []string{"PATH=/usr/bin:/bin", "HOME=/home/lab", "XDG_RUNTIME_DIR=/run/user/1001"}
		return c.run(t, cmd)
	}
	said := yes
	var flags []string
	if uid := strconv.Itoa(int(c.host.Engine.User.UID)); !strings.HasPrefix(c.status(c.HostPid)["Uid"], uid+" ") {
		// Files below /proc belong to one of the user's subordinate ids.
		if r := byOwner(nil); r.Code != codeError || !strings.Contains(r.Err, "permission denied") {
			t.Errorf("not refused: %+v", r)
		}
		return "refused"
	}
	if c.filters() > 0 {
		if r := byOwner(nil); r.Code != codeError || !strings.Contains(r.Err, "--accept-loss seccomp") {
			t.Errorf("not refused: %+v", r)
		}
		said, flags = yes+", without filters", []string{"--accept-loss", "seccomp"}
	}
	if r := byOwner(flags); r.Code != 0 {
		t.Errorf("%+v", r)
	}
	return said
}

// checkRefusals: what has to be refused is, in one line, with nobody let in.
func checkRefusals(t *testing.T, c *target) string {
	for _, flags := range [][]string{
		{"--only", "pid"}, {"-u", "4294967295"}, {"-w", "/proc/self/fd/3"}, {"--accept-loss", "everything"}, {"-e", "=x"},
	} {
		r := c.run(t, c.host.Command(c.args(flags, c.sleep(), "0")...))
		if r.Code != codeError || !strings.HasPrefix(r.Err, "outband: ") || strings.Count(r.Err, "\n") > 2 {
			t.Errorf("%v: not refused: %+v", flags, r)
		}
	}
	c.nothingLeft(t)
	return yes
}
