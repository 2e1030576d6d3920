// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
)

// Named finds what a scan finds under that name, a cut one too.
func TestNamed(t *testing.T) {
	proc, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimSuffix(string(comm), "\n")
	is := func(tasks []Task) bool {
		return slices.ContainsFunc(tasks, func(t Task) bool {
			return t.PID == os.Getpid() && t.Comm == name && len(t.NSpid) > 0 && t.Cmdline != ""
		})
	}
	for _, n := range []string{name, (name + "-and-more-than-fifteen")[:max(len(name), 16)]} {
		tasks, err := proc.Named(t.Context(), n)
		if want := n == name || len(name) == maxComm; err != nil || is(tasks) != want {
			t.Errorf("%s: %+v, %v", n, tasks, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := proc.Named(ctx, name); !errors.Is(err, ErrIncomplete) {
		t.Error(err)
	}
}
