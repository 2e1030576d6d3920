// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/confine"
	"github.com/outband/outband/internal/forkexec"
	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/ns"
)

// A task is what the kernel keeps of a process that carries out a plan, as far
// as plans decide it. Users and groups are numbered as the caller does. It is
// written from capabilities(7), credentials(7), user_namespaces(7) and
// security/commoncap.c, not from the plan.
type task struct {
	uid, gid   [3]uint32 // real, effective, saved
	groups     []uint32
	caps       confine.Caps
	keepCaps   bool
	noRoot     bool
	noNewPrivs bool
	limits     procfs.Limits
	inner      bool // in the target's user namespace, if that is another one
	machine    bool // in the machine's own user namespace
	s          *snapshot
	shared     bool // caller and target have the same user namespace
}

var errPerm, errInval = errors.New("EPERM"), errors.New("EINVAL")

const everything = 1<<lastCap - 1

// execute carries out a plan as the joiner does, and executes.
func execute(s *snapshot, plan *Plan) (*task, error) {
	k := &task{
		uid: s.ownState.UID, gid: s.ownState.GID, groups: s.ownState.Groups, caps: s.ownState.Caps,
		noNewPrivs: s.ownState.NoNewPrivs, limits: s.ownState.Limits, machine: s.own[ns.User] == ns.InitialUser,
		s: s, shared: s.own[ns.User] == s.namespaces[ns.User],
	}
	for _, step := range []func(*Plan) error{k.setLimits, k.before, k.join, k.drop, k.after, k.setCaps} {
		if err := step(plan); err != nil {
			return nil, err
		}
	}
	k.noNewPrivs = k.noNewPrivs || plan.NoNewPrivs
	k.exec()
	return k, nil
}

func (k *task) capable(c int) bool { return k.caps.Effective&(1<<c) != 0 }

func (k *task) setLimits(plan *Plan) error {
	for _, l := range plan.limits {
		if l.Max > k.limits[l.Resource].Max && !(k.machine && k.capable(unix.CAP_SYS_RESOURCE)) {
			return errPerm
		}
		if l.Cur > l.Max {
			return errInval
		}
		k.limits[l.Resource] = l.Rlimit
	}
	return nil
}

func (k *task) before(plan *Plan) error { return k.take(plan.before) }
func (k *task) after(plan *Plan) error  { return k.take(plan.after) }

func (k *task) join(plan *Plan) error {
	if !slices.Contains(plan.Join, ns.User) {
		return nil
	}
	k.inner = true
	k.caps = confine.Caps{Effective: everything, Permitted: everything, Bounding: everything}
	k.keepCaps, k.noRoot = false, false
	return nil
}

// maps translate what a task in the inner namespace says.
func (k *task) global(m procfs.IDMap, id uint32) (uint32, bool) {
	if !k.inner {
		return id, id != noID
	}
	return m.Outside(id)
}

// isRoot tells whether a user is 0 in the task's user namespace.
func (k *task) isRoot(uid uint32) bool {
	if !k.inner {
		return uid == 0
	}
	root, ok := k.s.uids.Outside(0)
	return ok && root == uid
}

// take changes who the task is.
func (k *task) take(id *forkexec.Identity) error {
	if id == nil {
		return nil
	}
	if id.SetGroups {
		if !k.capable(unix.CAP_SETGID) || k.s.denied && (k.inner || k.shared) {
			return errPerm
		}
		k.groups = nil
		for _, g := range id.Groups {
			global, ok := k.global(k.s.gids, g)
			if !ok {
				return errInval
			}
			k.groups = append(k.groups, global)
		}
	}
	if err := k.change(&k.gid, id.GID, k.s.gids, unix.CAP_SETGID); err != nil {
		return err
	}
	k.keepCaps = true
	old := k.uid
	if err := k.change(&k.uid, id.UID, k.s.uids, unix.CAP_SETUID); err != nil {
		return err
	}
	k.fixup(old)
	if id.Keep == 0 {
		return nil
	}
	return k.capset(id.Keep, id.Keep, 0)
}

// change is setresuid(2) or setresgid(2).
func (k *task) change(ids *[3]uint32, to [3]uint32, m procfs.IDMap, c int) error {
	old := *ids
	for i, id := range to {
		if id == noID {
			continue // left as it is
		}
		global, ok := k.global(m, id)
		if !ok {
			return errInval
		}
		if !slices.Contains(old[:], global) && !k.capable(c) {
			return errPerm
		}
		ids[i] = global
	}
	return nil
}

// fixup is cap_emulate_setxuid().
func (k *task) fixup(old [3]uint32) {
	was, is := slices.ContainsFunc(old[:], k.isRoot), slices.ContainsFunc(k.uid[:], k.isRoot)
	if was && !is {
		if !k.keepCaps {
			k.caps.Permitted, k.caps.Effective = 0, 0
		}
		k.caps.Ambient = 0
	}
	switch was, is := k.isRoot(old[1]), k.isRoot(k.uid[1]); {
	case was && !is:
		k.caps.Effective = 0
	case is && !was:
		k.caps.Effective = k.caps.Permitted
	}
}

func (k *task) drop(plan *Plan) error {
	if plan.caps.Drop != 0 && !k.capable(unix.CAP_SETPCAP) {
		return errPerm
	}
	k.caps.Bounding &^= plan.caps.Drop
	if plan.caps.Securebits != 0 {
		if !k.capable(unix.CAP_SETPCAP) {
			return errPerm
		}
		k.noRoot = plan.caps.Securebits&secbitNoRoot != 0
		k.keepCaps = plan.caps.Securebits&secbitKeepCaps != 0
	}
	return nil
}

func (k *task) setCaps(plan *Plan) error {
	if err := k.capset(plan.caps.Permitted, plan.caps.Effective, plan.caps.Inheritable); err != nil {
		return err
	}
	k.caps.Ambient = plan.caps.Ambient
	if plan.caps.Ambient&^(k.caps.Permitted&k.caps.Inheritable) != 0 {
		return errPerm
	}
	return nil
}

// capset is capset(2), cap_capset().
func (k *task) capset(permitted, effective, inheritable uint64) error {
	c := &k.caps
	switch {
	case permitted&^c.Permitted != 0, effective&^permitted != 0, inheritable&^(c.Inheritable|c.Bounding) != 0:
		return errPerm
	case !k.capable(unix.CAP_SETPCAP) && inheritable&^(c.Inheritable|c.Permitted) != 0:
		return errPerm
	}
	c.Permitted, c.Effective, c.Inheritable = permitted, effective, inheritable
	c.Ambient &= permitted & inheritable
	return nil
}

// exec is execve(2) of a file that is neither set-user-ID nor has capabilities,
// cap_bprm_creds_from_file().
func (k *task) exec() {
	c, old := &k.caps, k.caps
	effective := false
	c.Permitted = 0
	if !k.noRoot {
		if k.isRoot(k.uid[0]) || k.isRoot(k.uid[1]) {
			c.Permitted = old.Bounding | old.Inheritable
		}
		effective = k.isRoot(k.uid[1])
	}
	if c.Permitted&^old.Permitted != 0 && k.noNewPrivs {
		c.Permitted &= old.Permitted
		k.uid[1], k.gid[1] = k.uid[0], k.gid[0]
	}
	c.Permitted |= c.Ambient
	c.Effective = c.Ambient
	if effective {
		c.Effective = c.Permitted
	}
	k.uid[2], k.gid[2] = k.uid[1], k.gid[1]
}

// shown is a user or group as the task itself sees it.
func (k *task) shown(m procfs.IDMap, id uint32) uint32 {
	if !k.inner {
		return id
	}
	if inside, ok := m.Inside(id); ok {
		return inside
	}
	return 65534
}
