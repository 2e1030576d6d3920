// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/confine"
	"github.com/outband/outband/internal/forkexec"
	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/ns"
)

// Plan is what a command in a target will be: what it joins, who it becomes,
// what it executes. Making one needs no privilege and performs no system call;
// what outband enter --explain prints is all of it.
type Plan struct {
	Target      string    `json:"target"`
	Init        []int     `json:"init"`   // numbers of its first process, outermost first
	Join        []ns.Kind `json:"join"`   // namespaces joined
	Shared      []ns.Kind `json:"shared"` // those the target has in common with the caller
	ChangeRoot  bool      `json:"change_root"`
	Paths       []string  `json:"paths"` // tried in order
	Args        []string  `json:"args"`
	Env         []string  `json:"env"`
	Dir         string    `json:"dir"` // empty: that of the target's init
	UID         uint32    `json:"uid"`
	GID         uint32    `json:"gid"`
	Groups      []uint32  `json:"groups"`
	Capability  CapPlan   `json:"capabilities"`
	NoNewPrivs  bool      `json:"no_new_privs"`
	Filters     int       `json:"seccomp_filters"` // copied
	Label       string    `json:"lsm"`             // that it gets; empty: it stays the caller's
	Umask       uint32    `json:"umask"`
	OOMScoreAdj int       `json:"oom_score_adj"`
	Limits      []Limit   `json:"limits"` // resource limits that are set; others are as the caller's

	Scheduling  SchedulingPlan `json:"scheduling"`
	Cgroup      string         `json:"cgroup"`                 // of the unified hierarchy; empty: the caller's
	Thaw        []string       `json:"thaw,omitempty"`         // frozen cgroups of the target that are thawed, and stay so
	InitStopped bool           `json:"init_stopped,omitempty"` // by a signal: the target is as good as frozen
	Streams     string         `json:"streams"`
	Notes       []string       `json:"notes"` // in what it is weaker than init, and what was asked for beyond it

	limits        []forkexec.Limit
	sched         forkexec.Scheduling
	label         *forkexec.Label
	oom           *int
	before, after *forkexec.Identity
	caps          forkexec.Caps
	inTarget      bool // accounted in the target's cgroups
	outside       [2]uint32
	terminal      [2]uint32 // user and group that it is given to, as numbered where it is made
}

// Limit is a resource limit as setrlimit(2) has it, named as in
// /proc/PID/limits; 1<<64 - 1 is "unlimited".
type Limit struct {
	Name string `json:"name"`
	Soft uint64 `json:"soft"`
	Hard uint64 `json:"hard"`
}

// CapPlan are the capability sets that a command will have, as bit masks in
// hexadecimal, and whether it may regain any by executing a file (securebits).
type CapPlan struct {
	Effective   string `json:"effective"`
	Permitted   string `json:"permitted"`
	Inheritable string `json:"inheritable"`
	Bounding    string `json:"bounding"`
	Ambient     string `json:"ambient"`
	NoRoot      bool   `json:"noroot"`
}

// planner gathers a plan.
type planner struct {
	*Plan
	t        *snapshot
	c        *Cmd
	sameUser bool // no other user namespace is joined
	aloof    bool // the target has another one, which is not joined
}

// makePlan decides everything about c in the target that s was read of.
func makePlan(s *snapshot, name string, c *Cmd) (*Plan, error) {
	p := &planner{t: s, c: c, Plan: &Plan{
		Target: name, Init: s.status.NSpid, // no list is null in JSON
		Join: []ns.Kind{}, Shared: []ns.Kind{}, Groups: []uint32{}, Limits: []Limit{}, Notes: []string{},
	}}
	for _, step := range []func() error{
		p.validate, p.losses, p.namespaces, p.execution, p.identity, p.terminalOwner, p.capabilities, p.limitations, p.scheduling, p.placement,
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return p.Plan, nil
}

func (p *planner) note(format string, args ...any) {
	p.Notes = append(p.Notes, fmt.Sprintf(format, args...))
}

// validate refuses strings that the kernel would cut or refuse.
func (p *planner) validate() error {
	if len(p.c.Args) == 0 || p.c.Args[0] == "" {
		return fmt.Errorf("%w: no command", ErrInvalid)
	}
	for _, list := range [...][]string{p.c.Args, p.c.Paths, p.c.Env, {p.c.Dir}} {
		for _, s := range list {
			if strings.ContainsRune(s, 0) {
				return fmt.Errorf("%w: %q contains a NUL byte", ErrInvalid, s)
			}
		}
	}
	for _, e := range p.c.Env {
		// A22: a name with a line feed would look like two entries somewhere.
		name, _, ok := strings.Cut(e, "=")
		if !ok || name == "" || strings.ContainsFunc(name, unicode.IsControl) {
			return fmt.Errorf("%w: environment entry %q is not NAME=VALUE", ErrInvalid, e)
		}
	}
	return nil
}

// namespaces decides what is joined.
func (p *planner) namespaces() error {
	differ := p.t.namespaces.Differ(p.t.own)
	for _, k := range ns.Kinds() {
		wanted := p.c.Only == nil || slices.Contains(p.c.Only, k)
		switch {
		case !slices.Contains(differ, k):
			p.Shared = append(p.Shared, k)
		case wanted:
			p.Join = append(p.Join, k)
		}
	}
	p.sameUser = !slices.Contains(p.Join, ns.User)
	p.ChangeRoot = p.c.Only == nil || slices.Contains(p.c.Only, ns.Mount)
	if !p.ChangeRoot && (slices.Contains(p.Join, ns.PID) || slices.Contains(p.Shared, ns.PID)) {
		// A43 (docs/threat-model.md): processes of the target, where they see
		// the visitor, could reach the host's files through its /proc/PID/root.
		if !p.c.ExposeHost {
			return withHint(fmt.Errorf("%w: without mnt but in the same pid namespace the target could reach the host's files through the command", ErrBreakout),
				"join mnt as well, or say --expose-host")
		}
		p.note("the target can reach the host's files through this command (--expose-host)")
	}
	if p.aloof = p.sameUser && !slices.Contains(p.Shared, ns.User); p.aloof {
		p.note("the target's user namespace is not joined: users are numbered as outside, and there are no capabilities")
	}
	return nil
}

// execution decides what is executed.
func (p *planner) execution() error {
	p.Args, p.Dir = p.c.Args, p.c.Dir
	p.Env = p.environment()
	if p.Paths = p.c.Paths; p.Paths == nil {
		p.Paths = searchPath(p.c.Args[0], p.Env)
	}
	p.Streams = "pipes"
	switch {
	case p.c.Terminal && (p.c.PassStreams || p.c.Detach):
		return fmt.Errorf("%w: a terminal is for whoever stays and relays: neither with PassStreams nor with Detach", ErrInvalid)
	case p.c.Terminal:
		p.Streams = "a terminal of the target's own"
	case p.c.PassStreams:
		p.Streams = "the caller's own"
		p.note("the command gets the caller's own descriptors 0, 1, 2 (--pass-streams)")
	}
	return nil
}

// What of an init's environment is taken over, and what PATH is without one.
const (
	maxEnvironment = 128 << 10 // bytes
	defaultPath    = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// environment is that of the target's init with the command's own entries in
// place of those of the same name (A34: nothing of the caller's goes in).
func (p *planner) environment() []string {
	var env []string
	size := 0
	for _, e := range p.t.env {
		if size += len(e) + 1; size > maxEnvironment {
			p.note("the environment of init is longer than %d bytes: the rest is left out", maxEnvironment)
			break
		}
		if strings.IndexByte(e, '=') > 0 {
			env = append(env, e)
		}
	}
	if u := p.c.User; u != nil {
		env = u.environment(env)
	}
	for _, e := range p.c.Env {
		name, _, _ := strings.Cut(e, "=")
		env = slices.DeleteFunc(env, func(old string) bool { return strings.HasPrefix(old, name+"=") })
		env = append(env, e)
	}
	if !slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, "PATH=") }) {
		env = append(env, defaultPath)
	}
	return env
}

// searchPath returns the files that name may mean, as execvp(3) does.
func searchPath(name string, env []string) []string {
	if strings.Contains(name, "/") {
		return []string{name}
	}
	var paths []string
	for _, e := range env {
		list, ok := strings.CutPrefix(e, "PATH=")
		if !ok {
			continue
		}
		for dir := range strings.SplitSeq(list, ":") {
			if dir == "" {
				dir = "."
			}
			if file := dir + "/" + name; !slices.Contains(paths, file) {
				paths = append(paths, file)
			}
		}
	}
	return paths
}

// capabilities decides the capability sets.
func (p *planner) capabilities() error {
	want := p.wantedCaps()
	real, effective := p.isRoot(0), p.isRoot(1)
	after := want.AfterExec(real, effective)
	p.caps = forkexec.Caps{Permitted: want.Permitted, Effective: want.Effective, Inheritable: want.Inheritable,
		Ambient: want.Ambient, Drop: ^want.Bounding & (1<<lastCap - 1)}
	if (real || effective) && after.Permitted&^want.Permitted != 0 {
		// An init that gave up what its bounding set still allows
		// runs without root's privilege; so does what enters.
		p.caps.Securebits = secbitNoRoot | secbitNoRootLocked | secbitKeepCaps
		after = want.AfterExec(false, false)
	}
	if lost := want.Permitted &^ after.Permitted; lost != 0 {
		p.note("init holds capabilities %#x that do not last through an exec", lost)
	}
	if more := after.Effective &^ want.Effective; more != 0 {
		p.note("init has put down capabilities %#x that it may take up again; the command starts with them", more)
	}
	p.NoNewPrivs = p.t.state.NoNewPrivs && !p.c.Privileged
	p.Capability = CapPlan{hex(after.Effective), hex(after.Permitted), hex(after.Inheritable),
		hex(after.Bounding), hex(after.Ambient), p.caps.Securebits != 0}
	return nil
}

// wantedCaps are the sets that the command is to have before it executes.
func (p *planner) wantedCaps() confine.Caps {
	want := p.t.state.Caps
	switch {
	case p.c.Privileged:
		all := p.allCaps()
		want = confine.Caps{Effective: all, Permitted: all, Bounding: all}
		if !p.isRoot(1) { // else they would not last through the exec
			want.Inheritable, want.Ambient = all, all
		}
	case p.aloof:
		// What init holds in its own user namespace is nothing outside of it.
		return confine.Caps{}
	case p.c.User != nil:
		// As set-uid and exec inside would give.
		want = confine.Caps{Bounding: want.Bounding}
		if p.isRoot(1) {
			want.Permitted, want.Effective = want.Bounding, want.Bounding
		}
	}
	if missing := (want.Bounding | want.Permitted | want.Inheritable) &^ p.allCaps(); missing != 0 {
		p.note("capabilities %#x of init are not the caller's to give", missing)
		p.clip(&want)
	}
	if lost := want.Inheritable &^ want.Bounding; lost != 0 {
		p.note("init inherits capabilities %#x that its bounding set lacks: nobody can get them anew", lost)
		want.Inheritable &= want.Bounding
		want.Ambient &= want.Bounding
	}
	return want
}

// isRoot tells whether the command's real (0) or effective (1) user is 0 in its
// own user namespace.
func (p *planner) isRoot(i int) bool {
	switch {
	case p.c.User != nil:
		return p.UID == 0 // decided, and all three alike
	case p.sameUser:
		return p.t.state.UID[i] == 0
	}
	uid, ok := p.t.uids.Inside(p.t.state.UID[i])
	return ok && uid == 0
}

// Securebits, see capabilities(7), and the number of capabilities that are
// dropped one by one; those the kernel does not have, it has not in any set.
const (
	secbitNoRoot       = 1 << 0
	secbitNoRootLocked = 1 << 1
	secbitKeepCaps     = 1 << 4
	lastCap            = 41
)

// allCaps are the capabilities that the caller can give: all of those in a
// user namespace it enters, its own elsewhere.
func (p *planner) allCaps() uint64 {
	if !p.sameUser {
		return 1<<lastCap - 1
	}
	return p.t.ownStatus.CapBnd & p.t.ownStatus.CapPrm
}

func (p *planner) clip(c *confine.Caps) {
	all := p.allCaps()
	c.Bounding &= all
	c.Permitted &= all
	c.Effective &= all
	c.Inheritable &= all
	c.Ambient &= all
}

func hex(set uint64) string { return fmt.Sprintf("%016x", set) }

// limitations decides resource limits, oom score and umask.
func (p *planner) limitations() error {
	p.Umask, p.OOMScoreAdj = p.t.state.Umask, p.t.state.OOMScoreAdj
	// In any other user namespace than the machine's own it is of no use.
	mayRaise := p.t.ownStatus.CapEff&(1<<unix.CAP_SYS_RESOURCE) != 0 && p.t.own[ns.User] == ns.InitialUser
	if slices.Contains(p.c.AcceptLoss, LossLimits) {
		p.note("without the target's resource limits, as accepted")
	} else {
		p.resourceLimits(mayRaise)
	}
	if own := p.t.ownState.OOMScoreAdj; p.OOMScoreAdj != own {
		if p.OOMScoreAdj < own && !mayRaise {
			p.note("oom_score_adj stays at %d: lowering it takes CAP_SYS_RESOURCE", own)
			p.OOMScoreAdj = own
			return nil
		}
		p.oom = &p.OOMScoreAdj
	}
	return nil
}

// resourceLimits takes over those of init, as far as that is possible.
func (p *planner) resourceLimits(mayRaise bool) {
	names := procfs.LimitNames()
	for resource, want := range p.t.state.Limits {
		own := p.t.ownState.Limits[resource]
		if want.Max > own.Max && !mayRaise {
			p.note("%s stays at %d: raising it takes CAP_SYS_RESOURCE", strings.ToLower(names[resource]), own.Max)
			want.Max, want.Cur = own.Max, min(want.Cur, own.Max)
		}
		// Go itself raises the soft limit of descriptors at start, so what the
		// caller has of it says nothing.
		if want != own || resource == unix.RLIMIT_NOFILE || resource == unix.RLIMIT_CORE {
			p.limits = append(p.limits, forkexec.Limit{Resource: resource, Rlimit: want})
			p.Limits = append(p.Limits, Limit{names[resource], want.Cur, want.Max})
		}
	}
}
