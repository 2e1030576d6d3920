// SPDX-License-Identifier: Apache-2.0

package cve

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/test/cve/rig"
)

const (
	keyName = "outband-canary"
	keyText = "do-not-read-this-inside"
)

// TestA33 enters from a session whose keyring has a key.
func TestA33(t *testing.T) {
	begin(t)
	if _, err := os.Stat("/proc/keys"); err != nil {
		t.Skip("skipped: this kernel has no keyrings")
	}
	c := testutil.Throwaway(t, throwaway.Spec{})
	read := func(tool *rig.Tool) string {
		call := tool.Args(append([]string{"enter", "-n", fmt.Sprint(c.Pid())}, rig.Attack("keys")...)...)
		r := tool.RunCommand(tool.Command(rig.HostAttack("keyholder", call...)...))
		if r.Code != 0 {
			t.Fatalf("%+v", r)
		}
		return r.Out
	}
	if got := read(rig.Build(t)); strings.Contains(got, keyText) {
		t.Errorf("read inside: %q", got)
	}
	mutant := rig.Build(t, rig.Change{File: "internal/forkexec/joiner.go",
		Old: "num(unix.KEYCTL_JOIN_SESSION_KEYRING), num(0))", New: "num(unix.KEYCTL_GET_KEYRING_ID), num(-3), num(0))"})
	if got := read(mutant); !strings.Contains(got, keyText) {
		t.Errorf("the mutant's keys cannot be read either: %q", got)
	}
}

// attackKeyholder executes a command in a session that has a key. Keyrings are
// the thread's (keyrings(7)).
func attackKeyholder(args []string) error {
	runtime.LockOSThread()
	if _, err := unix.KeyctlJoinSessionKeyring("outband-test"); err != nil {
		return err
	}
	if _, err := unix.AddKey("user", keyName, []byte(keyText), unix.KEY_SPEC_SESSION_KEYRING); err != nil {
		return err
	}
	return syscall.Exec(args[0], args, os.Environ())
}

// attackKeys prints what is in the key that it wants. (That there is one, every
// process of its owner may see in /proc/keys.)
func attackKeys([]string) error {
	id, err := unix.KeyctlSearch(unix.KEY_SPEC_SESSION_KEYRING, "user", keyName, 0)
	if err != nil {
		fmt.Println(err)
		return nil
	}
	buf := make([]byte, 64)
	n, err := unix.KeyctlBuffer(unix.KEYCTL_READ, id, buf, 0)
	fmt.Printf("%s %v\n", buf[:max(min(n, len(buf)), 0)], err)
	return nil
}
