// SPDX-License-Identifier: Apache-2.0

// Package ns names the kinds of Linux namespaces, tells their identities and
// how they are related (namespaces(7), ioctl_nsfs(2)).
package ns

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A Kind is one of the eight kinds of namespaces.
type Kind uint8

// The kinds, by the name they have under /proc/PID/ns.
const (
	PID    Kind = iota // pid: process numbers
	Mount              // mnt: what is mounted where
	Net                // net: interfaces, routes, sockets
	IPC                // ipc: System V objects, POSIX message queues
	UTS                // uts: host name
	User               // user: user and group numbers, capabilities
	Cgroup             // cgroup: root of the cgroup tree (4.6)
	Time               // time: offsets of clocks (5.6)
	kinds
)

var table = [kinds]struct {
	name string
	flag uint64
}{
	PID:    {"pid", unix.CLONE_NEWPID},
	Mount:  {"mnt", unix.CLONE_NEWNS},
	Net:    {"net", unix.CLONE_NEWNET},
	IPC:    {"ipc", unix.CLONE_NEWIPC},
	UTS:    {"uts", unix.CLONE_NEWUTS},
	User:   {"user", unix.CLONE_NEWUSER},
	Cgroup: {"cgroup", unix.CLONE_NEWCGROUP},
	Time:   {"time", unix.CLONE_NEWTIME},
}

// Kinds returns all kinds.
func Kinds() []Kind {
	all := make([]Kind, kinds)
	for i := range all {
		all[i] = Kind(i)
	}
	return all
}

// String returns the name under /proc/PID/ns.
func (k Kind) String() string {
	if k < kinds {
		return table[k].name
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Flag returns the CLONE_NEW* flag.
func (k Kind) Flag() uint64 { return table[k].flag }

// MarshalText returns the name, for JSON.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads the name.
func (k *Kind) UnmarshalText(text []byte) (err error) {
	*k, err = ParseKind(string(text))
	return err
}

// ParseKind returns the kind called name.
func ParseKind(name string) (Kind, error) {
	for k, row := range table {
		if row.name == name {
			return Kind(k), nil
		}
	}
	return 0, fmt.Errorf("%q is no kind of namespace (pid, mnt, net, ipc, uts, user, cgroup, time)", name)
}

// ParseKinds reads a list of kinds with commas between them.
func ParseKinds(list string) ([]Kind, error) {
	var ks []Kind
	for name := range strings.SplitSeq(list, ",") {
		k, err := ParseKind(strings.TrimSpace(name))
		if err != nil {
			return nil, err
		}
		ks = append(ks, k)
	}
	return ks, nil
}

// An ID is the identity of a namespace: its inode number. All namespaces lie in
// one file system, so the number alone tells two apart while both exist.
type ID uint64

// Identities of the machine's own namespaces (PROC_PID_INIT_INO and
// PROC_USER_INIT_INO).
const (
	Initial     ID = 0xEFFFFFFC // pid
	InitialUser ID = 0xEFFFFFFD
)

// A Set is the namespace of each kind that a process is in; zero where the
// kernel has no such kind.
type Set [kinds]ID

// Of returns the namespaces of the process whose /proc directory is dir.
// Reading them needs the right to trace the process (ptrace(2),
// PTRACE_MODE_READ_FSCREDS), else fs.ErrPermission.
func Of(dir *os.File) (Set, error) {
	var set Set
	rc, err := dir.SyscallConn()
	if err != nil {
		return set, err
	}
	buf := make([]byte, 64)
	for k, row := range table {
		var n int
		var errno error
		if err := rc.Control(func(fd uintptr) { n, errno = unix.Readlinkat(int(fd), "ns/"+row.name, buf) }); err != nil {
			return set, err
		}
		if errors.Is(errno, unix.ENOENT) && Kind(k) >= Cgroup {
			continue
		}
		if errno != nil {
			return set, &os.PathError{Op: "readlink", Path: dir.Name() + "/ns/" + row.name, Err: errno}
		}
		if set[k], err = parseLink(string(buf[:n]), row.name); err != nil {
			return set, err
		}
	}
	return set, nil
}

// parseLink reads "pid:[4026531836]".
func parseLink(link, kind string) (ID, error) {
	number, ok := strings.CutPrefix(link, kind+":[")
	number, closed := strings.CutSuffix(number, "]")
	ino, err := strconv.ParseUint(number, 10, 64)
	if !ok || !closed || err != nil {
		return 0, fmt.Errorf("%q is no link to a namespace", link)
	}
	return ID(ino), nil
}

// Differ returns the kinds in which s and t differ, in the order of Kinds.
func (s Set) Differ(t Set) []Kind {
	var ks []Kind
	for k := range s {
		if s[k] != t[k] {
			ks = append(ks, Kind(k))
		}
	}
	return ks
}
