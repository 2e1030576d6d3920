// SPDX-License-Identifier: Apache-2.0

// Package feature lists what Outband asks of a kernel: since when it is there
// and what happens without it. docs/kernels.md is generated from the list.
package feature

import "fmt"

// Version is a kernel release.
type Version struct{ Major, Minor int }

func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// Before tells whether v is older than w.
func (v Version) Before(w Version) bool {
	return v.Major < w.Major || v.Major == w.Major && v.Minor < w.Minor
}

// Feature is something that not every kernel has.
type Feature struct {
	Name    string
	Since   Version
	Source  string // manual page, or where in the kernel
	Use     string // what Outband does with it
	Without string // what it does instead
}

// Least is the oldest kernel that Outband runs on.
var Least = Version{5, 9}

// All returns the list, oldest first.
func All() []Feature {
	return []Feature{
		{"NSpid", Version{4, 1}, "proc_pid_status(5)", "numbers of a process on every level", "refused"},
		{"ioctl_nsfs", Version{4, 9}, "ioctl_nsfs(2)", "whether a pid namespace is below one's own", "refused"},
		{"TIOCGPTPEER", Version{4, 13}, "ioctl_tty(2)", "a terminal is never opened by a path", "refused"},
		{"fsopen, fsmount", Version{5, 2}, "fsopen(2)", "a mount of one's own that is attached nowhere", "refused where one is needed"},
		{"pidfd_open, waitid(P_PIDFD)", Version{5, 4}, "pidfd_open(2), waitid(2)", "holding a process whatever happens to its number", "refused"},
		{"openat2", Version{5, 6}, "openat2(2)", "looking up paths of a container", "refused"},
		{"clone3 with CLONE_INTO_CGROUP", Version{5, 7}, "clone(2)", "a session is born in its cgroup", "refused"},
		{"setns with a pidfd", Version{5, 8}, "setns(2)", "joining all namespaces at once", "refused"},
		{"close_range", Version{5, 9}, "close_range(2)", "nothing of the host's stays open", "refused"},
		{"cgroup.kill", Version{5, 14}, "Documentation/admin-guide/cgroup-v2.rst", "ending a session whole", "a shepherd inside ends it"},
		{"MFD_EXEC", Version{6, 3}, "memfd_create(2)", "executable memory where the default forbids it", "plain memfd"},
		{"PIDFD_SIGNAL_PROCESS_GROUP", Version{6, 9}, "pidfd_send_signal(2)", "keyboard signals for a command's group", "the command alone gets them"},
		{"PIDFD_INFO_EXIT", Version{6, 15}, "include/uapi/linux/pidfd.h", "the kernel reaps: a stopped warden cannot hold a container", "the warden reaps"},
	}
}
