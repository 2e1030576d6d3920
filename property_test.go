// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"errors"
	"flag"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/outband/outband/internal/confine"
	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/ns"
)

// someCaps are the capabilities that sets are drawn from: those that change
// what a joiner can do, and two that do not.
var someCaps = []uint64{1 << unix.CAP_CHOWN, 1 << unix.CAP_KILL, 1 << unix.CAP_SETGID, 1 << unix.CAP_SETUID,
	1 << unix.CAP_SETPCAP, 1 << unix.CAP_SYS_ADMIN, 1 << unix.CAP_SYS_RESOURCE}

func drawCaps(t *rapid.T, within uint64, name string) uint64 {
	var set uint64
	for _, c := range rapid.SliceOfDistinct(rapid.SampledFrom(someCaps), rapid.ID).Draw(t, name) {
		set |= c & within
	}
	return set
}

// drawSets draws sets that a process can have (capabilities(7)).
func drawSets(t *rapid.T, name string) confine.Caps {
	c := confine.Caps{Bounding: drawCaps(t, everything, name+" bounding"), Permitted: drawCaps(t, everything, name+" permitted")}
	if rapid.Bool().Draw(t, name+" as an exec leaves them") {
		c.Permitted = c.Bounding
	}
	c.Effective = drawCaps(t, c.Permitted, name+" effective")
	if rapid.Bool().Draw(t, name+" all in effect") {
		c.Effective = c.Permitted
	}
	c.Inheritable = drawCaps(t, everything, name+" inheritable")
	c.Ambient = drawCaps(t, c.Permitted&c.Inheritable, name+" ambient")
	return c
}

// Numbers and maps that tell mistakes apart: root inside and outside, mapped
// and not.
var (
	someIDs  = rapid.SampledFrom([]uint32{0, 5, 1000, 1001, 100000, 101000, 165535, 65534})
	someMaps = rapid.SampledFrom([]procfs.IDMap{
		{{Inside: 0, Outside: 100000, Count: 65536}}, {{Inside: 0, Outside: 1000, Count: 1}}, {{Inside: 1001, Outside: 1000, Count: 1}},
		{{Inside: 0, Outside: 1000, Count: 1}, {Inside: 1, Outside: 100000, Count: 65535}}, {{Inside: 0, Outside: 0, Count: 4294967295}},
		{{Inside: 5, Outside: 0, Count: 1}, {Inside: 0, Outside: 5, Count: 1}}, {},
	})
)

func drawIDs(t *rapid.T, name string) [3]uint32 {
	if rapid.IntRange(0, 3).Draw(t, name+" differ") > 0 {
		id := someIDs.Draw(t, name)
		return [3]uint32{id, id, id}
	}
	return [3]uint32{someIDs.Draw(t, name+" real"), someIDs.Draw(t, name+" effective"), someIDs.Draw(t, name+" saved")}
}

func drawState(t *rapid.T, name string) (s confine.State) {
	s = confine.State{
		UID: drawIDs(t, name+" user"), GID: drawIDs(t, name+" group"),
		Groups: rapid.SliceOfNDistinct(someIDs, 0, 3, rapid.ID).Draw(t, name+" groups"), Caps: drawSets(t, name),
		NoNewPrivs: rapid.Bool().Draw(t, name+" no_new_privs"), OOMScoreAdj: rapid.IntRange(-1000, 1000).Draw(t, name+" oom"),
		Seccomp: rapid.SampledFrom([]int{0, 0, 0, 1, 2}).Draw(t, name+" seccomp"), Label: rapid.SampledFrom([]string{"", "", "", "a"}).Draw(t, name+" label"),
		Filters: rapid.IntRange(-1, 3).Draw(t, name+" filters"),
	}
	s.Scheduling.Policy = rapid.SampledFrom([]int{unix.SCHED_NORMAL, unix.SCHED_NORMAL, unix.SCHED_FIFO, unix.SCHED_DEADLINE}).Draw(t, name+" policy")
	s.Scheduling.Nice, s.Scheduling.Priority = rapid.IntRange(-20, 19).Draw(t, name+" nice"), rapid.IntRange(0, 99).Draw(t, name+" priority")
	for i := range s.Limits {
		soft := rapid.SampledFrom([]uint64{0, 10, 1024, infinity - 1}).Draw(t, name+" soft limit")
		s.Limits[i] = unix.Rlimit{Cur: soft, Max: rapid.SampledFrom([]uint64{soft, max(soft, 2048), infinity}).Draw(t, name+" hard limit")}
	}
	return s
}

const infinity = unix.RLIM_INFINITY

// drawSnapshot draws a target and a caller, who may be root, unprivileged, or
// inside a container.
func drawSnapshot(t *rapid.T) *snapshot {
	s := &snapshot{state: drawState(t, "init"), ownState: drawState(t, "own")}
	if rapid.Bool().Draw(t, "caller is root") {
		s.ownState.UID = [3]uint32{}
		s.ownState.Caps = confine.Caps{Effective: everything, Permitted: everything, Bounding: everything}
		if rapid.Bool().Draw(t, "without CAP_SYS_RESOURCE") {
			const most = everything &^ (1 << unix.CAP_SYS_RESOURCE)
			s.ownState.Caps = confine.Caps{Effective: most, Permitted: most, Bounding: most}
		}
	}
	s.status.NSpid = []int{7, 1}
	own := &s.ownStatus
	own.UID, own.GID = [4]uint32(append(s.ownState.UID[:], 0)), [4]uint32(append(s.ownState.GID[:], 0))
	own.Groups, own.NSpid = s.ownState.Groups, []int{5}
	c := s.ownState.Caps
	own.CapEff, own.CapPrm, own.CapInh, own.CapBnd, own.CapAmb = c.Effective, c.Permitted, c.Inheritable, c.Bounding, c.Ambient
	for k := range s.own {
		s.own[k], s.namespaces[k] = 1, ns.ID(rapid.IntRange(1, 2).Draw(t, "namespace"))
	}
	s.own[ns.User] = rapid.SampledFrom([]ns.ID{ns.InitialUser, 1}).Draw(t, "caller's user namespace")
	s.namespaces[ns.User] = rapid.SampledFrom([]ns.ID{s.own[ns.User], 2}).Draw(t, "target's user namespace")
	s.uids, s.gids = someMaps.Draw(t, "uid_map"), someMaps.Draw(t, "gid_map")
	s.denied = rapid.Bool().Draw(t, "setgroups denied")
	if s.own[ns.User] == ns.InitialUser && s.own[ns.User] == s.namespaces[ns.User] {
		s.denied = false // never there
	}
	s.inside = s.state.Translate(s.uids, s.gids)
	return s
}

func drawCmd(t *rapid.T) *Cmd {
	c := &Cmd{Args: []string{"ps"}, ExposeHost: true}
	c.AcceptLoss = rapid.SliceOfDistinct(rapid.SampledFrom([]Loss{LossSeccomp, LossCgroup, LossLSM, LossLimits}), rapid.ID).Draw(t, "accepted")
	c.Privileged = rapid.IntRange(0, 4).Draw(t, "privileged") == 0
	if rapid.IntRange(0, 3).Draw(t, "with a user") == 0 {
		c.User = &User{UID: someIDs.Draw(t, "user"), GID: someIDs.Draw(t, "group"), Groups: rapid.SliceOfN(someIDs, 0, 3).Draw(t, "groups")}
	}
	if rapid.IntRange(0, 3).Draw(t, "only some namespaces") == 0 {
		c.Only = rapid.SliceOfDistinct(rapid.SampledFrom(ns.Kinds()), rapid.ID).Draw(t, "only")
	}
	return c
}

// Whatever the target and the caller are, what is planned makes nobody inside
// more than init is, but by the flags that say so; and the plan tells the truth
// about what the kernel makes of it.
func TestPlanNeverYieldsMore(t *testing.T) {
	if checks := flag.Lookup("rapid.checks"); checks.Value.String() == checks.DefValue {
		_ = checks.Value.Set("3000")
	}
	executed, refused := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		s, c := drawSnapshot(t), drawCmd(t)
		plan, err := makePlan(s, "web", c)
		if err != nil {
			if !errors.Is(err, ErrNotSupported) && !errors.Is(err, ErrInvalid) {
				t.Fatalf("refused with %v", err)
			}
			refused++
			return
		}
		k, err := execute(s, plan)
		if err != nil {
			if s.own[ns.User] == ns.InitialUser && s.ownState.Caps.Effective == everything {
				t.Fatalf("the machine's root fails with %v", err)
			}
			refused++ // nothing is executed
			return
		}
		executed++
		checkLosses(t, s, c, plan)
		checkScheduling(t, s, plan)
		checkCaps(t, s, c, plan, k)
		checkIdentity(t, s, c, plan, k)
		checkLimits(t, s, c, k)
	})
	if executed < refused/10 {
		t.Errorf("%d plans were executed, %d refused: the test says little", executed, refused)
	}
	t.Logf("%d executed, %d refused", executed, refused)
}

func checkLosses(t *rapid.T, s *snapshot, c *Cmd, plan *Plan) {
	if c.Privileged {
		return
	}
	filters := s.state.Seccomp == confine.SeccompFilter && plan.Filters == s.state.Filters && plan.Filters > 0
	if s.state.Seccomp != 0 && !filters && !slices.Contains(c.AcceptLoss, LossSeccomp) {
		t.Error("without the filters of init")
	}
	if plan.Filters > 0 && (s.own[ns.User] != ns.InitialUser || s.ownState.Seccomp != 0) {
		t.Error("with filters that the caller cannot read")
	}
	if s.state.Label != s.ownState.Label && (plan.Label != s.state.Label || plan.label == nil) && !slices.Contains(c.AcceptLoss, LossLSM) {
		t.Error("without the label of init")
	}
}

// checkScheduling finds nobody scheduled better than init is.
func checkScheduling(t *rapid.T, s *snapshot, plan *Plan) {
	got, init, own := plan.Scheduling, s.state.Scheduling, s.ownState.Scheduling
	as := func(other confine.Scheduling) bool {
		return got.Policy == other.PolicyName() && got.Nice == other.Nice && got.Priority == other.Priority
	}
	if !as(init) && (!as(own) || len(plan.Notes) == 0) {
		t.Errorf("scheduled as %+v, init as %+v, the caller as %+v", got, init, own)
	}
}

func checkCaps(t *rapid.T, s *snapshot, c *Cmd, plan *Plan, k *task) {
	after, init := k.caps, s.state.Caps
	told := CapPlan{hex(after.Effective), hex(after.Permitted), hex(after.Inheritable), hex(after.Bounding), hex(after.Ambient), k.noRoot}
	if plan.Capability != told {
		t.Errorf("the plan says %+v, the kernel makes %+v", plan.Capability, told)
	}
	if s.state.NoNewPrivs && !k.noNewPrivs && !c.Privileged {
		t.Error("no_new_privs is lost")
	}
	switch {
	case c.Privileged:
		if !k.inner && after.Permitted&^s.ownState.Caps.Permitted != 0 {
			t.Errorf("permitted %#x, the caller has %#x", after.Permitted, s.ownState.Caps.Permitted)
		}
		return
	case !k.inner && !k.shared: // outside of the user namespace in which init holds any
		init = confine.Caps{}
	case c.User != nil:
		init.Permitted, init.Ambient = 0, 0
		if c.User.UID == 0 {
			init.Permitted = init.Bounding
		}
	}
	if after.Permitted&^init.Permitted != 0 || after.Bounding&^init.Bounding != 0 || after.Ambient&^init.Ambient != 0 || after.Inheritable&^init.Inheritable != 0 {
		t.Errorf("capabilities %+v, init's %+v", after, init)
	}
	// What is permitted can be taken into effect at any time: more of it at the
	// start is no more power, but told.
	if c.User == nil && after.Effective&^init.Effective != 0 && !noted(plan, "put down") {
		t.Errorf("effective %#x, init's %#x, notes %q", after.Effective, init.Effective, plan.Notes)
	}
}

func noted(plan *Plan, words string) bool {
	return slices.ContainsFunc(plan.Notes, func(n string) bool { return strings.Contains(n, words) })
}

func checkIdentity(t *rapid.T, s *snapshot, c *Cmd, plan *Plan, k *task) {
	if uid, gid := k.shown(s.uids, k.uid[1]), k.shown(s.gids, k.gid[1]); uid != plan.UID || gid != plan.GID {
		t.Errorf("user %d:%d, the plan says %d:%d", uid, gid, plan.UID, plan.GID)
	}
	groups := s.state.Groups
	if c.User != nil {
		groups = chosenGroups(s, c.User, k)
		if k.uid[0] != k.uid[1] || k.uid[1] != k.uid[2] {
			t.Errorf("users %v", k.uid)
		}
	} else if k.uid[0] != s.state.UID[0] || k.uid[1] != s.state.UID[1] || k.gid[0] != s.state.GID[0] || k.gid[1] != s.state.GID[1] {
		t.Errorf("user %v, group %v, init %v, %v", k.uid, k.gid, s.state.UID, s.state.GID)
	}
	if !slices.Equal(k.groups, groups) && !noted(plan, "supplementary groups stay") {
		t.Errorf("groups %v, want %v, notes %q", k.groups, groups, plan.Notes)
	}
}

// chosenGroups are the supplementary groups of a chosen user that exist, as the
// caller numbers them.
func chosenGroups(s *snapshot, u *User, k *task) (groups []uint32) {
	for _, g := range u.Groups {
		outside, ok := g, g != noID
		if !k.shared {
			outside, ok = s.gids.Outside(g)
		}
		if ok && !s.denied {
			groups = append(groups, outside)
		}
	}
	return groups
}

func checkLimits(t *rapid.T, s *snapshot, c *Cmd, k *task) {
	if slices.Contains(c.AcceptLoss, LossLimits) {
		return
	}
	for i, limit := range k.limits {
		if init := s.state.Limits[i]; limit.Cur > init.Cur || limit.Max > init.Max {
			t.Errorf("%s: %v, init %v", procfs.LimitNames()[i], limit, init)
		}
	}
}
