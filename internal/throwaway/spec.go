// SPDX-License-Identifier: Apache-2.0

package throwaway

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Default is the namespaces of a container whose Spec names none. CLONE_NEWTIME
// may be added; since an exec has to switch to it, it needs Linux 6.2 (2b5f9dad32ed).
const Default uintptr = unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUTS |
	unix.CLONE_NEWIPC | unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP

// IDMap is one line of a uid_map or gid_map.
type IDMap = syscall.SysProcIDMap

// Tree says what files a container sees.
type Tree int

const (
	// TreeOwn is a tmpfs with the binary, its applets, /proc, /dev, /etc, /tmp.
	TreeOwn Tree = iota
	// TreeShared is the creator's files, with a /proc of the container's own.
	TreeShared
	// TreeHost is the creator's mounts as they are, as with plain `unshare -pf`:
	// /proc shows the creator's numbers.
	TreeHost
)

// Spec is a container to be made. The zero value is a container with the
// namespaces of Default, an own tree, and an init that reaps and waits.
type Spec struct {
	// Name is the host name, and names the container in errors.
	Name string
	// Args is what init executes: an applet's name, or an absolute path inside.
	// Empty means the applet "init".
	Args []string
	// Workers are commands, as in Args, that init has as children.
	Workers [][]string
	// Inner are containers inside of this one, made by this one's root.
	Inner []Spec
	// Env is init's environment; nil means PATH and HOME alone.
	Env []string
	// Stdin, Stdout and Stderr of the innermost level; nil means /dev/null of
	// the container. Those of Inner are not used.
	Stdin, Stdout, Stderr *os.File `json:"-"`

	// Namespaces is a mask of CLONE_NEW*; 0 means Default.
	Namespaces uintptr
	// User adds a user namespace; it is forced without CAP_SYS_ADMIN.
	User bool
	// UIDMap and GIDMap: nil means 65536 ids from 100000 for the machine's
	// root, for root in a user namespace all it has, else 0 for one's own id.
	UIDMap, GIDMap []IDMap
	// DenySetgroups writes "deny" to setgroups; always so without CAP_SETGID.
	DenySetgroups bool
	// Depth is how many pid namespaces (and user namespaces, with User) lie in
	// each other; 0 means 1. The kernel allows 32.
	Depth int

	// Tree says what files there are. The next three need TreeOwn.
	Tree Tree
	// ReadOnly makes the root read-only once it is complete.
	ReadOnly bool
	// NoDevpts leaves out /dev/pts and /dev/ptmx.
	NoDevpts bool
	// Chroot puts the tree below a directory of the mount namespace's root, so
	// that init's root is not that of its mounts.
	Chroot bool

	// UID and GID of init, as numbered inside. 0 stands for the first mapped
	// id where 0 is not mapped.
	UID, GID int
	// Groups are init's supplementary groups.
	Groups []int
	// DropCaps is a mask of capabilities that leave the bounding set.
	DropCaps uint64
	// AmbientCaps is a mask of capabilities that init keeps whatever its UID.
	AmbientCaps uint64
	// NoNewPrivs sets no_new_privs.
	NoNewPrivs bool
	// Filters are system call filters (seccomp(2)), instructions of 8 bytes
	// each; they have to let init be executed.
	Filters []Filter
	// Nice and CPUs (a mask) of init; 0 means the creator's.
	Nice int
	CPUs uint64
	// Rlimits by RLIMIT_* number.
	Rlimits map[int]unix.Rlimit
	// Umask of init; 0 means 022.
	Umask int
	// OOMScoreAdj is written to oom_score_adj unless it is 0.
	OOMScoreAdj int
	// Cgroups are directories of cgroup hierarchies into which the container is
	// put before it does anything.
	Cgroups []string
}

// Filter is a system call filter.
type Filter struct {
	Program []byte
	Flags   uint32 // of seccomp(2)
}

// Demo is a container with a container inside: an init with two workers, and
// in it an init with one.
func Demo() Spec {
	worker := []string{"sleep", "infinity"}
	return Spec{
		Name:    "web",
		Workers: [][]string{worker, worker},
		Inner:   []Spec{{Name: "job", Workers: [][]string{worker}}},
	}
}
