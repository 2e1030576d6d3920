// SPDX-License-Identifier: Apache-2.0

// Package confine reads what a process may do (identity, capabilities, limits,
// seccomp, LSM label) and works out how another process can be confined the
// same way. It changes nothing.
package confine

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/procfs"
)

// Caps are the five capability sets (capabilities(7)) as bit masks.
type Caps struct {
	Effective, Permitted, Inheritable, Bounding, Ambient uint64
}

// Modes of seccomp(2), as status numbers them.
const (
	SeccompStrict = 1
	SeccompFilter = 2
)

// State is how a process is confined, as its /proc directory shows it.
type State struct {
	UID, GID    [3]uint32 // real, effective, saved; as the reader's user namespace numbers them
	Groups      []uint32
	Caps        Caps
	NoNewPrivs  bool
	Seccomp     int    // 0 none, 1 strict, 2 filter
	Filters     int    // -1: the kernel does not say (before 5.9)
	Label       string // of the LSM, raw; empty without one
	Limits      procfs.Limits
	OOMScoreAdj int
	Umask       uint32
	Scheduling  Scheduling
}

// Read reads the state of the process whose directory, status and stat are
// given. Its number is used as well: whoever holds the process asks afterwards
// whether it still lives.
func Read(dir *procfs.Dir, status procfs.Status, stat []byte) (State, error) {
	return read(dir, status, func() (Scheduling, error) { return readScheduling(dir, status, stat) })
}

// ReadOwn reads the state of the calling thread, of whose files Read would need
// more than are asked for here.
func ReadOwn(dir *procfs.Dir, status procfs.Status) (State, error) {
	return read(dir, status, func() (Scheduling, error) { return ownScheduling(status) })
}

func read(dir *procfs.Dir, status procfs.Status, scheduling func() (Scheduling, error)) (State, error) {
	limits, err := readLimits(dir, status.NSpid[0], unix.Prlimit)
	if err != nil {
		return State{}, err
	}
	score, err := dir.ReadFile("oom_score_adj")
	if err != nil {
		return State{}, err
	}
	// A kernel without an LSM that has labels answers EINVAL or has no such file.
	label, err := dir.ReadFile("attr/current")
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, fs.ErrNotExist) {
		return State{}, err
	}
	s, err := Parse(status, limits, score, label)
	if err != nil {
		return State{}, err
	}
	s.Scheduling, err = scheduling()
	return s, err
}

// Parse makes a state of a process's status and limits, and of the content of
// its oom_score_adj and attr/current.
func Parse(status procfs.Status, limits procfs.Limits, score, label []byte) (s State, err error) {
	s = State{
		UID: [3]uint32(status.UID[:3]), GID: [3]uint32(status.GID[:3]), Groups: status.Groups,
		Caps: Caps{Effective: status.CapEff, Permitted: status.CapPrm, Inheritable: status.CapInh,
			Bounding: status.CapBnd, Ambient: status.CapAmb},
		NoNewPrivs: status.NoNewPrivs, Seccomp: status.Seccomp, Filters: status.Filters, Umask: status.Umask,
		Limits: limits, Label: strings.TrimRight(string(label), "\x00\n"),
	}
	if s.OOMScoreAdj, err = strconv.Atoi(strings.TrimSpace(string(score))); err != nil {
		return State{}, fmt.Errorf("oom_score_adj: %w: %q", procfs.ErrFormat, score)
	}
	return s, nil
}

// Inside is a state's identity as its own user namespace numbers it.
type Inside struct {
	UID, GID [3]uint32
	Groups   []uint32
	Mapped   bool // every number has one inside
}

// overflowID is what a number without one inside reads there (the default of
// /proc/sys/kernel/overflowuid).
const overflowID = 65534

// Translate returns the identity of s behind the maps of its user namespace.
func (s State) Translate(uids, gids procfs.IDMap) Inside {
	in := Inside{Mapped: true, Groups: make([]uint32, 0, len(s.Groups))}
	translate := func(m procfs.IDMap, n uint32) uint32 {
		inside, ok := m.Inside(n)
		if !ok {
			in.Mapped = false
			return overflowID // never 0, which would be root
		}
		return inside
	}
	for i := range s.UID {
		in.UID[i] = translate(uids, s.UID[i])
		in.GID[i] = translate(gids, s.GID[i])
	}
	for _, g := range s.Groups {
		in.Groups = append(in.Groups, translate(gids, g))
	}
	return in
}

// AfterExec returns the sets that a process with c has once it has executed a
// file without file capabilities, where real and effective say which of its
// users is 0 and that is special (no SECBIT_NOROOT); see capabilities(7),
// "Transformation of capabilities during execve()".
func (c Caps) AfterExec(real, effective bool) Caps {
	c.Permitted = c.Ambient
	if real || effective {
		c.Permitted |= c.Inheritable | c.Bounding
	}
	c.Effective = c.Ambient
	if effective {
		c.Effective = c.Permitted
	}
	return c
}

// Difference is a field in which two states are not the same.
type Difference struct {
	Field     string `json:"field"`
	Init      string `json:"init"`
	Process   string `json:"process"`
	Privilege bool   `json:"more"` // the process may more than init
}

// Compare returns in what p is confined otherwise than init.
func Compare(init, p State) []Difference {
	var ds []Difference
	add := func(field string, a, b any, more bool) {
		if x, y := fmt.Sprint(a), fmt.Sprint(b); x != y {
			ds = append(ds, Difference{field, x, y, more})
		}
	}
	caps := func(field string, a, b uint64) {
		add(field, fmt.Sprintf("%016x", a), fmt.Sprintf("%016x", b), b&^a != 0)
	}
	add("uid", init.UID, p.UID, false)
	add("gid", init.GID, p.GID, false)
	add("groups", init.Groups, p.Groups, false)
	caps("effective", init.Caps.Effective, p.Caps.Effective)
	caps("permitted", init.Caps.Permitted, p.Caps.Permitted)
	caps("inheritable", init.Caps.Inheritable, p.Caps.Inheritable)
	caps("bounding", init.Caps.Bounding, p.Caps.Bounding)
	caps("ambient", init.Caps.Ambient, p.Caps.Ambient)
	add("no_new_privs", init.NoNewPrivs, p.NoNewPrivs, init.NoNewPrivs)
	add("seccomp", init.Seccomp, p.Seccomp, init.Seccomp > p.Seccomp)
	add("filters", init.Filters, p.Filters, init.Filters > p.Filters)
	add("lsm", init.Label, p.Label, true)
	for i, name := range procfs.LimitNames() {
		more := p.Limits[i].Cur > init.Limits[i].Cur || p.Limits[i].Max > init.Limits[i].Max
		add("limit: "+name, init.Limits[i], p.Limits[i], more)
	}
	add("oom_score_adj", init.OOMScoreAdj, p.OOMScoreAdj, p.OOMScoreAdj < init.OOMScoreAdj)
	init.Scheduling.compare(p.Scheduling, add)
	add("umask", fmt.Sprintf("%04o", init.Umask), fmt.Sprintf("%04o", p.Umask), false)
	return ds
}
