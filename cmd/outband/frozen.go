// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/outband/outband/internal/cgroup"
	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/registry"
	"github.com/outband/outband/ns"
)

// frozenFacts are who froze a container, as JSON has it: a contract with scripts.
type frozenFacts struct {
	Tool     string    `json:"tool"` // outband: others leave no record
	UID      int       `json:"uid"`
	LoginUID *uint32   `json:"login_uid"` // who logged in; null where that is not known
	At       time.Time `json:"at"`
}

// frozenBy is what is on record of a container that is frozen; nil for nothing.
func frozenBy(list []registry.Frozen, init registry.Init) *frozenFacts {
	f := registry.FrozenBy(list, init)
	if f == nil {
		return nil
	}
	return &frozenFacts{"outband", f.By.UID, f.By.LoginUID, f.At}
}

// String is who froze it, and how long ago, for people.
func (f *frozenFacts) String() string {
	if f == nil {
		return "-"
	}
	uid := int64(f.UID)
	if f.LoginUID != nil {
		uid = int64(*f.LoginUID)
	}
	return fmt.Sprintf("%s, uid %d, %s ago", f.Tool, uid, age(time.Since(f.At)))
}

// frozen are the records of what outband froze and is frozen still; the others are
// swept. Where nothing was ever recorded nothing is made, and who cannot read the
// records is told nothing.
func (p *program) frozen(l *lister) []registry.Frozen {
	if _, err := os.Lstat(p.runDir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	r, err := registry.Open(p.runDir)
	if err != nil {
		return nil
	}
	defer r.Close()
	list, err := r.SweepFrozen(l.holds)
	if err != nil {
		p.say("note: who froze containers: %v", err)
	}
	return list
}

// holds tells whether a container that was frozen is so still.
func (l *lister) holds(f registry.Frozen) bool {
	tasks := l.proc.Rescan(context.Background(), true, f.Init.PID)
	if len(tasks) == 0 || tasks[0].Start != f.Init.Started || tasks[0].PIDNS != f.Init.PIDNS || tasks[0].State == 'Z' {
		return false
	}
	return l.isFrozen(f.Init.PID)
}

// isFrozen tells whether a process is, by a cgroup that is not the caller's as well.
// Those that share their cgroups are looked at once.
func (l *lister) isFrozen(pid int) bool {
	text, err := l.proc.CgroupText(pid, l.text)
	if err != nil {
		return false
	}
	still, known := l.still[string(text)]
	if !known {
		groups, err := procfs.ParseGroups(text)
		still = err == nil && len(cgroup.Frozen(groups, l.own, l.mounts)) > 0
		l.still[string(text)] = still
	}
	return still
}

// froze records that the container was frozen by this throw of the switch. One
// that cannot be recorded is told: it is frozen all the same.
func (s *switching) froze() {
	r, err := registry.Open(s.runDir)
	if err == nil {
		err = r.SetFrozen(registry.Frozen{
			Init: s.initRecord(), Target: s.container.FullName(), At: time.Now(), By: registry.Caller(os.Getenv),
		})
		r.Close()
	}
	if err != nil {
		s.say("note: that it was frozen by outband is not recorded: %v", err)
	}
}

// initRecord is the target's identity.
func (s *switching) initRecord() registry.Init {
	return registry.Init{PID: s.target.PID(), Started: s.target.Started(), PIDNS: uint64(s.target.Namespaces()[ns.PID])}
}

// frozenBy is who froze the target, which is frozen.
func (s *switching) frozenBy() *frozenFacts {
	proc, err := procfs.Open()
	if err != nil {
		return nil
	}
	defer proc.Close()
	return frozenBy(s.frozen(newLister(proc, nil)), s.initRecord())
}
