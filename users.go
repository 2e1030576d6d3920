// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/forkexec"
	"github.com/outband/outband/internal/passwd"
)

// User is who a command runs as, as the target counts and names.
type User struct {
	UID    uint32
	GID    uint32
	Groups []uint32 // supplementary

	// What the target's passwd says of it, for its environment; empty where
	// that does not know it.
	Name, Home, Shell string
}

// The tables that users are looked up in, below the target's root.
const (
	passwdFile = "/etc/passwd"
	groupFile  = "/etc/group"
)

// defaultShell is that of a user without one.
const defaultShell = "/bin/sh"

const (
	// readTimeout is how long files of a target may take to be read.
	readTimeout = 2 * time.Second
	// maxAbandoned is how many processes a Target leaves waiting in the kernel
	// for its files before it tries no more.
	maxAbandoned = 3
)

// userSpec is USER[:GROUP] taken apart: names, or numbers where they are digits.
type userSpec struct {
	text        string
	user, group string // group is empty where none was given
	uid, gid    uint32
	byID, byGID bool
}

// parseUser reads USER[:GROUP].
//
// A14 (docs/threat-model.md): what consists of digits is a number and never a
// name, nothing else is a number, and a number that does not fit is not cut.
func parseUser(s string) (userSpec, error) {
	u := userSpec{text: s}
	var both, ok bool
	u.user, u.group, both = strings.Cut(s, ":")
	if u.uid, u.byID = passwd.ParseID(u.user); u.byID || passwd.ValidName(u.user) {
		u.gid, u.byGID = passwd.ParseID(u.group)
		ok = !both || u.byGID || passwd.ValidName(u.group)
	}
	if !ok {
		return userSpec{}, withHint(fmt.Errorf("%w: user %q", ErrInvalid, s),
			"a user is USER or USER:GROUP, each a name of the target's or a decimal number below %d", uint32(noID))
	}
	return u, nil
}

// tables are those that the user has to be looked up in.
func (u userSpec) tables() []string {
	if u.byGID {
		return []string{passwdFile}
	}
	return []string{passwdFile, groupFile}
}

// find looks the user up. A table that is not there knows nobody; one that
// cannot be read is an error, unless nothing depends on it.
func (u userSpec) find(tables []forkexec.Content) (*User, error) {
	users, err := content(passwdFile, tables[0])
	if err != nil && !(u.byID && u.byGID) {
		return nil, withHint(err, "UID:GID, both of them numbers, does without it")
	}
	entry, known := passwd.ByID(users, u.uid)
	if !u.byID {
		if entry, known = passwd.ByName(users, u.user); !known {
			return nil, withHint(fmt.Errorf("%w: user %q is not in its %s", ErrInvalid, u.user, passwdFile), "a number needs no entry there")
		}
		u.uid = entry.UID
	}
	found := &User{UID: u.uid, GID: entry.GID, Name: entry.Name, Home: entry.Home, Shell: entry.Shell} // a number that is not there has group 0
	if u.byGID {
		found.GID = u.gid
		return found, nil
	}
	groups, err := content(groupFile, tables[1])
	switch {
	case err != nil:
		return nil, withHint(err, "USER:GID, the latter a number, does without it")
	case u.group == "":
		found.Groups = passwd.GroupsOf(groups, entry.Name)
		return found, nil
	}
	group, ok := passwd.GroupByName(groups, u.group)
	if !ok {
		return nil, withHint(fmt.Errorf("%w: group %q is not in its %s", ErrInvalid, u.group, groupFile), "a number needs no entry there")
	}
	found.GID = group.GID
	return found, nil
}

// content is what was read of a table; none where it is not there.
func content(path string, c forkexec.Content) ([]byte, error) {
	switch {
	case c.Err == nil, errors.Is(c.Err, fs.ErrNotExist), errors.Is(c.Err, unix.ENOTDIR):
		return c.Data, nil
	case errors.Is(c.Err, unix.ENXIO):
		return nil, fmt.Errorf("its %s is not a regular file", path)
	case errors.Is(c.Err, unix.EFBIG):
		return nil, fmt.Errorf("its %s is not smaller than %d bytes", path, forkexec.MaxFile)
	}
	return nil, fmt.Errorf("read its %s: %w", path, c.Err)
}

// LookupUser finds USER or USER:GROUP in the target's own passwd and group.
// Digits are a number, never a name, and need no entry. Without GROUP the user
// has the group of its entry, 0 without one, and the supplementary groups of
// which it is a member; with GROUP it has that one alone.
//
// Errors: ErrInvalid, ErrDeadline, ErrGone, fs.ErrPermission.
func (t *Target) LookupUser(ctx context.Context, s string) (*User, error) {
	spec, err := parseUser(s)
	if err != nil {
		return nil, err
	}
	tables, err := t.ReadFiles(ctx, spec.tables()...)
	if err != nil {
		return nil, err
	}
	return spec.find(tables)
}

// Shell returns the shell that the target's passwd gives user, or with nil the
// user that its init is; /bin/sh where it gives none.
//
// Errors: ErrDeadline, ErrGone.
func (t *Target) Shell(ctx context.Context, user *User) (string, error) {
	if user != nil {
		return shellOr(user.Shell), nil
	}
	uid, mapped := t.uids.Inside(t.state.UID[1])
	if !mapped {
		return defaultShell, nil
	}
	tables, err := t.ReadFiles(ctx, passwdFile)
	if err != nil {
		return "", err
	}
	entry, _ := passwd.ByID(tables[0].Data, uid)
	return shellOr(entry.Shell), nil
}

// shellOr is the shell of an entry, unless that is none.
func shellOr(shell string) string {
	if !strings.HasPrefix(shell, "/") {
		return defaultShell
	}
	return shell
}

// ReadFiles reads regular files of the target, by their paths from its root: for
// the packages of this module that stand on this one. What is wrong with one file
// is in its Content.
//
// Errors: ErrDeadline where the file system does not answer, ErrGone.
func (t *Target) ReadFiles(ctx context.Context, paths ...string) ([]forkexec.Content, error) {
	contents, err := t.look(ctx, paths[0], &forkexec.Reading{Paths: paths})
	if err != nil {
		return nil, err
	}
	return contents, nil
}

// AskMounts asks file systems of the target what they hold, by mount points from
// its root: for the packages of this module that stand on this one. What is
// wrong with one is in its Content; with ErrDeadline those are returned that
// answered before the first that does not.
//
// Errors: as those of ReadFiles; ErrBusy where too many wait for others of them
// already.
func (t *Target) AskMounts(ctx context.Context, points ...string) ([]forkexec.Content, error) {
	if t.abandoned.Load() >= maxAbandoned {
		return nil, fmt.Errorf("%w: %d processes wait for its file systems", ErrBusy, maxAbandoned)
	}
	return t.look(ctx, points[0], &forkexec.Reading{Mounts: points})
}

// look looks at what the target keeps in its file systems.
//
// A13, A27: it is done by a process of its own, which is given up where they are
// on a file system that does not answer, and not for ever anew.
func (t *Target) look(ctx context.Context, first string, r *forkexec.Reading) ([]forkexec.Content, error) {
	notResponding := fmt.Errorf("%w: read its %s: filesystem not responding", ErrDeadline, first)
	if t.abandoned.Load() >= maxAbandoned {
		return nil, notResponding
	}
	root, err := t.init.Dir.OpenLink("root")
	if err != nil {
		return nil, t.readError("root directory", err)
	}
	defer root.Close()
	r.Root, r.Proc, r.Deadline = root, t.fs.File(), time.Now().Add(readTimeout)
	contents, err := forkexec.Read(ctx, r)
	if errors.Is(err, forkexec.ErrAbandoned) {
		t.abandoned.Add(1)
	}
	switch {
	case ctx.Err() != nil:
		return contents, ctx.Err()
	case errors.Is(err, forkexec.ErrDeadline):
		return contents, notResponding
	case err != nil:
		return contents, fmt.Errorf("read its %s: %w", first, err)
	}
	return contents, t.Alive()
}

// environment puts in env what is the user's own in place of init's.
func (u *User) environment(env []string) []string {
	home := u.Home
	if home == "" {
		home = "/"
	}
	for _, e := range [...][2]string{{"HOME", home}, {"USER", u.Name}, {"LOGNAME", u.Name}, {"SHELL", u.Shell}} {
		env = slices.DeleteFunc(env, func(old string) bool { return strings.HasPrefix(old, e[0]+"=") })
		if e[1] != "" {
			env = append(env, e[0]+"="+e[1])
		}
	}
	return env
}
