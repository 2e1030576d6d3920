// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/registry"
	"github.com/outband/outband/internal/throwaway"
)

// patience bounds every wait of these tests.
const patience = 10 * time.Second

// session is outband, as a process of its own, with a command in a container.
type session struct {
	*exec.Cmd
	command int // number of the command, from the list of sessions
}

// startSession enters a fresh container with "sleep infinity".
func startSession(t *testing.T, before func(*exec.Cmd)) *session {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	box, err := throwaway.Start(ctx, throwaway.Spec{Name: "box"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { box.Close() })
	run := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Args = []string{"outband", "--run-dir", run, "enter", "-n", strconv.Itoa(box.Pid()), "sleep", "infinity"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	cmd.Stderr = os.Stderr
	if before != nil {
		before(cmd)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return &session{cmd, awaitRecord(t, run)}
}

// awaitRecord waits until the one session in run has its command's numbers.
func awaitRecord(t *testing.T, run string) int {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		r, err := registry.Open(run)
		if err != nil {
			t.Fatal(err)
		}
		records, err := r.List()
		r.Close()
		if err == nil && len(records) == 1 && len(records[0].Pids) > 0 {
			return records[0].Pids[0]
		}
	}
	t.Fatal("the session did not begin")
	return 0
}

// code waits for outband and returns its exit code.
func (s *session) code(t *testing.T) int {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- s.Wait() }()
	select {
	case err := <-done:
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return s.ProcessState.ExitCode()
	case <-time.After(patience):
		t.Fatal("outband did not end")
	}
	return 0
}

// TestSignals: what outband is sent, the command gets; its end is outband's
// exit code.
func TestSignals(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM} {
		t.Run(unix.SignalName(sig), func(t *testing.T) {
			s := startSession(t, nil)
			if err := s.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if got, want := s.code(t), 128+int(sig); got != want {
				t.Errorf("exit code %d, not %d", got, want)
			}
		})
	}
}

// TestIgnored: a signal that outband was told to ignore is not passed on.
func TestIgnored(t *testing.T) {
	if _, err := exec.LookPath("nohup"); err != nil {
		t.Skip("needs nohup, of coreutils")
	}
	s := startSession(t, func(c *exec.Cmd) {
		c.Args = append([]string{"nohup", "bash", "-c", `exec -a outband "$0" "$@"`, os.Args[0]}, c.Args[1:]...)
		c.Path, _ = exec.LookPath("nohup")
		c.Stdout = os.Stderr
	})
	if err := s.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if err := s.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got, want := s.code(t), 128+int(syscall.SIGTERM); got != want {
		t.Errorf("exit code %d, not %d", got, want)
	}
}

// TestStop: ^Z stops the command and outband with it; both go on afterwards.
func TestStop(t *testing.T) {
	s := startSession(t, nil)
	if err := s.Process.Signal(syscall.SIGTSTP); err != nil {
		t.Fatal(err)
	}
	awaitState(t, s.command, 'T')
	awaitState(t, s.Process.Pid, 'T')
	if err := s.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	awaitState(t, s.command, 'S')
	if err := s.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got, want := s.code(t), 128+int(syscall.SIGTERM); got != want {
		t.Errorf("exit code %d, not %d", got, want)
	}
}

// awaitState waits until process pid is in a state.
func awaitState(t *testing.T, pid int, state byte) {
	t.Helper()
	proc, err := procfs.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	var last byte
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		dir, err := proc.Process(pid)
		if err != nil {
			t.Fatal(err)
		}
		status, err := dir.Status()
		dir.Close()
		if err != nil {
			t.Fatal(err)
		}
		if last = status.State; last == state {
			return
		}
	}
	t.Fatalf("process %d is in state %c, not %c", pid, last, state)
}
