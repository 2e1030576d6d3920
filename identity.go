// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/confine"
	"github.com/outband/outband/internal/forkexec"
)

// noID is the number that no user or group has; setresuid(2) takes it for
// "leave as it is".
const noID = 1<<32 - 1

// identity decides who the command is, and where the change can be made: inside,
// after joining, where every number has one there; else outside, before it.
func (p *planner) identity() error {
	if p.c.User != nil {
		return p.chosenIdentity()
	}
	s, in := p.t.state, p.t.inside
	if p.sameUser { // the caller counts as the target does
		in = confine.Inside{UID: s.UID, GID: s.GID, Groups: s.Groups, Mapped: true}
	}
	p.UID, p.GID, p.Groups = in.UID[1], in.GID[1], append(p.Groups, in.Groups...)
	p.outside = [2]uint32{s.UID[1], s.GID[1]}
	if in.Mapped && p.mayChange() && (!p.t.denied || p.sameGroups()) {
		p.after = &forkexec.Identity{UID: in.UID, GID: in.GID, Groups: in.Groups, SetGroups: !p.t.denied}
		return nil
	}
	return p.outsideIdentity(in.Mapped)
}

// groupTTY is the group that terminals belong to, by old custom; where it has
// no number, they are their user's alone.
const groupTTY = 5

// terminalOwner decides whom a terminal is given to: the user that the command
// becomes after it is made. One who was taken on before owns it anyway.
func (p *planner) terminalOwner() error {
	p.terminal = [2]uint32{forkexec.NoID, groupTTY}
	if p.after != nil {
		p.terminal[0] = p.after.UID[1]
	}
	return nil
}

// sameGroups tells whether the caller has the supplementary groups of init.
func (p *planner) sameGroups() bool { return slices.Equal(p.t.ownStatus.Groups, p.t.state.Groups) }

// mayChange tells whether identities can be changed inside: with all
// capabilities in a user namespace that is joined, else with the caller's own.
func (p *planner) mayChange() bool {
	const both = 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID
	return !p.sameUser || p.t.ownStatus.CapEff&both == both
}

// outsideIdentity takes the numbers that init has outside, before joining: for
// an init that has none inside (A37), or may not set its groups there.
func (p *planner) outsideIdentity(mapped bool) error {
	const need = 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID
	s, own := p.t.state, p.t.ownStatus
	if own.CapEff&need != need {
		return p.unprivilegedIdentity(mapped)
	}
	p.before = &forkexec.Identity{UID: s.UID, GID: s.GID, Groups: s.Groups, SetGroups: true, Keep: own.CapPrm}
	if !mapped {
		p.note("a user or group of init's has no number inside, where it reads 65534")
	}
	return nil
}

// unprivilegedIdentity does what a caller without privilege can: change what
// has a number inside, and keep its own groups where they cannot be set.
func (p *planner) unprivilegedIdentity(mapped bool) error {
	own, s, in := p.t.ownStatus, p.t.state, p.t.inside
	same := [3]uint32(own.UID[:3]) == s.UID && [3]uint32(own.GID[:3]) == s.GID
	switch {
	case same:
	case mapped && !p.sameUser:
		p.after = &forkexec.Identity{UID: in.UID, GID: in.GID}
	default:
		return withHint(fmt.Errorf("%w: init is another user, who has no number in the target", ErrNotSupported), "try as root")
	}
	if !p.sameGroups() {
		p.keepGroups()
	}
	return nil
}

// keepGroups says that the supplementary groups cannot be changed.
func (p *planner) keepGroups() {
	if p.t.denied {
		p.note("supplementary groups stay the caller's: the target denies setgroups")
	} else {
		p.note("supplementary groups stay the caller's: changing them takes privilege")
	}
}

// chosenIdentity is that of a user the caller named, as the target counts.
func (p *planner) chosenIdentity() error {
	u := *p.c.User
	if u.UID == noID || u.GID == noID { // A14: setresuid(2) would change nothing
		return fmt.Errorf("%w: user %d:%d", ErrInvalid, u.UID, u.GID)
	}
	p.UID, p.GID, p.Groups = u.UID, u.GID, p.chosenGroups(u)
	p.outside = [2]uint32{u.UID, u.GID}
	if !p.sameUser || p.aloof {
		uid, uok := p.t.uids.Outside(u.UID)
		gid, gok := p.t.gids.Outside(u.GID)
		if !uok || !gok {
			return fmt.Errorf("%w: user %d:%d has no number outside of the target's user namespace: it is not mapped", ErrInvalid, u.UID, u.GID)
		}
		p.outside = [2]uint32{uid, gid}
	}
	if p.aloof {
		u.UID, u.GID = p.outside[0], p.outside[1]
		p.UID, p.GID = u.UID, u.GID
	}
	if !p.mayChange() {
		return withHint(fmt.Errorf("%w: becoming user %d takes privilege", ErrNotSupported, u.UID), "try as root")
	}
	p.after = &forkexec.Identity{
		UID: [3]uint32{u.UID, u.UID, u.UID}, GID: [3]uint32{u.GID, u.GID, u.GID},
		SetGroups: !p.t.denied, Groups: p.Groups,
	}
	if p.t.denied && len(p.t.ownStatus.Groups) > 0 {
		return p.dropGroupsOutside()
	}
	return nil
}

// chosenGroups are the supplementary groups that a chosen user can have: those
// that have a number (A14) where it is given them.
func (p *planner) chosenGroups(u User) []uint32 {
	if p.t.denied && len(u.Groups) > 0 {
		p.note("the user's supplementary groups are left out: the target denies setgroups")
		return []uint32{}
	}
	groups, lost := []uint32{}, []uint32(nil)
	for _, g := range u.Groups {
		outside, ok := g, g != noID
		if ok && (!p.sameUser || p.aloof) {
			outside, ok = p.t.gids.Outside(g)
		}
		switch {
		case !ok:
			lost = append(lost, g)
		case p.aloof:
			groups = append(groups, outside)
		default:
			groups = append(groups, g)
		}
	}
	if lost != nil {
		p.note("supplementary groups %v of the user are left out: they are not mapped", lost)
	}
	return groups
}

// dropGroupsOutside drops the caller's groups before joining a namespace in
// which that is denied.
func (p *planner) dropGroupsOutside() error {
	own := p.t.ownStatus
	if own.CapEff&(1<<unix.CAP_SETGID) == 0 {
		p.keepGroups()
		return nil
	}
	p.before = &forkexec.Identity{UID: [3]uint32(own.UID[:3]), GID: [3]uint32(own.GID[:3]),
		SetGroups: true, Groups: []uint32{}, Keep: own.CapPrm}
	return nil
}
