// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/ns"
)

// Place is where an engine of one user's keeps its state.
type Place struct {
	UID     uint32
	User    string // "" for root's, and for the caller's own
	Home    string // "" where it is not known
	Runtime string // /run, /run/user/1000
}

// Users that people have, and how many of them there may be on a machine that has
// a table of them all (login.defs(5), UID_MIN and UID_MAX).
const firstUser, lastUser, maxUsers = 1000, 60000, 500

// Places are root's for root, and with them those of all users that have a runtime
// directory, or that are people's; for others their own alone. Those of whom nothing
// is sought are left out. They are the same for all who ask, and not to be changed.
func (h *Host) Places() []Place {
	h.placed.Do(func() { h.places = h.findPlaces() })
	return h.places
}

func (h *Host) findPlaces() []Place {
	uid := uint32(os.Geteuid())
	if uid != 0 && h.root == "" {
		return []Place{h.place(uid, h.users())}
	}
	var places []Place
	if h.Asks("") {
		places = append(places, Place{Home: "/root", Runtime: "/run"})
	}
	if h.sought != nil && h.sought.name != "" && h.sought.user == "" {
		return places
	}
	users := h.users()
	for _, uid := range h.uids(users) {
		if p := h.place(uid, users); h.Asks(p.User) {
			places = append(places, p)
		}
	}
	return places
}

// uids are the users that may have engines: who is logged in, and who could be.
func (h *Host) uids(users map[uint32]account) []uint32 {
	names, _ := h.ReadDir("/run/user", 0) // none is fine
	var uids []uint32
	for _, name := range names {
		if n, err := strconv.ParseUint(name, 10, 32); err == nil && n != 0 {
			uids = append(uids, uint32(n))
		}
	}
	people := 0
	for _, uid := range slices.Sorted(maps.Keys(users)) {
		if uid < firstUser || uid > lastUser || users[uid].home == "" || slices.Contains(uids, uid) {
			continue
		}
		if people++; people > maxUsers {
			break
		}
		uids = append(uids, uid)
	}
	return uids
}

func (h *Host) place(uid uint32, users map[uint32]account) Place {
	p := Place{UID: uid, Runtime: fmt.Sprintf("/run/user/%d", uid), Home: users[uid].home}
	if uid != uint32(os.Geteuid()) || h.root != "" {
		p.User = users[uid].name
		if p.User == "" {
			p.User = strconv.FormatUint(uint64(uid), 10)
		}
	}
	return p
}

// account is a line of the machine's own passwd(5).
type account struct{ name, home string }

// users reads /etc/passwd, the machine's own.
func (h *Host) users() map[uint32]account {
	b, err := h.ReadFile("/etc/passwd", 0)
	if err != nil {
		return nil
	}
	return parsePasswd(string(b))
}

// parsePasswd parses passwd(5). Of several names of one user the first counts;
// a name that could not be part of a container's is left out.
func parsePasswd(text string) map[uint32]account {
	users := map[uint32]account{}
	for line := range strings.Lines(text) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(f) != 7 {
			continue
		}
		uid, err := strconv.ParseUint(f[2], 10, 32)
		if _, known := users[uint32(uid)]; err != nil || known || !plain(f[0]) {
			continue
		}
		home := f[5]
		if !filepath.IsAbs(home) {
			home = ""
		}
		users[uint32(uid)] = account{f[0], home}
	}
	return users
}

// plain tells whether a name is made of letters, digits, and dashes, dots and
// underscores that it does not begin with.
func plain(name string) bool {
	return name != "" && !strings.HasPrefix(name, "-") && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-._", r)
	})
}

// ownedBy tells whether a process is in a user namespace that user uid made: what
// the state of a user's engine says of another's process is not true (A20,
// docs/threat-model.md).
func (h *Host) ownedBy(pid int, uid uint32) error {
	if h.proc == nil { // recorded
		return nil
	}
	dir, err := h.proc.Process(pid)
	if err != nil {
		return err
	}
	defer dir.Close()
	owner, err := userNamespaceOwner(dir)
	if err == nil && owner != uid {
		err = fs.ErrNotExist
	}
	return err
}

func userNamespaceOwner(dir *procfs.Dir) (uint32, error) {
	f, err := ns.OpenOf(dir.File(), ns.User)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return f.OwnerUID()
}
