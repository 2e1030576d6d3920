// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/testutil"
)

// onHost begins a test. Anywhere else than on a host of test/hosts it skips,
// whatever is required: there it would start engines of the machine's own.
func onHost(t *testing.T) {
	t.Helper()
	if os.Getenv("OUTBAND_HOST") == "" {
		t.Skip("runs on a host of its own: make test-hosts")
	}
}

// asRoot begins a test of root's, asUser one of an ordinary user's. A host runs
// this package once as each.
func asRoot(t *testing.T) {
	t.Helper()
	onHost(t)
	if os.Geteuid() != 0 {
		t.Skip("root's test")
	}
}

func asUser(t *testing.T) {
	t.Helper()
	onHost(t)
	if os.Geteuid() == 0 {
		t.Skip("an ordinary user's test")
	}
}

// has skips a test of an engine that this host does not have; sid has nearly all.
func has(t *testing.T, command string) {
	t.Helper()
	hasOn(t, "sid", command)
}

// hasOn is has for an engine that one host must have.
func hasOn(t *testing.T, must, command string) {
	t.Helper()
	if _, err := exec.LookPath(command); err == nil {
		return
	}
	if host := os.Getenv("OUTBAND_HOST"); host != must {
		t.Skipf("%s has no %s", host, command)
	}
	t.Fatalf("no %s", command)
}

// Bounds: of a call of an engine, which is slow without hardware support, and of
// what comes about by itself: an init may take a minute until its journal runs.
const (
	callTime   = 90 * time.Second
	settleTime = 3 * time.Minute
)

// command is a call of a program that ends with the test.
func command(t testing.TB, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// call runs a program and returns its standard output.
func call(t testing.TB, args ...string) string {
	t.Helper()
	out, err := try(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// try is call with an error, which has what the program said.
func try(t testing.TB, args ...string) (string, error) {
	t.Helper()
	cmd := command(t, args...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w\n%s%s", strings.Join(args, " "), err, out.String(), said.String())
	}
	return out.String(), nil
}

// spawn starts a program that is killed at the end of the test.
func spawn(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s said: %s", args[0], said.String())
		}
	})
	return cmd
}

// await waits until done.
func await(t testing.TB, what string, done func() bool) {
	t.Helper()
	for until := time.Now().Add(settleTime); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("%s did not come about in %v", what, settleTime)
		}
	}
}

// service starts a unit of the host.
func service(t testing.TB, unit string) {
	t.Helper()
	if _, err := try(t, "systemctl", "start", unit); err != nil {
		log, _ := try(t, "journalctl", "-b", "-n", "30", "--no-pager", "-u", unit)
		t.Fatalf("%v\n%s", err, log)
	}
}

// childOf waits for a child of a process, whose comm it is.
func childOf(t testing.TB, pid int, comm string) (child int) {
	t.Helper()
	await(t, "a child "+comm, func() bool {
		stats, _ := filepath.Glob("/proc/[0-9]*/stat")
		for _, file := range stats {
			b, _ := os.ReadFile(file)
			name, rest, _ := strings.Cut(string(b), ") ")
			fields := strings.Fields(rest)
			if len(fields) > 2 && fields[1] == strconv.Itoa(pid) && strings.HasSuffix(name, "("+comm) {
				child, _ = strconv.Atoi(strings.Fields(name)[0])
				return true
			}
		}
		return false
	})
	return child
}

// rootfs is a root file system of busybox, and a tar of it.
func rootfs(t testing.TB) (dir, archive string) {
	t.Helper()
	dir = testutil.BusyboxRoot(t)
	archive = filepath.Join(t.TempDir(), "rootfs.tar")
	call(t, "tar", "-C", dir, "-cf", archive, ".")
	return dir, archive
}

// link reads a link of a process, "" if it cannot be read.
func link(pid int, name string) string {
	target, err := os.Readlink(fmt.Sprintf("/proc/%d/%s", pid, name))
	if err != nil {
		return ""
	}
	return target
}

// file reads a file of a process without what ends its lines.
func file(t testing.TB, pid int, name string) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
	if err != nil && !errors.Is(err, unix.EINVAL) {
		t.Error(err)
	}
	return strings.TrimRight(string(b), "\n\x00")
}
