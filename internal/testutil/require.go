// SPDX-License-Identifier: Apache-2.0

package testutil

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/sys"
	"github.com/outband/outband/internal/throwaway"
)

// missing skips a test for a reason that another set-up of the machine would
// remove, or fails it where everything has to be there.
func missing(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("OUTBAND_REQUIRE") == "all" {
		t.Fatalf("required here: %s", reason)
	}
	t.Skipf("skipped: %s", reason)
}

// RequireRoot requires user id 0 with CAP_SYS_ADMIN.
func RequireRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 || !effective(unix.CAP_SYS_ADMIN) {
		missing(t, "needs root with CAP_SYS_ADMIN")
	}
}

// RequireKernel requires a Linux version for a feature. An older one skips
// always: no package can be installed against that.
func RequireKernel(t testing.TB, major, minor int, feature string) {
	t.Helper()
	haveMajor, haveMinor := sys.Release()
	if haveMajor < major || haveMajor == major && haveMinor < minor {
		t.Skipf("skipped: %s needs Linux %d.%d, this is %d.%d", feature, major, minor, haveMajor, haveMinor)
	}
}

// RequireCommand requires a program, which Debian has in pkg, and returns its
// path.
func RequireCommand(t testing.TB, name, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		missing(t, "needs the command "+name+" (package "+pkg+")")
	}
	return path
}

// RequireFUSE requires that a process may serve a file system.
func RequireFUSE(t testing.TB) {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil {
		missing(t, "needs FUSE: "+err.Error())
	}
}

// RequireUserNS requires that the test may make user namespaces that are of
// use, by making one.
func RequireUserNS(t testing.TB) {
	t.Helper()
	if err := tryUserNS(); err != nil {
		missing(t, "needs user namespaces: "+describe(err))
	}
}

func tryUserNS() error {
	c, err := throwaway.Start(context.Background(), throwaway.Spec{
		Namespaces: unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID,
		Tree:       throwaway.TreeShared,
	})
	if err != nil {
		return err
	}
	return c.Close()
}

// describe is err with its hint, if it has one.
func describe(err error) string {
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) && hinted.Hint() != "" {
		return err.Error() + " (" + hinted.Hint() + ")"
	}
	return err.Error()
}

// Throwaway starts a container that ends with the test. A refusal skips the test
// only where no user namespace can be had at all.
func Throwaway(t testing.TB, spec throwaway.Spec) *throwaway.Container {
	t.Helper()
	c, err := throwaway.Start(context.Background(), spec)
	switch {
	case errors.Is(err, errors.ErrUnsupported) && tryUserNS() != nil:
		missing(t, describe(err))
	case err != nil:
		t.Fatal(describe(err))
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// effective tells whether the process has a capability in effect.
func effective(capability int) bool {
	mask, err := strconv.ParseUint(statusField("CapEff"), 16, 64)
	return err == nil && mask&(1<<capability) != 0
}

// statusField returns a line of /proc/self/status.
func statusField(name string) string {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut("\n"+string(status), "\n"+name+":")
	line, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(line)
}
