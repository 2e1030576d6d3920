// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/cgroup"
	"github.com/outband/outband/internal/confine"
	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
)

// confined are containers confined in every way that there is.
var confined = map[string]throwaway.Spec{
	"plain":                {},
	"the host's files":     {Tree: throwaway.TreeShared},
	"not root":             {UID: 1001, GID: 1002, Groups: []int{7, 8, 1002}},
	"ambient capabilities": {UID: 1001, AmbientCaps: 1<<unix.CAP_CHOWN | 1<<unix.CAP_NET_BIND_SERVICE},
	"fewer capabilities":   {DropCaps: 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_SYS_PTRACE | 1<<unix.CAP_SETPCAP},
	"hardly any":           {DropCaps: 0x1ffffffffff &^ (1 << unix.CAP_KILL)},
	"no_new_privs":         {NoNewPrivs: true, UID: 5, GID: 5},
	"umask, oom score":     {Umask: 0o77, OOMScoreAdj: 500},
	"limits": {Rlimits: map[int]unix.Rlimit{
		unix.RLIMIT_CORE: {Cur: 1, Max: 2}, unix.RLIMIT_FSIZE: {Cur: 1 << 30, Max: 1 << 31}, unix.RLIMIT_STACK: {Cur: 1 << 20, Max: 16 << 20},
		unix.RLIMIT_NOFILE: {Cur: 64, Max: 128}, unix.RLIMIT_NPROC: {Cur: 5000, Max: 6000}, unix.RLIMIT_CPU: {Cur: 1000, Max: 2000},
	}},
	"user namespace":             {User: true, Groups: []int{4, 24}},
	"not root there":             {User: true, UID: 1001, GID: 1002, Groups: []int{7}, NoNewPrivs: true},
	"ambient capabilities there": {User: true, UID: 1001, AmbientCaps: 1 << unix.CAP_SYS_ADMIN},
	"one id, not 0": {User: true, UIDMap: []throwaway.IDMap{{ContainerID: 1001, HostID: os.Getuid(), Size: 1}},
		GIDMap: []throwaway.IDMap{{ContainerID: 1002, HostID: os.Getgid(), Size: 1}}, DenySetgroups: true},
	"setgroups denied": {User: true, DenySetgroups: true},
	"nested":           {Depth: 3},
	"filters":          {Filters: []throwaway.Filter{{Program: refuse(onTheWayIn...)}}},
	"filters, not root": {UID: 1001, Filters: []throwaway.Filter{
		{Program: refuse(unix.SYS_ACCT), Flags: unix.SECCOMP_FILTER_FLAG_LOG}, {Program: refuse(unix.SYS_SWAPON)}, {Program: refuse(onTheWayIn...)}}},
	"filters, no_new_privs":     {NoNewPrivs: true, Filters: []throwaway.Filter{{Program: refuse(unix.SYS_ACCT)}, {Program: refuse(onTheWayIn...)}}},
	"filters, user namespace":   {User: true, UID: 1001, Filters: []throwaway.Filter{{Program: refuse(unix.SYS_ACCT)}, {Program: refuse(onTheWayIn...)}}},
	"filters, hardly any right": {DropCaps: 0x1ffffffffff, Filters: []throwaway.Filter{{Program: refuse(onTheWayIn...)}}},
	"scheduling":                {Nice: 7, CPUs: 1},
}

// onTheWayIn are calls by which a command is confined, cloned and started.
var onTheWayIn = []int{
	unix.SYS_CAPSET, unix.SYS_CLONE3, unix.SYS_CLOSE_RANGE, unix.SYS_SECCOMP, unix.SYS_SETGROUPS,
	unix.SYS_SETRESGID, unix.SYS_SETRESUID, unix.SYS_SETSID, unix.SYS_SETNS,
}

// refuse is a filter under which calls end the process that makes them.
func refuse(calls ...int) []byte { return filter(unix.SECCOMP_RET_KILL_PROCESS, calls...) }

// filter is a filter under which calls have a certain result.
func filter(result uint32, calls ...int) (program []byte) {
	add := func(code uint16, jf byte, k uint32) {
		program = binary.LittleEndian.AppendUint32(append(program, byte(code), byte(code>>8), 0, jf), k)
	}
	add(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, 0, 0)
	for _, nr := range calls {
		add(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, 1, uint32(nr))
		add(unix.BPF_RET|unix.BPF_K, 0, result)
	}
	add(unix.BPF_RET|unix.BPF_K, 0, unix.SECCOMP_RET_ALLOW)
	return program
}

// needsRoot tells whether a spec asks for more than one's own id.
func needsRoot(spec throwaway.Spec) bool { return spec.UID+spec.GID+len(spec.Groups) > 0 }

// What is known of an entered command from outside is what is known of init.
func TestConfinedAsInit(t *testing.T) {
	testutil.NoLeaks(t)
	both(t, func(t *testing.T) {
		for name, spec := range confined {
			t.Run(name, func(t *testing.T) {
				if os.Geteuid() != 0 && needsRoot(spec) {
					return // there is but one id to be had
				}
				target := hold(t, testutil.Throwaway(t, spec).Leaf())
				c, pid := refusable(t, target, spec)
				if c == nil {
					return
				}
				init, visitor := stateOf(t, target.PID()), stateOf(t, pid)
				for _, d := range confine.Compare(init, visitor) {
					t.Errorf("%s: %s, init %s", d.Field, d.Process, d.Init)
				}
				if len(c.plan.Notes) > 0 {
					t.Errorf("it notes %q", c.plan.Notes)
				}
				sameFilters(t, target.PID(), pid, len(spec.Filters))
				sameGroups(t, target.PID(), pid)
				planIsTrue(t, c.plan, visitor)
			})
		}
	})
}

// A filter that hands calls to somebody has nobody for a visitor: that is told,
// and the call fails.
func TestUnattended(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	for name, c := range map[string]struct {
		result uint32
		want   bool
	}{
		"listener": {unix.SECCOMP_RET_USER_NOTIF, true}, "tracer": {unix.SECCOMP_RET_TRACE | 7, true},
		"errno": {unix.SECCOMP_RET_ERRNO | 0x7fc0, false}, "kill": {unix.SECCOMP_RET_KILL_PROCESS, false},
	} {
		t.Run(name, func(t *testing.T) {
			target := enter(t, throwaway.Spec{Tree: throwaway.TreeShared, Filters: []throwaway.Filter{
				{Program: refuse(unix.SYS_ACCT)}, {Program: filter(c.result, unix.SYS_SYNC)}, {Program: refuse(unix.SYS_SWAPON)}}})
			cmd := target.Command("true")
			if err := cmd.Run(); err != nil {
				t.Fatal(err, Hint(err))
			}
			if got := cmd.Process.Unattended(); got != c.want {
				t.Errorf("told: %v", got)
			}
		})
	}
}

// refusable starts a command, or returns nil where that is refused for what an
// unprivileged caller cannot copy: less is no choice.
func refusable(t *testing.T, target *Target, spec throwaway.Spec) (*Cmd, int) {
	t.Helper()
	c := target.Command("sleep", "1000")
	err := c.Start()
	var step *StepError
	if os.Geteuid() != 0 && spec.OOMScoreAdj != 0 && errors.As(err, &step) && step.Step == "set oom_score_adj" {
		return nil, 0
	}
	if os.Geteuid() != 0 && len(spec.Filters) > 0 {
		if loss := (*LossError)(nil); !errors.As(err, &loss) || loss.Losses[0] != LossSeccomp {
			t.Errorf("without the right to read filters: %v", err)
		}
		return nil, 0
	}
	if err != nil {
		t.Fatal(err, Hint(err))
	}
	t.Cleanup(func() {
		_ = c.Process.Signal(unix.SIGKILL)
		_ = c.Wait()
	})
	return c, c.Process.PIDs()[0]
}

// sameFilters compares the chains of two processes byte by byte.
func sameFilters(t *testing.T, init, visitor, count int) {
	t.Helper()
	if count == 0 {
		return
	}
	var chains [2]string
	for i, pid := range [2]int{init, visitor} {
		out, err := exec.Command("/proc/self/exe", "__filters", fmt.Sprint(pid)).Output()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		chains[i] = string(out)
	}
	if chains[0] != chains[1] || strings.Count(chains[0], "\n") != count {
		t.Errorf("filters %v, init's %v", chains[1], chains[0])
	}
}

// sameGroups compares the cgroups of two processes: the visitor's in the
// unified hierarchy is init's or a session below it.
func sameGroups(t *testing.T, init, visitor int) {
	t.Helper()
	theirs, err := procDir(t, init).Groups()
	if err != nil {
		t.Fatal(err)
	}
	own, err := procDir(t, visitor).Groups()
	if err != nil {
		t.Fatal(err)
	}
	if elsewhere := cgroup.Elsewhere(theirs, own); len(elsewhere) > 0 {
		t.Errorf("not in %v", elsewhere)
	}
	parent, path := strings.TrimSuffix(cgroup.Unified(theirs), "/"), strings.TrimSuffix(cgroup.Unified(own), "/")
	session, ok := strings.CutPrefix(path, parent+"/")
	if path != parent && (!ok || !strings.HasPrefix(session, cgroup.Prefix) || strings.Contains(session, "/")) {
		t.Errorf("in %s, init in %s", path, parent)
	}
}

// planIsTrue compares what was planned to what the kernel says.
func planIsTrue(t *testing.T, plan *Plan, visitor confine.State) {
	t.Helper()
	c := visitor.Caps
	told := CapPlan{hex(c.Effective), hex(c.Permitted), hex(c.Inheritable), hex(c.Bounding), hex(c.Ambient), plan.Capability.NoRoot}
	if plan.Capability != told || plan.NoNewPrivs != visitor.NoNewPrivs || plan.Umask != visitor.Umask || plan.OOMScoreAdj != visitor.OOMScoreAdj {
		t.Errorf("the plan says %+v, it is %+v", plan, visitor)
	}
	for _, l := range plan.Limits {
		if !slices.Contains(visitor.Limits[:], unix.Rlimit{Cur: l.Soft, Max: l.Hard}) {
			t.Errorf("%s: planned %+v", l.Name, l)
		}
	}
}

// An init of user 0 that gave up capabilities its bounding set still allows:
// nothing that is executed inside gets them back.
func TestNoRoot(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.RequireCommand(t, "setpriv", "util-linux")
	testutil.NoLeaks(t)
	// dash clears its permitted set by setpriv's help; it stays user 0.
	script := `exec setpriv --inh-caps=-all --ambient-caps=-all --securebits=+noroot,+noroot_locked sh -c 'read x'`
	spec := hostFiles()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	spec.Args, spec.Stdin = []string{"/bin/sh", "-c", script}, r
	target := func() *Target {
		c := testutil.Throwaway(t, spec)
		r.Close()
		await(t, "setpriv", func() bool { return stateOf(t, c.Pid()).Caps.Permitted == 0 })
		return hold(t, c)
	}()
	c, pid := sleeper(t, target, nil)
	if got := stateOf(t, pid); got.Caps.Permitted != 0 || got.Caps.Bounding == 0 || got.UID[1] != 0 || !c.plan.Capability.NoRoot {
		t.Errorf("%+v", got)
	}
	// A shell and what it executes are no better off.
	if out := run(t, sh(target, "grep CapEff /proc/self/status; exec grep CapEff /proc/self/status")); out != strings.Repeat("CapEff:\t0000000000000000\n", 2) {
		t.Errorf("inside: %q", out)
	}
}

// With --privileged a command has what the flag says, and no more of init's
// confinement is lost than that.
func TestPrivileged(t *testing.T) {
	testutil.NoLeaks(t)
	both(t, func(t *testing.T) {
		for _, uid := range []int{0, 1001} {
			if os.Geteuid() != 0 && uid != 0 {
				continue
			}
			spec := throwaway.Spec{UID: uid, User: true, DropCaps: 1 << unix.CAP_SYS_ADMIN, NoNewPrivs: true, Umask: 0o77}
			c, pid := sleeper(t, enter(t, spec), func(c *Cmd) { c.Privileged = true })
			got := stateOf(t, pid)
			if all := uint64(1<<lastCap - 1); got.Caps.Effective != all || got.Caps.Bounding != all || got.NoNewPrivs || got.Umask != 0o77 {
				t.Errorf("user %d: %+v", uid, got)
			}
			planIsTrue(t, c.plan, got)
		}
	})
}

// A command is accounted where its target is, unless it is asked not to be.
func TestCgroup(t *testing.T) {
	testutil.NoLeaks(t)
	fence := testutil.FencedCgroup(t, 100, 256<<20)
	target := enter(t, throwaway.Spec{Cgroups: fence.Dirs})
	_, pid := sleeper(t, target, nil)
	sameGroups(t, target.PID(), pid)
	for _, change := range []func(*Cmd){
		func(c *Cmd) { c.Cgroup = CgroupNone }, func(c *Cmd) { c.AcceptLoss = []Loss{LossCgroup} },
	} {
		_, pid := sleeper(t, target, change)
		sameGroups(t, os.Getpid(), pid)
	}
}

// unifiedGroup makes a group of the unified hierarchy for a test.
func unifiedGroup(t *testing.T) string {
	t.Helper()
	testutil.RequireRoot(t)
	root := "/sys/fs/cgroup/unified"
	if _, err := os.Stat(filepath.Join(root, "cgroup.procs")); err != nil {
		root = "/sys/fs/cgroup"
	}
	dir, err := os.MkdirTemp(root, fmt.Sprintf("test-outband-%d-", os.Getpid()))
	if err != nil {
		t.Skipf("skipped: needs a cgroup hierarchy of version 2: %v", err)
	}
	t.Cleanup(func() {
		await(t, "the end of "+dir, func() bool { return os.Remove(dir) == nil })
	})
	return dir
}

// Where no group can be made for a session it is moved into that of its target:
// nothing runs in the caller's by mistake.
func TestCgroupThatTakesNoSession(t *testing.T) {
	testutil.NoLeaks(t)
	dir := unifiedGroup(t)
	target := enter(t, throwaway.Spec{Cgroups: []string{dir}})
	if err := os.WriteFile(filepath.Join(dir, "cgroup.max.descendants"), []byte("0"), 0); err != nil {
		t.Fatal(err)
	}
	c, pid := sleeper(t, target, nil)
	sameGroups(t, target.PID(), pid)
	if c.Process.Cgroup() != "" {
		t.Errorf("the session has a group: %s", c.Process.Cgroup())
	}
}
