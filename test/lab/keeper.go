// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The arguments by which Main knows what it was executed as. Each has a second
// one: the plan or, for the last, the deadPlan.
const (
	keeperArg = "__lab-keeper"
	stageArg  = "__lab-stage"
	initArg   = "__lab-init"
	deadArg   = "__lab-dead"
)

// linkFD is the socket to the test, in every process that has it.
const linkFD = 3

// groupTime bounds the removal of a host's cgroups after its end.
const groupTime = 15 * time.Second

// plan is what the processes of a host are told about it.
type plan struct {
	Name        string      `json:"name"`  // the host's name
	Group       string      `json:"group"` // the name of its cgroup
	Hierarchies []hierarchy `json:"hierarchies"`
	// HideUnified leaves cgroup2 out where version 1 has controllers.
	HideUnified bool `json:"hideUnified"`
	// Memory lists directories that a file system of their own is for: an
	// overlay cannot be the upper layer of another.
	Memory []string `json:"memory"`
}

// Main becomes a process of a host where the program was executed as one, and
// does not return then. It is to be called before anything else.
func Main(args []string) {
	if len(args) != 3 {
		return
	}
	role, ok := map[string]func(string) error{
		keeperArg: told(keep), stageArg: told(stage), initArg: told(initMain), deadArg: told(dead),
	}[args[1]]
	if !ok {
		return
	}
	runtime.LockOSThread()
	if err := role(args[2]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", args[1], err)
		os.Exit(1)
	}
	os.Exit(0)
}

// told makes a role of what takes a plan.
func told[P any](do func(*P) error) func(string) error {
	return func(text string) error {
		p := new(P)
		if err := json.Unmarshal([]byte(text), p); err != nil {
			return err
		}
		return do(p)
	}
}

// argv is the command line of a role.
func (p *plan) argv(role string) []string { return argv(role, p) }

func argv(role string, plan any) []string {
	data, err := json.Marshal(plan)
	if err != nil {
		panic(err) // strings, numbers and booleans
	}
	return []string{"outband-lab", role, string(data)}
}

// keep makes the host's cgroups, starts its init, waits for its end and removes
// the cgroups. The kernel has ended all of the pid namespace before an init can
// be waited for.
func keep(p *plan) error {
	sweep(p.Hierarchies)
	defer func() { _ = removeGroup(p.Hierarchies, p.Group, groupTime) }()
	if err := makeGroup(p.Hierarchies, p.Group); err != nil {
		return err
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = p.argv(stageArg)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	link := os.NewFile(linkFD, "link")
	cmd.ExtraFiles = []*os.File{link}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid: true, Pdeathsig: syscall.SIGKILL, // this thread is locked and stays
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the host's init: %w", err)
	}
	link.Close() // or its end would never come
	err := cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signaled() {
		err = nil // pressed from within: no concern of the keeper's
	}
	return errors.Join(err, removeGroup(p.Hierarchies, p.Group, groupTime))
}
