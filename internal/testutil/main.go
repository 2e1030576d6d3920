// SPDX-License-Identifier: Apache-2.0

package testutil

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/throwaway"
)

// settleTime is how long what is on its way out may take.
const settleTime = 2 * time.Second

// Main is the whole of a package's TestMain. It becomes a stage or an applet
// where the binary was executed as one, takes the power to reboot the machine
// from the process, runs the tests, and fails the run if mounts, IP forwarding,
// packet filters or cgroups with outband-… in the name are not what they were. It
// does not return.
func Main(m *testing.M) {
	// Before anything else: a stage must be single-minded, and have rights.
	throwaway.Main(os.Args)
	hideMain(os.Args)
	muteMain(os.Args)
	if err := DropBoot(); err != nil {
		fmt.Fprintln(os.Stderr, "drop CAP_SYS_BOOT:", err)
		os.Exit(1)
	}
	before := hostState()
	code := m.Run()
	if changes := settle(before, hostState, settleTime); len(changes) > 0 {
		fmt.Fprintf(os.Stderr, "the tests have changed the machine:\n\t%s\n", strings.Join(changes, "\n\t"))
		code = max(code, 1)
	}
	os.Exit(code)
}

// DropBoot takes CAP_SYS_BOOT off the bounding set and executes the program
// again: capabilities are the thread's, and Go has started others by now. User
// namespaces made later have the capability again, over themselves.
func DropBoot() error {
	if !effective(unix.CAP_SYS_BOOT) {
		return nil
	}
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_SYS_BOOT, 0, 0, 0); err != nil {
		return err
	}
	// An inheritable one would survive root's exec.
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return err
	}
	data[0].Inheritable &^= 1 << unix.CAP_SYS_BOOT
	if err := unix.Capset(&header, &data[0]); err != nil {
		return err
	}
	return syscall.Exec("/proc/self/exe", os.Args, os.Environ())
}

// state is a set of facts, one per line.
type state map[string]bool

// hostState is what every run must leave as it was.
func hostState() state {
	s := state{}
	for _, line := range readLines("/proc/self/mountinfo") {
		s["mount "+line] = true
	}
	for _, line := range readLines("/proc/sys/net/ipv4/ip_forward") {
		s["ip_forward "+line] = true
	}
	for _, dir := range cgroups() {
		s["cgroup "+dir] = true
	}
	for _, rule := range packetFilters() {
		s["packet filter "+rule] = true
	}
	return s
}

// packetFilters lists the rules of the own network namespace, without counters;
// none where there is no program to ask.
func packetFilters() (rules []string) {
	for _, program := range []string{"iptables-save", "ip6tables-save"} {
		ctx, cancel := context.WithTimeout(context.Background(), settleTime)
		out, err := exec.CommandContext(ctx, program).Output()
		cancel()
		if err != nil {
			continue
		}
		table := ""
		for line := range strings.Lines(string(out)) {
			line, _, _ = strings.Cut(strings.TrimSpace(line), " [")
			switch {
			case strings.HasPrefix(line, "*"):
				table = line[1:]
			case line != "" && line != "COMMIT" && !strings.HasPrefix(line, "#"):
				rules = append(rules, program+" "+table+" "+line)
			}
		}
	}
	return rules
}

// settle returns what differs from before all the time until limit. What comes
// and goes meanwhile is another process's: the machine is not the tests' alone.
func settle(before state, now func() state, limit time.Duration) []string {
	left := before.diff(now())
	waitFor(limit, func() bool {
		again := before.diff(now())
		left = slices.DeleteFunc(left, func(change string) bool { return !slices.Contains(again, change) })
		return len(left) == 0
	})
	return slices.DeleteFunc(left, locked)
}

// waitFor asks until done or the time is over, and says which it was.
func waitFor(limit time.Duration, done func() bool) bool {
	for until := time.Now().Add(limit); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(until) {
			return false
		}
	}
	return true
}

// readLines returns the lines of a file, none if it cannot be read.
func readLines(name string) []string {
	data, err := os.ReadFile(name)
	if err != nil || len(data) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
}
