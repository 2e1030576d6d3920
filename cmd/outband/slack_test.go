// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/outband/outband/internal/testutil"
)

// TestSlack finds a thread that may be late, and that it is not the first. (Those
// that the monitor makes later are as it is.)
func TestSlack(t *testing.T) {
	testutil.RequireRoot(t)
	slack()
	entries, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	var late []string
	for _, e := range entries {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%s/timerslack_ns", e.Name())) // the thread may be gone
		if strings.TrimSpace(string(text)) == strconv.Itoa(monitorSlack) {
			late = append(late, e.Name())
		}
	}
	if len(late) == 0 || slices.Contains(late, strconv.Itoa(os.Getpid())) {
		t.Errorf("late are %q of %v", late, entries)
	}
}
