// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/sys"
	"github.com/outband/outband/internal/testutil"
)

// ownerVariable tells the test binary how to end as the owner of a host.
const ownerVariable = "OUTBAND_LAB_OWNER"

// TestOwner is the process that owns a host and ends without closing it.
func TestOwner(t *testing.T) {
	how := os.Getenv(ownerVariable)
	if how == "" {
		return
	}
	h, err := Start(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Command("sleep", "1000").Start(); err != nil {
		t.Fatal(err)
	}
	fmt.Printf("init %d keeper %d group %s\n", h.Init, h.keeper.Process.Pid, h.Group)
	switch how {
	case "panic":
		go panic("as a test may")
		select {}
	case "exit":
		os.Exit(3)
	default:
		time.Sleep(time.Hour)
	}
}

// TestOwnerEnds: however the owner of a host ends, or its keeper, nothing of the
// host stays. A killed keeper leaves empty cgroups to the next host.
func TestOwnerEnds(t *testing.T) {
	testutil.RequireRoot(t)
	for _, how := range []string{"panic", "exit", "killed", "keeper killed"} {
		t.Run(how, func(t *testing.T) {
			testutil.NoLeaks(t)
			cmd := exec.Command("/proc/self/exe", "-test.run=^TestOwner$")
			cmd.Env = append(os.Environ(), ownerVariable+"="+how)
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var init, keeper int
			var group string
			if _, err := fmt.Fscanf(out, "init %d keeper %d group %s\n", &init, &keeper, &group); err != nil {
				t.Error(err)
			}
			end(t, cmd, how, init, keeper)
			_, _ = io.Copy(io.Discard, out)
			_ = cmd.Wait()
			adopted(keeper)
			adopted(init) // of a killed keeper
			if exists(fmt.Sprintf("/proc/%d", init)) {
				t.Error("the host's init is still there")
			}
			nothingOf(t, group, how == "keeper killed")
		})
	}
}

// end ends the owner or the keeper, if they do not do so by themselves.
func end(t *testing.T, owner *exec.Cmd, how string, init, keeper int) {
	t.Helper()
	if how == "keeper killed" {
		pidfd, err := sys.OpenPid(init)
		if err != nil {
			t.Fatal(err)
		}
		defer pidfd.Close()
		kill(t, keeper)
		if !sys.Await(time.Now().Add(settleTime), pidfd, nil) {
			t.Error("the init has outlived its keeper")
		}
	}
	if how == "killed" || how == "keeper killed" {
		if err := owner.Process.Kill(); err != nil {
			t.Error(err)
		}
	}
}

// kill kills a process that is known to run: its parent has not reaped it.
func kill(t *testing.T, pid int) {
	t.Helper()
	p, err := sys.OpenPid(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := sys.Signal(p, unix.SIGKILL, false); err != nil {
		t.Error(err)
	}
}

// settleTime is how long what is on its way out may take here.
const settleTime = 5 * time.Second

// adopted reaps a process that the test process has adopted, if it has.
func adopted(pid int) {
	for until := time.Now().Add(settleTime); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		if got, err := unix.Wait4(pid, nil, unix.WNOHANG, nil); got == pid || errors.Is(err, unix.ECHILD) {
			return
		}
	}
}

// nothingOf waits until a host's cgroups are gone, after another start if they
// need it.
func nothingOf(t *testing.T, group string, swept bool) {
	t.Helper()
	if swept {
		h, err := Start(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}
	all, err := hierarchies()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), settleTime)
	defer cancel()
	err = poll(ctx, func() error {
		for _, h := range all {
			if dir := filepath.Join(h.Dir, group); exists(dir) {
				return errors.New(dir + " is left")
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
