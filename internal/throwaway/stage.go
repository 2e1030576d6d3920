// SPDX-License-Identifier: Apache-2.0

package throwaway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/sys"
)

// Main becomes what args ask for and does not return then: a stage of a
// container, or an applet (args[0] is its name, or args[1] is "__applet" and
// args[2] its name). Otherwise it does nothing. It must come first in main and
// in TestMain.
func Main(args []string) {
	// syscall.Exit and not os.Exit, which says something when built with -cover
	// and sleeps for a second when built with -race.
	switch {
	case len(args) == 0: // execve(2) with an empty list, before 5.18
		return
	case len(args) == 2 && args[1] == stageArg:
		syscall.Exit(runStage())
	case len(args) > 2 && args[1] == appletArg:
		args = args[2:]
	}
	name := filepath.Base(args[0])
	if applet := applets()[name]; applet != nil {
		// Executed through /proc/self/exe a process is called "exe".
		_ = os.WriteFile("/proc/self/comm", []byte(name), 0)
		syscall.Exit(applet(&call{args, os.Stdin, os.Stdout, os.Stderr}))
	}
}

// message is what a stage reports: that it is ready, along with a pidfd of
// itself, or the step that failed.
type message struct {
	ID    int
	Name  string
	Step  string `json:",omitempty"`
	Errno syscall.Errno
	Text  string // the whole error
	Hint  string
}

// failure is the Error that a stage reported.
func (m *message) failure() error {
	return &Error{Name: m.Name, Step: m.Step, Err: &reported{m.Text, m.Errno}, hint: m.Hint}
}

// reported is an error of another process: its words, and its number or 0.
type reported struct {
	text  string
	errno syscall.Errno
}

func (r *reported) Error() string { return r.text }

// Unwrap makes the number known to errors.Is, 0 being none.
func (r *reported) Unwrap() error {
	if r.errno == 0 {
		return nil
	}
	return r.errno
}

// step is one thing that a stage does.
type step struct {
	name string
	do   func() error
	// setup says that a refusal may lie in how the machine is set up.
	setup bool
}

// stage is a process on its way to be a container's init.
type stage struct {
	*plan
	control *os.File
	// exe is the binary, as this stage's root has it.
	exe string
	// base is where the container's root is being built, "" once it is root.
	base string
}

// runStage sets a container up and executes its init. It returns only if that
// fails, with an exit code.
func runStage() int {
	// Capabilities, PR_SET_PDEATHSIG and others are the thread's; the exec must
	// come from the thread that set them.
	runtime.LockOSThread()
	s, err := newStage()
	if err != nil {
		fmt.Fprintln(os.Stderr, "outband:", err)
		return 2
	}
	// The last step does not return unless it fails.
	for _, step := range s.steps() {
		if err := step.do(); err != nil {
			s.report(step, err)
			return 1
		}
	}
	return 1
}

// newStage reads the plan. Every descriptor but 0 to 2 is closed by the exec:
// the creator may have some that were not opened with O_CLOEXEC.
func newStage() (*stage, error) {
	kind, err := unix.GetsockoptInt(controlFD, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || kind != unix.SOCK_SEQPACKET {
		return nil, errors.New(stageArg + " is for internal use")
	}
	// close_range(CLOSE_RANGE_CLOEXEC) needs 5.11; the runtime's own descriptors
	// have to stay open until the exec, so closing them at once is no choice.
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil, err
	}
	for _, entry := range fds {
		if fd, err := strconv.Atoi(entry.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	config := os.NewFile(configFD, "config")
	defer config.Close()
	data, err := io.ReadAll(config)
	if err != nil {
		return nil, err
	}
	s := &stage{plan: new(plan), control: os.NewFile(controlFD, "control"), exe: "/proc/self/exe"}
	return s, json.Unmarshal(data, s.plan)
}

// steps is all that a stage does, in order. Inner containers are made with the
// rights of the container's root, workers with those of its init.
func (s *stage) steps() []step {
	// In this order: what needs the creator's files and descriptors, then what
	// needs rights, then what needs none. From the handshake on the creator may
	// end without leaving anything.
	steps := append([]step{{name: "set the host name", do: s.hostname}}, s.treeSteps()...)
	for i := range steps {
		steps[i].setup = true
	}
	steps = append(steps,
		step{name: "start inner containers", do: s.inner},
		step{name: "open " + os.DevNull, do: s.streams})
	steps = append(steps, s.confineSteps()...)
	return append(steps,
		step{name: "start workers", do: s.workers},
		step{name: "await the creator", do: s.handshake},
		step{name: "execute " + s.Args[0], do: s.exec})
}

// report tells the creator what failed. Where that is not possible either, the
// creator sees the end of the socket.
func (s *stage) report(failed step, err error) {
	m := message{ID: s.ID, Name: s.Name, Step: failed.name, Text: err.Error()}
	if failed.setup {
		m.Hint = explain(err, s.Namespaces, hostProc())
	}
	var e *Error // of an inner container
	if errors.As(err, &e) {
		m.Name, m.Step, m.Hint, m.Text = e.Name, e.Step, e.hint, e.Err.Error()
	}
	errors.As(err, &m.Errno)
	_ = s.tell(m, nil)
}

// tell sends one message, with a descriptor unless it is nil.
func (s *stage) tell(m message, file *os.File) error {
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	var rights []byte
	if file != nil {
		rights = unix.UnixRights(int(file.Fd()))
	}
	// The kernel translates nothing in a pidfd: it is the same process in every
	// pid namespace, which a number in data would not be.
	return unix.Sendmsg(int(s.control.Fd()), data, rights, nil, unix.MSG_NOSIGNAL)
}

// hostname names the container, where that does not name its creator.
func (s *stage) hostname() error {
	if s.Namespaces&unix.CLONE_NEWUTS == 0 || s.Name == "" {
		return nil
	}
	return unix.Sethostname([]byte(s.Name))
}

// inner launches the stages inside; they report for themselves.
func (s *stage) inner() error {
	for _, p := range s.plan.Inner {
		// No deadline: the creator's ends this process, and all with it.
		std := [3]*os.File{os.Stdin, os.Stdout, os.Stderr}
		proc, err := launch(context.Background(), p, s.exe, std, s.control)
		if err != nil {
			return err
		}
		_ = proc.Release() // init reaps it
	}
	return nil
}

// streams replaces the descriptors that are not the container's own by its
// /dev/null.
func (s *stage) streams() error {
	// What the creator gave is /dev/null too, but of the host's mount: such a
	// descriptor leads out (fchdir, /proc/PID/fd).
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	for i, keep := range s.Std {
		if keep {
			continue
		}
		if err := unix.Dup3(int(null.Fd()), i, 0); err != nil {
			return err
		}
	}
	return nil
}

// workers starts init's children. Without a pid namespace nothing but
// PR_SET_PDEATHSIG ends them with it.
func (s *stage) workers() error {
	for _, args := range s.Workers {
		proc, err := os.StartProcess(s.find(args[0]), args, &os.ProcAttr{
			Dir: "/", Env: s.Env, Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
			Sys: &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
		})
		if err != nil {
			return err
		}
		_ = proc.Release() // init reaps it
	}
	return nil
}

// handshake ties init's life to its creator's and reports it. The signal was
// set before, but a change of ids clears it, and it was another thread's.
func (s *stage) handshake() error {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return err
	}
	self, err := sys.Self()
	if err != nil {
		return err
	}
	defer self.Close()
	if err := s.tell(message{ID: s.ID, Name: s.Name}, self); err != nil || s.ID != 0 {
		return err // an inner container dies with the pid namespace around it
	}
	var word [2]byte // "go"; nothing, if the creator is gone
	n, err := s.control.Read(word[:])
	if err == nil && n != len(word) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// find is the path of a command: an applet is the binary itself.
func (s *stage) find(name string) string {
	switch {
	case applets()[name] == nil:
		return name
	case s.Tree == TreeOwn:
		return filepath.Join(binDir, name)
	}
	return s.exe
}

// exec becomes init. The applet keeps the socket until it handles signals, so
// that a container that is ready can be told to stop.
func (s *stage) exec() error {
	if s.Args[0] == "init" {
		if _, err := unix.FcntlInt(s.control.Fd(), unix.F_SETFD, 0); err != nil {
			return err
		}
	}
	return syscall.Exec(s.find(s.Args[0]), s.Args, slices.Clone(s.Env))
}
