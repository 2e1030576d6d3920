// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/test/cve/rig"
)

// TestNumbers enters processes that are no container's: the machine's first,
// a kernel thread, the caller's own, one that shares all with it, one that
// cannot be, and a thread that is no process.
func TestNumbers(t *testing.T) {
	begin(t)
	tool := rig.Build(t)
	numbers := map[string]string{
		"own": fmt.Sprint(os.Getpid()), "none": "0", "too large": "4194305", "far too large": "99999999999999999999",
		"negative": "pid:-1", "first": "1", "thread": fmt.Sprint(thread(t)),
	}
	if rig.Comm(2) == "kthreadd" {
		numbers["kernel thread"] = "2"
	}
	for name, number := range numbers {
		t.Run(name, func(t *testing.T) {
			refused(t, tool.Run("enter", "-n", number, "true"))
		})
	}
	if left := tool.Sessions(); len(left) > 0 {
		t.Errorf("records %v", left)
	}
}

// thread is the number of a thread of the test that is not its first.
func thread(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		var tid int
		if _, err := fmt.Sscan(e.Name(), &tid); err == nil && tid != os.Getpid() && tid != unix.Gettid() {
			return tid
		}
	}
	t.Skip("skipped: the test has no other thread")
	return 0
}
