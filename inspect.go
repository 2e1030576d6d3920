// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/engine"
	"github.com/outband/outband/internal/cgroup"
	"github.com/outband/outband/internal/confine"
	"github.com/outband/outband/internal/inits"
	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/ns"
)

// Facts are what the kernel shows of a target, and of a process in it. Nothing
// is joined or executed for them, and no file of the target's is touched. Text
// in them is raw: the target may have chosen it.
type Facts struct {
	Name        string            `json:"name"`           // as Engine calls it, whatever it was opened by
	Engine      string            `json:"engine"`         // "bare": found by what the kernel shows
	User        string            `json:"user,omitempty"` // whose engine it is, if another's than root's or the caller's
	Init        ProcessFacts      `json:"init"`
	State       string            `json:"state"`      // running; paused: its cgroup is frozen; stopped: its init is, by a signal
	Namespaces  map[string]uint64 `json:"namespaces"` // inode numbers
	Shared      []string          `json:"shared"`     // with the caller
	Confinement Confinement       `json:"confinement"`
	// Of a process that was asked for; nil otherwise.
	Process *ComparedFacts `json:"process,omitempty"`
	Differs *[]Difference  `json:"differs,omitempty"`
	// Doubt says why an engine may have a name for it after all where Engine is
	// "bare": some could not be asked (*engine.Error). Else it is nil.
	Doubt error `json:"-"`
}

// ProcessFacts say which process it is.
type ProcessFacts struct {
	PID  int    `json:"pid"`  // the caller's number for it
	PIDs []int  `json:"pids"` // on every level, outermost first
	Comm string `json:"comm"`
	Exe  string `json:"exe"` // empty where it cannot be read
	// Kind is what init it is, as docs/inits.md calls it; of an init alone.
	Kind string `json:"kind,omitempty"`
}

// ComparedFacts are a process that is compared with init.
type ComparedFacts struct {
	ProcessFacts
	Namespaces  map[string]uint64 `json:"namespaces"`
	Confinement Confinement       `json:"confinement"`
}

// Confinement is what a process may do. Users and groups are numbered as the
// target does; what has no number there is 65534.
type Confinement struct {
	UID         uint32           `json:"uid"`
	GID         uint32           `json:"gid"`
	Groups      []uint32         `json:"groups"`
	HostUID     uint32           `json:"host_uid"` // as the caller numbers it
	HostGID     uint32           `json:"host_gid"`
	Caps        CapSets          `json:"caps"`
	NoNewPrivs  bool             `json:"no_new_privs"`
	Seccomp     Seccomp          `json:"seccomp"`
	LSM         string           `json:"lsm"`
	Cgroup      string           `json:"cgroup"` // of the unified hierarchy
	Limits      map[string]Bound `json:"limits"` // named as in /proc/PID/limits
	OOMScoreAdj int              `json:"oom_score_adj"`
	Umask       uint32           `json:"umask"`
	Scheduling  SchedulingPlan   `json:"scheduling"`
}

// CapSets are the capability sets as bit masks in hexadecimal.
type CapSets struct {
	Effective   string `json:"effective"`
	Permitted   string `json:"permitted"`
	Inheritable string `json:"inheritable"`
	Bounding    string `json:"bounding"`
	Ambient     string `json:"ambient"`
}

// Seccomp says whether system calls are filtered, and by how many filters; -1
// where the kernel does not say (before 5.9).
type Seccomp struct {
	Mode    string `json:"mode"` // none, strict, filter
	Filters int    `json:"filters"`
}

// Bound is a resource limit; 1<<64 - 1 is "unlimited".
type Bound struct {
	Soft uint64 `json:"soft"`
	Hard uint64 `json:"hard"`
}

// Difference is a field in which a process is confined otherwise than init.
type Difference struct {
	Field   string `json:"field"`
	Init    string `json:"init"`
	Process string `json:"process"`
	More    bool   `json:"more"` // the process may more than init
}

// Inspect returns what the kernel shows of the target, and what its engine calls
// it.
//
// Errors: ErrGone.
func (t *Target) Inspect() (*Facts, error) {
	c, doubt := t.Container(context.Background()) // it has deadlines of its own
	if c.Engine != engine.Bare {
		doubt = nil
	}
	init := processFacts(t.init, t.status)
	init.Kind, _ = inits.Kind(t.init.Dir)
	return &Facts{
		Name: c.Name, Engine: c.Engine, User: c.User, Init: init, State: t.runState(),
		Namespaces: inodes(t.namespaces), Shared: t.shared(),
		Confinement: t.confinement(t.state, t.groups), Doubt: doubt,
	}, t.Alive()
}

// runState says whether the target runs, as far as that was seen when it was
// opened.
func (t *Target) runState() string {
	switch {
	case len(t.frozen) > 0:
		return "paused"
	case t.status.State == 'T':
		return "stopped"
	}
	return "running"
}

// InspectProcess is Inspect with a process, given by its number inside, that is
// compared with init: one of the target's pid namespace or of one below.
//
// Errors: ErrGone, ErrNoProcess, fs.ErrPermission.
func (t *Target) InspectProcess(ctx context.Context, pid int) (*Facts, error) {
	p, err := t.find(ctx, pid)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	facts, err := t.Inspect()
	if err == nil {
		err = t.compare(facts, p)
	}
	if p.Alive() != nil || errors.Is(err, unix.ESRCH) {
		err = fmt.Errorf("%w: %d", ErrNoProcess, pid)
	}
	if err != nil {
		return nil, err
	}
	return facts, nil
}

// compare adds what is to be said of p.
func (t *Target) compare(facts *Facts, p *procfs.Process) error {
	status, err := p.Dir.Status()
	if err != nil {
		return err
	}
	set, err := ns.Of(p.Dir.File())
	if err != nil {
		return err
	}
	stat, err := p.Dir.ReadFile("stat")
	if err != nil {
		return err
	}
	state, err := confine.Read(p.Dir, status, stat)
	if err != nil {
		return err
	}
	groups, err := p.Dir.Groups()
	if err != nil {
		return err
	}
	facts.Process = &ComparedFacts{processFacts(p, status), inodes(set), t.confinement(state, groups)}
	differs := []Difference{}
	for _, k := range t.namespaces.Differ(set) {
		// One that it has in common with the caller, and init has not, is the host's.
		differs = append(differs, Difference{"namespace " + k.String(), fmt.Sprint(t.namespaces[k]), fmt.Sprint(set[k]), set[k] == t.own[k]})
	}
	for _, d := range confine.Compare(t.state, state) {
		differs = append(differs, Difference{d.Field, d.Init, d.Process, d.Privilege})
	}
	if a, b := cgroup.Unified(t.groups), cgroup.Unified(groups); a != b {
		differs = append(differs, Difference{"cgroup", a, b, false})
	}
	facts.Differs = &differs
	return nil
}

// find takes hold of the process that has a number in the target's pid
// namespace.
func (t *Target) find(ctx context.Context, pid int) (*procfs.Process, error) {
	all, err := t.fs.Pids()
	if err != nil {
		return nil, err
	}
	for _, outside := range all {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		dir, err := t.fs.Process(outside)
		if err != nil {
			continue
		}
		status, err := dir.Status()
		dir.Close()
		if err == nil && t.numbered(status, pid) {
			if p := t.held(outside, pid); p != nil {
				return p, nil
			}
		}
	}
	return nil, fmt.Errorf("%w: %d", ErrNoProcess, pid)
}

// numbered tells whether a process has a number on the target's level.
func (t *Target) numbered(s procfs.Status, pid int) bool {
	level := len(t.status.NSpid) - 1
	return len(s.NSpid) > level && s.NSpid[level] == pid
}

// held takes hold of a process if it is the one meant, else nil: its number may
// be another's by now (A19), and other namespaces have the same numbers.
func (t *Target) held(outside, pid int) *procfs.Process {
	p, err := t.fs.Hold(outside)
	if err != nil {
		return nil
	}
	status, err := p.Dir.Status()
	if err != nil || !t.numbered(status, pid) || !descends(outside, t.namespaces[ns.PID]) || p.Alive() != nil {
		p.Close()
		return nil
	}
	return p
}

// descends tells whether a process, which is held, is in a pid namespace or
// below. One that may not be asked is somebody else's.
func descends(pid int, ancestor ns.ID) bool {
	f, err := ns.OpenFile(fmt.Sprintf("/proc/%d/ns/pid", pid))
	if err != nil {
		return false
	}
	defer f.Close()
	ok, err := f.DescendsFrom(ancestor)
	return ok && err == nil
}

// shared are the namespaces that the target has in common with the caller.
func (t *Target) shared() []string {
	kinds := []string{}
	for _, k := range ns.Kinds() {
		if t.namespaces[k] == t.own[k] {
			kinds = append(kinds, k.String())
		}
	}
	return kinds
}

// confinement says how a process is confined, by the target's numbers.
func (t *Target) confinement(s confine.State, groups []procfs.Group) Confinement {
	in := s.Translate(t.uids, t.gids)
	c := Confinement{
		UID: in.UID[1], GID: in.GID[1], Groups: in.Groups, HostUID: s.UID[1], HostGID: s.GID[1],
		Caps:       CapSets{hex(s.Caps.Effective), hex(s.Caps.Permitted), hex(s.Caps.Inheritable), hex(s.Caps.Bounding), hex(s.Caps.Ambient)},
		NoNewPrivs: s.NoNewPrivs, Seccomp: Seccomp{seccompMode(s.Seccomp), s.Filters}, LSM: s.Label,
		Cgroup: cgroup.Unified(groups), Limits: map[string]Bound{}, OOMScoreAdj: s.OOMScoreAdj, Umask: s.Umask,
		Scheduling: SchedulingPlan{s.Scheduling.PolicyName(), s.Scheduling.Nice, s.Scheduling.Priority, s.Scheduling.IOPriority,
			s.Scheduling.CPUs, s.Scheduling.TimerSlack, s.Scheduling.Personality},
	}
	for i, name := range procfs.LimitNames() {
		c.Limits[name] = Bound{s.Limits[i].Cur, s.Limits[i].Max}
	}
	return c
}

// seccompMode is a mode in words.
func seccompMode(n int) string {
	if words := [...]string{"none", "strict", "filter"}; n >= 0 && n < len(words) {
		return words[n]
	}
	return fmt.Sprintf("mode %d", n)
}

func processFacts(p *procfs.Process, status procfs.Status) ProcessFacts {
	exe, _ := p.Dir.Readlink("exe")
	return ProcessFacts{PID: p.PID, PIDs: status.NSpid, Comm: status.Name, Exe: exe}
}

func inodes(set ns.Set) map[string]uint64 {
	m := map[string]uint64{}
	for k, id := range set {
		if id != 0 {
			m[ns.Kind(k).String()] = uint64(id)
		}
	}
	return m
}
