// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/cgroup"
	"github.com/outband/outband/internal/forkexec"
	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/ns"
)

// CgroupMode says where a command is accounted.
type CgroupMode int

// The modes.
const (
	CgroupTarget CgroupMode = iota // in the target's groups, below its limits
	CgroupNone                     // in the caller's, outside of exhausted limits
)

// startTimeout is how long entering may take; a file system of the target that
// does not answer is what takes longer.
const startTimeout = 3 * time.Second

// Cmd is a command to be run in a target, of the shape of os/exec.Cmd. Its zero
// fields mean: confined as the target's init is, with its environment and
// working directory. A Cmd runs once.
type Cmd struct {
	// Args are the command and its arguments. A command without a slash is
	// looked up inside, in the PATH that it will have.
	Args []string
	// Paths are the files that are tried in order instead of those that the
	// first of Args may mean; nil: it is looked up.
	Paths []string
	// Env is set over the environment of the target's init, as NAME=VALUE.
	Env []string
	// Dir is the working directory inside; "" is that of the target's init.
	Dir string

	// Stdin, Stdout and Stderr are relayed through pipes: no descriptor of the
	// caller's goes into the target. nil Stdin reads as empty, nil Stdout and
	// Stderr discard. If Stdout and Stderr are equal, they share a pipe.
	//
	// What the command did not read of a Stdin that is a regular *os.File is
	// seeked back; of anything else it is consumed.
	Stdin          io.Reader
	Stdout, Stderr io.Writer

	// Terminal gives the command a terminal of the target's own, as its
	// controlling one: Stdin is typed, what it shows goes to Stdout, and so does
	// standard error unless Stderr is another one. The end of Stdin is typed as
	// well (VEOF). The session's end closes it.
	Terminal bool
	// Size is that of the terminal at the start; zero is 24 rows of 80. See
	// Process.Resize.
	Size Size
	// TerminalLike is a terminal from which the special characters are taken
	// over; nil: from a Stdin that is one.
	TerminalLike *os.File

	Only       []ns.Kind  // join these kinds of namespaces only; nil: all
	User       *User      // run as this user; nil: as the target's init
	Privileged bool       // with all capabilities in the target's user namespace, without its filters
	Cgroup     CgroupMode // where it is accounted
	AcceptLoss []Loss     // parts of the confinement that may be missing
	Thaw       bool       // thaw a frozen target, which stays so; else it is refused
	ExposeHost bool       // allows Only that would show the host to the target

	PassStreams bool // hand in Stdin, Stdout, Stderr themselves, which must be *os.File
	Leave       bool // what the command left running stays when it ends
	Detach      bool // the command outlives the caller and its context; its streams are empty

	// Hold stays open in the session's warden, outside of the target: a lock
	// (flock(2)) on such a file tells others that the session lives.
	Hold []*os.File

	// StartTimeout bounds the way in; 0 means 3 seconds.
	StartTimeout time.Duration

	// Process and ProcessState are as in os/exec.Cmd.
	Process      *Process
	ProcessState *ProcessState

	target  *Target
	ctx     context.Context
	session *forkexec.Session
	group   *cgroup.Session
	streams *streams
	unwatch func() bool // stops to wait for the context; nil: nobody does
	waited  bool
	plan    *Plan
}

// Process is the command while it runs.
type Process struct {
	session  *forkexec.Session
	proc     *procfs.FS
	group    string
	terminal *terminal
}

// PIDs are the command's numbers on every level, outermost first; nil once it
// has ended. They are for display: use Signal to reach it.
func (p *Process) PIDs() []int {
	pids, err := p.proc.Numbers(p.session.Pidfd())
	if err != nil {
		return nil
	}
	return pids
}

// Cgroup is the directory of the session's own cgroup in the unified hierarchy,
// or "" where it has none.
func (p *Process) Cgroup() string { return p.group }

// Signal sends sig to the command; it is delivered to this process or to none.
func (p *Process) Signal(sig unix.Signal) error { return p.session.Signal(sig, false) }

// SignalGroup sends sig to the command's process group, as a terminal does
// (Linux 6.9; before, to the command alone).
func (p *Process) SignalGroup(sig unix.Signal) error { return p.session.Signal(sig, true) }

// Unattended tells whether a system call filter of the container hands calls to
// a listener (SECCOMP_RET_USER_NOTIF) or a tracer. The command has none: those
// calls fail with ENOSYS.
func (p *Process) Unattended() bool { return p.session.Unattended() }

// Warden is the number of the process outside that owns the session, for
// display.
func (p *Process) Warden() int { return p.session.Warden() }

// ProcessState is how a command ended.
type ProcessState struct{ status forkexec.Status }

// ExitCode returns the exit code, or -1 where a signal ended the command.
func (s *ProcessState) ExitCode() int { return s.status.Code }

// Signal returns the signal that ended the command, or 0.
func (s *ProcessState) Signal() unix.Signal { return s.status.Signal }

// Left tells whether something of the session would not end, in D state say.
func (s *ProcessState) Left() bool { return s.status.Left }

// Success tells whether the exit code is 0.
func (s *ProcessState) Success() bool { return s.status.Code == 0 }

func (s *ProcessState) String() string {
	if s.status.Signal != 0 {
		if name := unix.SignalName(s.status.Signal); name != "" {
			return name
		}
		return fmt.Sprintf("signal %d", s.status.Signal) // a real-time signal
	}
	return fmt.Sprintf("exit %d", s.status.Code)
}

// Command returns a Cmd that runs name with args in the target.
func (t *Target) Command(name string, args ...string) *Cmd {
	return t.CommandContext(context.Background(), name, args...)
}

// CommandContext is Command with a context: when it is done, the command and
// all it left behind are killed.
func (t *Target) CommandContext(ctx context.Context, name string, args ...string) *Cmd {
	return &Cmd{Args: append([]string{name}, args...), target: t, ctx: ctx}
}

// Plan returns what Start would do.
func (c *Cmd) Plan() (*Plan, error) {
	seen, err := c.target.withEnvironment(&c.target.snapshot)
	if err != nil {
		return nil, err
	}
	return makePlan(seen, c.target.name, c)
}

// withEnvironment returns a snapshot with the environment of the target's init,
// which is read when the first command is planned: only entering needs it, and who
// may see all else need not be allowed to see that.
func (t *Target) withEnvironment(s *snapshot) (*snapshot, error) {
	t.envOnce.Do(func() {
		b, err := t.init.Dir.ReadHead("environ", maxEnvironment+1)
		if err != nil {
			t.envErr = t.readError("environment", err)
			return
		}
		t.initEnv, t.envErr = procfs.Strings(b), t.Alive() // that of one that has ended is empty
	})
	whole := *s
	whole.env = t.initEnv
	return &whole, t.envErr
}

// Start starts the command. When it returns nil, the command has been executed
// inside.
//
// Errors: *LossError, *StepError, ErrExec, ErrGone, ErrFrozen, ErrDeadline,
// ErrBreakout, ErrInvalid, fs.ErrPermission.
func (c *Cmd) Start() error {
	if c.plan != nil {
		return errors.New("outband: Cmd started twice")
	}
	// From here to the fork on one thread: what it is, is what was compared.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	seen, err := c.target.here()
	if err == nil {
		seen, err = c.target.withEnvironment(seen)
	}
	if err != nil {
		return err
	}
	plan, err := makePlan(seen, c.target.name, c)
	if err != nil {
		return err
	}
	c.plan = plan
	if err := c.thaw(seen, plan); err != nil {
		return err
	}
	if err := c.start(plan); err != nil {
		return c.explain(err)
	}
	c.Process = &Process{session: c.session, proc: c.target.fs, terminal: c.streams.terminal}
	if c.group != nil {
		c.Process.group = c.group.Dir.Name()
	}
	if c.ctx.Done() != nil && !c.Detach {
		c.unwatch = context.AfterFunc(c.ctx, func() { _ = c.session.End() })
	}
	return nil
}

// start carries the plan out.
func (c *Cmd) start(plan *Plan) error {
	spec, held, err := c.spec(plan)
	defer held.close()
	if err != nil {
		return err
	}
	if c.streams, err = openStreams(c, plan.outside); err != nil {
		return err
	}
	c.streams.into(spec)
	spec.Terminal = c.terminalSpec(plan)
	err = c.launchOrLose(spec, plan)
	c.streams.closeInside()
	if err != nil {
		c.streams.abort()
		return err
	}
	c.streams.relay(c)
	return nil
}

// spec turns a plan into what the processes on the way in have to do. The files
// it opens are returned to be closed, also with an error.
func (c *Cmd) spec(plan *Plan) (*forkexec.Spec, held, error) {
	t := c.target
	spec := &forkexec.Spec{
		Paths: plan.Paths, Args: plan.Args, Env: plan.Env, Dir: plan.Dir, Target: t.init.Pidfd,
		Proc: t.fs.File(), OOM: plan.oom, Label: plan.label, Sched: plan.sched, Limits: plan.limits, Umask: plan.Umask,
		Before: plan.before, User: plan.after, Caps: &plan.caps, NoPrivs: plan.NoNewPrivs,
		Filters: plan.Filters, TargetPID: t.init.PID,
		Leave: c.Leave, Detach: c.Detach, Hold: c.Hold,
	}
	if plan.oom == nil {
		spec.Proc = nil
	}
	for _, k := range plan.Join {
		spec.Join |= k.Flag()
	}
	var files held
	if plan.label != nil {
		proc, err := t.procForLabel(plan.label.File)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %w", &LossError{[]Loss{LossLSM}}, err)
		}
		spec.Proc = proc.File()
		if proc != t.fs {
			files = append(files, spec.Proc)
		}
	}
	if plan.ChangeRoot {
		var err error
		if spec.Root, err = t.init.Dir.OpenLink("root"); err != nil {
			return nil, files, t.readError("root directory", err)
		}
		files = append(files, spec.Root)
		if spec.Dir == "" { // else /proc/self/fd/N could name it (A4)
			if spec.Cwd, err = t.init.Dir.OpenLink("cwd"); err == nil {
				files = append(files, spec.Cwd)
			}
		}
	}
	if plan.inTarget {
		tasks, err := c.tasks()
		if err != nil {
			return nil, files, withHint(err, "to be accounted outside of it, say --cgroup none")
		}
		spec.V1 = tasks
		files = append(files, tasks...)
	}
	files, err := c.nullDevice(spec, files)
	return spec, files, err
}

// Wait waits until the command has ended, all it left behind is gone, and its
// output is delivered. It returns *ExitError unless the exit code is 0.
func (c *Cmd) Wait() error {
	if c.session == nil {
		return errors.New("outband: Cmd not started")
	}
	if c.waited {
		return errors.New("outband: Wait was already called")
	}
	c.waited = true
	status, err := c.session.Wait()
	if c.unwatch != nil {
		c.unwatch()
	}
	if errors.Is(err, forkexec.ErrWardenLost) {
		c.endGroup() // the warden cannot
	}
	if c.group != nil {
		c.group.Release()
	}
	serr := c.streams.finish(c)
	if err != nil {
		return err
	}
	c.ProcessState = &ProcessState{status}
	if !c.ProcessState.Success() {
		return &ExitError{c.ProcessState}
	}
	return serr
}

// Run is Start and Wait.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// Output runs the command and returns what it wrote to its standard output.
func (c *Cmd) Output() ([]byte, error) {
	var b buffer
	c.Stdout = &b
	err := c.Run()
	return b.Bytes(), err
}

// CombinedOutput runs the command and returns what it wrote to standard output
// and standard error.
func (c *Cmd) CombinedOutput() ([]byte, error) {
	var b buffer
	c.Stdout, c.Stderr = &b, &b
	err := c.Run()
	return b.Bytes(), err
}
