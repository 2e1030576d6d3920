// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The test began after the machine did, and before now; and that began when the
// kernel says so.
func TestClock(t *testing.T) {
	fs := open(t)
	self := fs.Rescan(t.Context(), false, os.Getpid())
	if len(self) != 1 {
		t.Fatal(self)
	}
	up, err := Uptime()
	began := time.Duration(self[0].Start) * Tick
	if err != nil || began <= 0 || began > up {
		t.Errorf("began %v after the machine, which has run for %v, %v", began, up, err)
	}
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), "\nbtime ")
	text, _, _ := strings.Cut(rest, "\n")
	btime, err := strconv.ParseInt(text, 10, 64)
	if off := Boot().Sub(time.Unix(btime, 0)).Abs(); err != nil || off > 2*time.Second { // it has whole seconds
		t.Errorf("%v off the kernel's own, %v", off, err)
	}
}
