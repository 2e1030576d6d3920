// SPDX-License-Identifier: Apache-2.0

package power

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/outband/outband"
	"github.com/outband/outband/internal/cgroup"
	"github.com/outband/outband/internal/procfs"
)

// freeze carries out Pause and Resume.
func (s *Switch) freeze(ctx context.Context, a Action) (Result, error) {
	m, ok := s.box.(*machine)
	if !ok {
		return Result{}, outband.ErrNotSupported
	}
	began := time.Now()
	rung, how, done, err := Freeze, "", "frozen", error(nil)
	if a == Pause {
		how, err = m.pause(ctx)
	} else {
		rung, done = Thaw, "thawed"
		how, err = m.resume(ctx)
	}
	already := how == "" && err == nil
	if already {
		how, done = "nothing", "it was already"
	}
	s.tell(rung, how, "%s", outcome(done, err))
	return Result{Done: err == nil, Already: already, Took: time.Since(began)}, err
}

// frozen are the groups that keep the target frozen.
func (m *machine) frozen() ([]cgroup.Freezer, error) {
	groups, err := m.t.Process().Dir.Groups()
	if err != nil {
		return nil, errors.Join(m.t.Alive(), err)
	}
	self, err := m.t.Proc().Self()
	if err != nil {
		return nil, err
	}
	defer self.Close()
	own, err := self.Groups()
	if err != nil {
		return nil, err
	}
	return cgroup.Frozen(groups, own, m.mounts), nil
}

func (m *machine) mounts() []procfs.Mount {
	self, err := m.t.Proc().Self()
	if err != nil {
		return nil
	}
	defer self.Close()
	b, _ := self.ReadFile("mountinfo")
	return procfs.ParseMounts(b)
}

// whole is the group that holds the target and nobody else.
func (m *machine) whole(ctx context.Context) (cgroup.Freezer, error) {
	tasks, err := m.members(ctx)
	if err != nil {
		return cgroup.Freezer{}, err
	}
	f, err := cgroup.Whole(m.groups(tasks), m.isMember, m.mounts)
	if errors.Is(err, cgroup.ErrShared) {
		err = fmt.Errorf("%w: %w", ErrShared, err)
	}
	return f, err
}

// groups are the cgroups of processes. One that is on its way out has none any more:
// in hierarchies of version 1 it is shown in the root group.
func (m *machine) groups(tasks []procfs.Task) map[int][]procfs.Group {
	members := map[int][]procfs.Group{}
	for _, t := range tasks {
		dir, err := m.t.Proc().Process(t.PID)
		if err != nil {
			continue
		}
		groups, err := dir.Groups()
		if stat, serr := dir.ReadFile("stat"); err == nil && serr == nil { // in this order
			if now, perr := procfs.ParseTask(stat); perr == nil && !now.Exiting {
				members[t.PID] = groups
			}
		}
		dir.Close()
	}
	return members
}

// pause freezes the target's group; "" where it is frozen already.
func (m *machine) pause(ctx context.Context) (how string, err error) {
	frozen, err := m.frozen()
	if err != nil || len(frozen) > 0 {
		return "", err
	}
	f, err := m.whole(ctx)
	if err != nil {
		return "", err
	}
	return "freeze cgroup " + f.Path, f.Freeze(m.mounts)
}

// resume lets go what keeps the target frozen; "" where nothing does.
func (m *machine) resume(ctx context.Context) (how string, err error) {
	frozen, err := m.frozen()
	if err != nil || len(frozen) == 0 {
		return "", err
	}
	return m.release(ctx, frozen, m.o.Thaw)
}

// release thaws groups, those alone that hold nobody but the target, unless
// anyway says that others may wake as well.
func (m *machine) release(ctx context.Context, frozen []cgroup.Freezer, anyway bool) (how string, err error) {
	var paths []string
	for _, f := range frozen {
		paths = append(paths, f.Path)
	}
	how = "thaw cgroup " + strings.Join(paths, ", ")
	if !anyway {
		whole, err := m.whole(ctx)
		if err != nil {
			return how, err
		}
		for _, f := range frozen {
			if f.V1 == whole.V1 && !below(f.Path, whole.Path) {
				return how, &frozenError{fmt.Errorf("%w: cgroup %s holds others as well", outband.ErrFrozen, f.Path)}
			}
		}
	}
	return how, cgroup.Thaw(frozen, m.mounts)
}

// below tells whether a group is another or below it.
func below(p, top string) bool { return strings.HasPrefix(p+"/", top+"/") }

// thaw lets a frozen container hear what is asked of it, and die. In a group of
// cgroup v2 that is frozen SIGKILL works, in one of version 1 it waits.
//
// Ruling 22: v2 by itself, where the group is the container's own; else where it
// was asked for.
func (m *machine) thaw(a Action, force bool) (how string, err error) {
	frozen, err := m.frozen()
	if err != nil || len(frozen) == 0 {
		return "", err
	}
	v1 := false
	for _, f := range frozen {
		v1 = v1 || f.V1
	}
	if v1 && !m.o.Thaw {
		return "", &frozenError{fmt.Errorf("%w: cgroup %s, where signals wait as well", outband.ErrFrozen, frozen[0].Path)}
	}
	if !v1 && (a == Kill || force) {
		return "", nil
	}
	return m.release(context.Background(), frozen, m.o.Thaw)
}

// frozenError is ErrFrozen with its way out.
type frozenError struct{ error }

func (e *frozenError) Unwrap() error { return e.error }

// Hint names the way out.
func (e *frozenError) Hint() string { return "--thaw thaws it" }
