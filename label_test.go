// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"os"
	"testing"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
)

// A8: a label is written to a procfs of its own by who may make one; else to the
// caller's, if the file is there and is procfs's.
func TestProcForLabel(t *testing.T) {
	testutil.NoLeaks(t)
	both(t, func(t *testing.T) {
		target := enter(t, throwaway.Spec{})
		proc, err := target.procForLabel("attr/exec") // no label is set for it
		if err != nil {
			t.Fatal(err)
		}
		if private := proc != target.fs; private != (os.Geteuid() == 0) {
			t.Errorf("user %d: a private procfs: %v", os.Geteuid(), private)
		}
		if proc != target.fs {
			proc.Close()
			return
		}
		if proc, err := target.procForLabel("no/such"); err == nil {
			t.Errorf("a file that is not there: %v", proc)
		}
	})
}
