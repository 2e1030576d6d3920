// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/outband/outband/internal/testutil"
)

// TestA8 enters a container with a label while a decoy is mounted over the very
// file that the joiner writes its label to, in the mount namespace of the tool.
//
// There is time for that because the container's init has filters, and a tracer:
// the joiner waits for that one before it does anything else.
func TestA8(t *testing.T) {
	asRoot(t)
	has(t, "runc")
	has(t, "strace")
	profile(t, "outband-test", "")
	c := testutil.RunC(t, func(c testutil.Config) {
		c.Set("process.apparmorProfile", "outband-test")
		c.Set("process.noNewPrivileges", false)
		c.Set("linux.seccomp", map[string]any{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []map[string]any{
			{"names": []string{"mkdir", "mkdirat"}, "action": "SCMP_ACT_ERRNO"}}})
	})
	if state(t, c.Pid).Filters == 0 {
		t.Fatal("no filter: nothing makes the joiner wait")
	}
	decoy := filepath.Join(t.TempDir(), "decoy")
	if err := os.WriteFile(decoy, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	const tries = 5
	entered := 0
	for range tries {
		if enterOverDecoys(t, c.Pid, decoy) {
			entered++
		}
		if data, err := os.ReadFile(decoy); err != nil || len(data) != 0 {
			t.Fatalf("the decoy was written to: %q, %v", data, err)
		}
	}
	if entered == 0 {
		t.Errorf("nobody came in of %d", tries)
	}
	t.Logf("entered %d times of %d", entered, tries)
}

// enterOverDecoys lets the tool in once, in mounts of its own, and tells whether
// it came in; with the right label then.
func enterOverDecoys(t *testing.T, pid int, decoy string) bool {
	t.Helper()
	tracer := spawn(t, "strace", "-o", "/dev/null", "-p", fmt.Sprint(pid))
	await(t, "a tracer", func() bool { return field(file(t, pid, "status"), "TracerPid") == fmt.Sprint(tracer.Process.Pid) })
	tool := command(t, append([]string{"unshare", "-m", "--propagation", "private"}, append(words(pid, nil), "--", "cat", "/proc/self/attr/current")...)...)
	var out, said strings.Builder
	tool.Stdout, tool.Stderr = &out, &said
	if err := tool.Start(); err != nil {
		t.Fatal(err)
	}
	var joiner int
	await(t, "a joiner", func() bool { joiner = joinerOf(tool.Process.Pid); return joiner != 0 })
	over := true
	for _, of := range []string{"attr/exec", fmt.Sprintf("task/%d/attr/exec", joiner)} {
		mount := command(t, "nsenter", "-m", "-t", fmt.Sprint(tool.Process.Pid), "mount", "--bind", decoy, fmt.Sprintf("/proc/%d/%s", joiner, of))
		if said, err := mount.CombinedOutput(); err != nil { // who waits gives up in the end
			t.Logf("no decoy: %v, %s", err, said)
			over = false
		}
	}
	waits := joinerOf(tool.Process.Pid) == joiner
	_ = tracer.Process.Signal(os.Interrupt) // it lets go
	_ = tracer.Wait()
	err := tool.Wait()
	if err == nil && strings.TrimSpace(out.String()) != "outband-test (enforce)" {
		t.Errorf("it has the label %q", out.String())
	}
	t.Logf("waited %v: %v, %q, %q", waits, err, out.String(), said.String())
	return err == nil && waits && over
}

// joinerOf is the child of the warden, which is the child of the tool; 0 before
// there is one.
func joinerOf(tool int) int {
	warden := firstChild(tool)
	if warden == 0 {
		return 0
	}
	return firstChild(warden)
}

// firstChild is the first child of any thread of a process, or 0.
func firstChild(pid int) (child int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		data, _ := os.ReadFile(list)
		if _, err := fmt.Sscan(string(data), &child); err == nil {
			return child
		}
	}
	return 0
}
