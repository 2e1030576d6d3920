// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/engine"
	"github.com/outband/outband/engine/all"
	"github.com/outband/outband/internal/cgroup"
	"github.com/outband/outband/internal/confine"
	"github.com/outband/outband/internal/hint"
	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/sys"
	"github.com/outband/outband/ns"
)

// Target is a container that is held: by its first process, whatever happens to
// the name or the number that led to it. It is safe for use by several
// goroutines.
type Target struct {
	name    string
	runDir  string // as OpenIn was given it
	engines []engine.Engine
	fs      *procfs.FS
	init    *procfs.Process
	snapshot

	envOnce sync.Once
	initEnv []string
	envErr  error

	treeOnce sync.Once
	tree     *cgroup.Tree // where sessions are tracked; nil: nowhere

	abandoned atomic.Int32 // readers of its files that could not be ended
}

// snapshot is what was read of a target's init, all while it lived.
type snapshot struct {
	status     procfs.Status
	started    uint64 // clock ticks since boot
	namespaces ns.Set
	state      confine.State
	inside     confine.Inside
	uids, gids procfs.IDMap
	denied     bool // setgroups(2) is denied in its user namespace
	groups     []procfs.Group
	ownGroups  []procfs.Group
	env        []string
	frozen     []cgroup.Freezer // what keeps it frozen
	looked     time.Time        // when that was asked
	own        ns.Set           // namespaces of the caller at that time
	ownStatus  procfs.Status
	ownState   confine.State
}

// Open finds the container called name and takes hold of it. Names are as
// engine.Resolve has them.
//
// Errors: ErrNotFound, ErrAmbiguous, ErrGone, ErrOwnNamespace,
// ErrNotDescendant, ErrNotSupported, fs.ErrPermission.
func Open(ctx context.Context, name string) (*Target, error) {
	return OpenIn(ctx, name, "")
}

// OpenIn is Open with the directory in which Outband keeps its own state, for
// names that are found there, and with the engines that are asked; without any
// they are those of engine/all.
func OpenIn(ctx context.Context, name, runDir string, engines ...engine.Engine) (*Target, error) {
	if len(engines) == 0 {
		engines = all.Engines()
	}
	proc, err := openProc()
	if err != nil {
		return nil, err
	}
	init, err := engine.Resolve(ctx, proc, name, runDir, engines...)
	if err != nil {
		proc.Close()
		return nil, engineError(err)
	}
	t, err := open(name, proc, init)
	if t != nil {
		t.runDir, t.engines = runDir, engines
	}
	return t, err
}

// OpenPID takes hold of the container in which process pid is, see Open.
func OpenPID(ctx context.Context, pid int) (*Target, error) {
	return Open(ctx, fmt.Sprintf("pid:%d", pid))
}

// OpenPidfd takes hold of the container whose first process pidfd refers to.
// The descriptor stays the caller's.
func OpenPidfd(_ context.Context, pidfd int) (*Target, error) {
	fd, err := dupPidfd(pidfd)
	if err != nil {
		return nil, err
	}
	proc, err := openProc()
	if err != nil {
		fd.Close()
		return nil, err
	}
	init, err := proc.HoldPidfd(fd)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: the process of descriptor %d", ErrNotDescendant, pidfd)
	}
	if err != nil {
		proc.Close()
		return nil, err
	}
	return open(fmt.Sprintf("pid:%d", init.PID), proc, init)
}

// dupPidfd duplicates a pidfd of a process that runs.
func dupPidfd(pidfd int) (*os.File, error) {
	fd, err := unix.FcntlInt(uintptr(pidfd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: descriptor %d: %w", ErrInvalid, pidfd, err)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	switch err := sys.Signal(f, 0, false); {
	case errors.Is(err, unix.ESRCH):
		f.Close()
		return nil, ErrGone
	case errors.Is(err, unix.EBADF):
		f.Close()
		return nil, fmt.Errorf("%w: descriptor %d is no pidfd", ErrInvalid, pidfd)
	}
	return f, nil // EPERM: somebody else's
}

// openProc opens the procfs that everything is read from.
func openProc() (*procfs.FS, error) {
	proc, err := procfs.Open()
	if errors.Is(err, procfs.ErrForeign) {
		err = withHint(err, "give this pid namespace its own: mount -t proc proc /proc")
	}
	return proc, err
}

// open makes a Target of a process that is held; it owns both arguments.
func open(name string, proc *procfs.FS, init *procfs.Process) (*Target, error) {
	t := &Target{name: name, fs: proc, init: init}
	err := t.read()
	if alive := init.Alive(); alive != nil {
		err = ErrGone // whatever else went wrong
	}
	if err == nil {
		err = t.check()
	}
	if err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

// read takes the snapshot.
func (t *Target) read() (err error) {
	dir := t.init.Dir
	if t.status, err = t.init.Status(); err != nil {
		return err
	}
	if t.status.State == 'Z' || t.status.State == 'X' {
		return ErrGone
	}
	if t.status.Kthread || !t.status.Told && t.isKernelThread() {
		if t.dying() { // it has given up its memory already
			return ErrGone
		}
		return fmt.Errorf("%w: process %d is a kernel thread", ErrNotSupported, t.init.PID)
	}
	stat, err := dir.ReadFile("stat")
	if err != nil {
		return t.readError("state", err)
	}
	if t.started, err = procfs.ParseStart(stat); err != nil {
		return err
	}
	if t.namespaces, err = ns.Of(dir.File()); err != nil {
		return t.readError("namespaces", err)
	}
	if t.state, err = confine.Read(dir, t.status, stat); err != nil {
		return t.readError("confinement", err)
	}
	if err := t.readSelf(t.fs); err != nil {
		return err
	}
	if err := t.readMaps(); err != nil {
		return t.readError("id maps", err)
	}
	t.inside = t.state.Translate(t.uids, t.gids)
	if t.groups, err = dir.Groups(); err != nil {
		return t.readError("cgroups", err)
	}
	t.snapshot.look(t.fs)
	return nil
}

// readSelf reads what the caller is, on the thread that asks.
func (s *snapshot) readSelf(proc *procfs.FS) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	self, err := proc.Self()
	if err != nil {
		return err
	}
	defer self.Close()
	if s.own, err = ns.Of(self.File()); err != nil {
		return err
	}
	if s.ownStatus, err = self.Status(); err != nil {
		return err
	}
	if len(s.ownStatus.NSpid) != 1 { // numbers may agree by chance, levels do not
		return procfs.ErrForeign
	}
	if s.ownGroups, err = self.Groups(); err != nil {
		return err
	}
	s.ownState, err = confine.ReadOwn(self, s.ownStatus)
	return err
}

// here returns the snapshot as it is for the calling thread, whose namespaces
// need not be those of the thread that opened the target.
func (t *Target) here() (*snapshot, error) {
	self, err := t.fs.Self()
	if err != nil {
		return nil, err
	}
	defer self.Close()
	own, err := ns.Of(self.File())
	stale := time.Since(t.looked) > freshness
	if err != nil || own == t.own && !stale {
		return &t.snapshot, err
	}
	s := t.snapshot
	if own != t.own {
		err = s.readSelf(t.fs)
	}
	if err == nil && stale {
		s.look(t.fs)
	}
	return &s, err
}

// readMaps reads what the numbers of users and groups are inside. In the
// machine's own user namespace they are what they are.
func (t *Target) readMaps() error {
	if t.namespaces[ns.User] == ns.InitialUser && t.own[ns.User] == ns.InitialUser {
		all := procfs.IDMap{{Count: noID}}
		t.uids, t.gids = all, all
		return nil
	}
	for name, m := range map[string]*procfs.IDMap{"uid_map": &t.uids, "gid_map": &t.gids} {
		b, err := t.init.Dir.ReadFile(name)
		if err != nil {
			return err
		}
		if *m, err = procfs.ParseIDMap(b); err != nil {
			return err
		}
	}
	b, err := t.init.Dir.ReadFile("setgroups")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	t.denied = string(b) == "deny\n"
	return err
}

// readError says what of the target could not be read. One that has ended has
// neither directories nor namespaces any more, reaped or not.
func (t *Target) readError(what string, err error) error {
	if errors.Is(err, unix.ESRCH) || t.init.Alive() != nil || errors.Is(err, fs.ErrNotExist) && t.dying() {
		return ErrGone
	}
	err = fmt.Errorf("read its %s: %w", what, err)
	if errors.Is(err, fs.ErrPermission) {
		return hint.With(err, hint.Owner)
	}
	return err
}

// dying tells whether the init ends in a moment, see dyingTime.
func (t *Target) dying() bool { return sys.Await(time.Now().Add(dyingTime), t.init.Pidfd, nil) }

// check refuses what cannot be a target.
func (t *Target) check() error {
	if t.init.PID == os.Getpid() { // whatever namespaces its threads are in
		return fmt.Errorf("%w: process %d is the caller itself", ErrOwnNamespace, t.init.PID)
	}
	if len(t.namespaces.Differ(t.own)) == 0 {
		return withHint(fmt.Errorf("%w: process %d shares every namespace with the caller: there is nothing to enter", ErrOwnNamespace, t.init.PID),
			"name a process of the container")
	}
	return nil
}

// isKernelThread recognizes a kernel thread before 6.7: it has neither a file
// it executes nor a command line.
func (t *Target) isKernelThread() bool {
	_, err := t.init.Dir.Readlink("exe")
	line, lerr := t.init.Dir.ReadFile("cmdline")
	return errors.Is(err, fs.ErrNotExist) && lerr == nil && len(line) == 0
}

// Name is the name by which the target was opened.
func (t *Target) Name() string { return t.name }

// PID is the number of its first process in the caller's pid namespace, for
// display: it may be another process's by the time it is used.
func (t *Target) PID() int { return t.init.PID }

// PIDs are the numbers of its first process on every level, outermost first.
func (t *Target) PIDs() []int { return t.status.NSpid }

// Started is when its first process started, in clock ticks since boot: with
// PID it is that process's identity for as long as the machine runs.
func (t *Target) Started() uint64 { return t.started }

// Namespaces are those of its first process when it was opened.
func (t *Target) Namespaces() ns.Set { return t.namespaces }

// Alive returns nil while the target's first process runs, else ErrGone.
func (t *Target) Alive() error {
	if t.init.Alive() != nil {
		return ErrGone
	}
	return nil
}

// Process is the hold on its first process, and Proc the procfs that it is held
// in: for the packages of this module that stand on this one. Both are closed
// with the target.
func (t *Target) Process() *procfs.Process { return t.init }

// Proc is the procfs that Process is held in.
func (t *Target) Proc() *procfs.FS { return t.fs }

// Signal sends sig to its first process. An init without a handler ignores what
// comes from inside, and SIGTERM from outside as well; SIGKILL works.
func (t *Target) Signal(sig unix.Signal) error { return sys.Signal(t.init.Pidfd, sig, false) }

// groupTree returns the hierarchy in which sessions are tracked, or nil where
// there is none or a whole group cannot be ended (before 5.14). The first time
// it ends what is left at path of sessions whose warden was killed.
func (t *Target) groupTree(path string) *cgroup.Tree {
	t.treeOnce.Do(func() {
		tree, err := cgroup.OpenTree()
		if err != nil {
			return
		}
		if !tree.CanKill() {
			tree.Close()
			return
		}
		tree.Sweep(path)
		t.tree = tree
	})
	return t.tree
}

// Close lets go of the target; commands that run in it are not touched.
func (t *Target) Close() error {
	var err error
	if t.tree != nil {
		err = t.tree.Close()
	}
	return errors.Join(err, t.init.Close(), t.fs.Close())
}
