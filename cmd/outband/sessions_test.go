// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/registry"
	"github.com/outband/outband/internal/sys"
)

// TestEndGivenUp: whoever waits for the end of a session is let go when the context
// is done. One that is stopped does not listen to SIGTERM.
func TestEndGivenUp(t *testing.T) {
	run, name := t.TempDir(), strconv.Itoa(box(t).Pid())
	cmd := exec.Command(os.Args[0], "--run-dir", run, "enter", "-d", name, "--", "sleep", "1000")
	cmd.Args[0] = "outband"
	id, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	p := &program{runDir: run, stdout: t.Output(), stderr: t.Output()}
	live, err := p.records()
	if err != nil || len(live) != 1 {
		t.Fatal(live, err)
	}
	pidfd, err := sys.OpenPid(live[0].Pids[0])
	if err != nil {
		t.Fatal(err)
	}
	defer pidfd.Close()
	if err := sys.Signal(pidfd, unix.SIGSTOP, false); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	ids := []string{strings.TrimSpace(string(id))}
	if err := p.endSessions(ctx, ids); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	reg, err := registry.Open(run)
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	if !lives(reg, ids[0]) {
		t.Error("it has ended")
	}
	if err := p.endSessions(t.Context(), ids); err != nil || lives(reg, ids[0]) {
		t.Error(err)
	}
}
