// SPDX-License-Identifier: Apache-2.0

// Package passwd looks users and groups up in the content of a target's passwd
// and group files (passwd(5), group(5)). It opens nothing.
//
// The content is the target's, which may have written anything. A line that is
// not as the manual has it is no entry, and the first of several that fit
// counts, as in the C library (A14, docs/threat-model.md).
package passwd

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// User is an entry of passwd.
type User struct {
	Name        string
	UID, GID    uint32
	Home, Shell string
}

// Group is an entry of group.
type Group struct {
	Name    string
	GID     uint32
	Members []string
}

// MaxGroups is how many supplementary groups a process may have (NGROUPS_MAX).
const MaxGroups = 65536

// noID is the number that nobody has: system calls take it for "as it is".
const noID = 1<<32 - 1

// ParseID reads the number of a user or a group: decimal digits below
// 4294967295, in the one way to write it.
func ParseID(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil && n != noID && strconv.FormatUint(n, 10) == s
}

// ValidName tells whether a user or a group can be called s: something that is
// printable, holds neither colon, comma, slash nor blank, and does not start
// like an option, a comment or a reference to another table; and is no number,
// since digits mean one.
func ValidName(s string) bool {
	const longest = 256 // LOGIN_NAME_MAX
	if s == "" || len(s) > longest || !utf8.ValidString(s) || strings.ContainsRune("-+#", rune(s[0])) {
		return false
	}
	digits := true
	for _, r := range s {
		if unicode.IsSpace(r) || !unicode.IsPrint(r) || strings.ContainsRune(":,/", r) {
			return false
		}
		digits = digits && '0' <= r && r <= '9'
	}
	return !digits
}

// ByName finds a user by name.
func ByName(passwd []byte, name string) (User, bool) {
	return first(passwd, parseUser, func(u User) bool { return u.Name == name && name != "" })
}

// ByID finds a user by number.
func ByID(passwd []byte, uid uint32) (User, bool) {
	return first(passwd, parseUser, func(u User) bool { return u.UID == uid })
}

// GroupByName finds a group by name.
func GroupByName(group []byte, name string) (Group, bool) {
	return first(group, parseGroup, func(g Group) bool { return g.Name == name })
}

// GroupsOf returns the numbers of the groups of which a user is a member, each
// once, MaxGroups at most; without the one that passwd gives.
func GroupsOf(group []byte, name string) []uint32 {
	if !ValidName(name) {
		return nil
	}
	var gids []uint32
	seen := map[uint32]bool{}
	each(group, parseGroup, func(g Group) bool {
		if slices.Contains(g.Members, name) && !seen[g.GID] {
			seen[g.GID] = true
			gids = append(gids, g.GID)
		}
		return len(gids) < MaxGroups
	})
	return gids
}

// each calls visit for every entry, until that says no.
func each[T any](table []byte, parse func(fields []string) (T, bool), visit func(T) bool) {
	for line := range bytes.Lines(table) {
		text := strings.TrimSuffix(string(line), "\n")
		if strings.ContainsRune(text, 0) {
			continue // what comes after it nobody else would read
		}
		if entry, ok := parse(strings.Split(text, ":")); ok && !visit(entry) {
			return
		}
	}
}

func first[T any](table []byte, parse func([]string) (T, bool), match func(T) bool) (found T, ok bool) {
	each(table, parse, func(entry T) bool {
		if match(entry) {
			found, ok = entry, true
		}
		return !ok
	})
	return found, ok
}

// parseUser reads NAME:PASSWORD:UID:GID:COMMENT:HOME:SHELL. A name that is none
// leaves the entry with its numbers: it is not found by it.
func parseUser(fields []string) (u User, ok bool) {
	const want = 7
	if len(fields) != want || strings.HasPrefix(fields[0], "#") {
		return u, false
	}
	uid, uok := ParseID(fields[2])
	gid, gok := ParseID(fields[3])
	u = User{Name: fields[0], UID: uid, GID: gid, Home: fields[5], Shell: fields[6]}
	if !ValidName(u.Name) {
		u.Name = ""
	}
	return u, uok && gok
}

// parseGroup reads NAME:PASSWORD:GID:MEMBER,MEMBER…
func parseGroup(fields []string) (g Group, ok bool) {
	const want = 4
	if len(fields) != want || strings.HasPrefix(fields[0], "#") {
		return g, false
	}
	gid, ok := ParseID(fields[2])
	return Group{fields[0], gid, strings.Split(fields[3], ",")}, ok && ValidName(fields[0])
}
