// SPDX-License-Identifier: Apache-2.0

package forkexec

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Spec says what the processes between the caller and a command inside a
// target have to do. It is data: whoever fills it in decides, this package only
// carries out. Files are borrowed for the duration of Start.
type Spec struct {
	// What is executed: the first of Paths that exists, tried in order as
	// execvp(3) does, with Args and Env. Strings must hold no NUL.
	Paths []string
	Args  []string
	Env   []string

	// Stdin, Stdout and Stderr become descriptors 0, 1 and 2; none may be nil,
	// but those that a Terminal or a Null replaces.
	Stdin, Stdout, Stderr *os.File
	Terminal              *Terminal // nil: none
	Null                  *Null     // nil: none

	// Target is a pidfd of the task whose namespaces of the kinds in Join
	// (CLONE_NEW* flags) are joined, all in one setns(2) (5.8).
	Target *os.File
	Join   uint64
	// TargetPID is the number of that task, needed for Filters alone.
	TargetPID int

	Root *os.File // O_PATH: becomes the root directory after joining; nil: that of the mount namespace
	Dir  string   // the working directory, a path inside; "": that of Cwd
	Cwd  *os.File // O_PATH: the working directory where Dir is empty; nil or out of reach: /

	Groups  *GroupTree // where sessions are tracked; nil: by a shepherd inside
	V1      []*os.File // tasks files of cgroup v1 hierarchies to move into
	Proc    *os.File   // a procfs of the caller's pid namespace, needed for OOM, Label and Null
	OOM     *int       // oom_score_adj to take over; nil: as it is
	Label   *Label     // of the LSM, needs Proc; nil: as it is
	Sched   Scheduling // how the command is scheduled
	Limits  []Limit    // those that differ from the caller's own
	Umask   uint32     //
	Filters int        // how many system call filters the target has, all to be copied
	Before  *Identity  // taken outside, before joining; nil: none
	User    *Identity  // taken inside, after joining; nil: as it is
	Caps    *Caps      // nil: as they are
	NoPrivs bool       // set no_new_privs

	// Hold stays open in the warden and nowhere else: a lock (flock(2)) on such
	// a file lasts as long as the session.
	Hold []*os.File

	// Deadline bounds the way in, as the context of Start does, without the
	// price of a timer; zero: none.
	Deadline time.Time

	Leave  bool // what the command left running stays when it ends
	Detach bool // the session outlives the caller

	// Modern says that the kernel tells the exit status of a process by its
	// pidfd, also of one that nobody waited for (6.15); Start sets it.
	Modern bool
	// Faults makes the named steps fail with the error given, for tests.
	Faults map[Step]unix.Errno
	// alter changes the program before it is linked, for tests.
	alter func(*program)
}

// GroupTree is the cgroup (v2) of a session, made by the caller, removed by
// the warden.
type GroupTree struct {
	Parent *os.File // the directory that holds it
	Dir    *os.File // the directory itself; a lock on it (flock(2)) lasts as long as the warden
	Name   string   // of Dir in Parent
}

// Label is a security label that the command gets by its execution.
type Label struct {
	File     string // below thread-self in procfs, such as attr/exec
	Text     string // what is written there
	Optional bool   // a refusal is no failure
}

// Scheduling is what differs from the caller's own; what is nil stays.
type Scheduling struct {
	Affinity    []uint64   // sched_setaffinity(2), a bit for each CPU
	Policy      *SchedAttr // sched_setattr(2)
	IOPriority  *int       // ioprio_set(2)
	TimerSlack  *uint64    // PR_SET_TIMERSLACK (prctl(2)), nanoseconds
	Personality *uint64    // personality(2)
}

// SchedAttr is the policy by which a process is scheduled, see sched(7).
type SchedAttr struct {
	Policy   uint32 // SCHED_*
	Nice     int32  // of SCHED_OTHER and SCHED_BATCH
	Priority uint32 // of SCHED_FIFO and SCHED_RR
}

// Limit is one resource limit, see setrlimit(2).
type Limit struct {
	Resource int // RLIMIT_*
	unix.Rlimit
}

// Identity is who a process is, see credentials(7). UID and GID hold the
// real, effective and saved number.
type Identity struct {
	UID, GID  [3]uint32
	Groups    []uint32
	SetGroups bool // false: the supplementary groups stay what they are
	// Keep is set again as permitted and effective capabilities after the
	// change; zero: none is raised.
	Keep uint64
}

// Caps are capability sets (capabilities(7)) as bit masks, and securebits.
type Caps struct {
	Permitted, Effective, Inheritable, Ambient uint64
	Drop                                       uint64 // to be dropped from the bounding set
	Securebits                                 int    // 0: as they are
}
