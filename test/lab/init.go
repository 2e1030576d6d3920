// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/sys"
)

// initProcess is the host's first process: it starts what the test asks for and
// reaps all that the host has left to it.
type initProcess struct {
	link *os.File

	mu      sync.Mutex      // held from a fork until its number is known, and while one is reaped
	running map[int]running // by number
}

// running is a command that was asked for.
type running struct {
	id    int
	pidfd *os.File
}

// initMain runs until the test's end of the socket is closed. Its return ends
// every process of the host.
func initMain(*plan) error {
	i := &initProcess{link: os.NewFile(linkFD, "link"), running: map[int]running{}}
	unix.CloseOnExec(linkFD)
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	// What an engine may send to the first process is not for it. They are received
	// and dropped: to ignore them would be inherited by all that is executed.
	signal.Notify(make(chan os.Signal, 1), unix.SIGINT, unix.SIGHUP, unix.SIGTERM, unix.SIGPIPE, unix.SIGQUIT)
	go func() {
		for range children {
			i.reap()
		}
	}()
	if err := i.send(report{ID: 0}); err != nil {
		return err
	}
	for {
		var o order
		files, ok, err := receive(i.link, &o)
		if err != nil || !ok {
			return err
		}
		i.obey(o, files)
		for _, f := range files {
			f.Close()
		}
	}
}

func (i *initProcess) send(r report) error { return send(i.link, r) }

// obey carries out one order.
func (i *initProcess) obey(o order, files []*os.File) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if o.Kill {
		for _, r := range i.running {
			if r.id == o.ID {
				_ = sys.Signal(r.pidfd, unix.SIGKILL, false)
			}
		}
		return
	}
	pid, err := i.start(o, files)
	if err != nil {
		_ = i.send(report{ID: o.ID, Done: true, Failed: err.Error()})
		return
	}
	_ = i.send(report{ID: o.ID, Pid: pid})
}

// start executes a command with files as its first descriptors.
func (i *initProcess) start(o order, files []*os.File) (pid int, err error) {
	if len(o.Args) == 0 {
		return 0, errors.New("no command")
	}
	path, err := lookPath(o.Args[0], o.Env)
	if err != nil {
		return 0, err
	}
	attr := &os.ProcAttr{Dir: o.Dir, Env: o.Env, Files: files, Sys: &syscall.SysProcAttr{Setsid: true}}
	if o.User != nil {
		attr.Sys.Credential = &syscall.Credential{Uid: o.User.UID, Gid: o.User.GID}
	}
	p, err := os.StartProcess(path, o.Args, attr)
	if err != nil {
		return 0, err
	}
	defer func() { _ = p.Release() }()
	pidfd, err := sys.OpenPid(p.Pid) // a child that cannot be reaped yet
	if err != nil {
		return 0, err
	}
	i.running[p.Pid] = running{o.ID, pidfd}
	return p.Pid, nil
}

// lookPath is exec.LookPath in the PATH of env.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, e := range env {
		list, ok := strings.CutPrefix(e, "PATH=")
		if !ok {
			continue
		}
		for _, dir := range filepath.SplitList(list) {
			if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
				return path, nil
			}
		}
	}
	return "", errors.New(name + ": no such command on the host")
}

// reap collects all that has ended. Only what was asked for is told of.
func (i *initProcess) reap() {
	i.mu.Lock()
	defer i.mu.Unlock()
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || pid == 0 {
			return
		}
		r, ok := i.running[pid]
		if !ok {
			continue
		}
		delete(i.running, pid)
		r.pidfd.Close()
		code := status.ExitStatus()
		if status.Signaled() {
			code = 128 + int(status.Signal())
		}
		_ = i.send(report{ID: r.id, Pid: pid, Done: true, Code: code})
	}
}
