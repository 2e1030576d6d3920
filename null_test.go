// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"bytes"
	"os"
	"testing"

	"github.com/outband/outband/internal/testutil"
)

// Nothing is moved from the caller's null device: the command has an input that
// is at its end, and nobody relays. (Mutants that lost: every device, and every
// file, taken for it.)
func TestNullInput(t *testing.T) {
	testutil.NoLeaks(t)
	target := enter(t, hostFiles())
	for _, test := range []struct {
		path, want string
		relayed    bool
	}{{"/dev/null", "", false}, {"/dev/zero", "00000", true}, {fileWith(t, "input").Name(), "696e7", true}} {
		f, err := os.Open(test.path)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		c := sh(target, "test -p /proc/self/fd/0 || exit 9; head -c 3 | od -An -tx1 | tr -d ' \\n' | head -c 5")
		c.Stdin, c.Stdout = f, &out
		start(t, c)
		if relayed := c.streams.outside[0] != nil; relayed != test.relayed {
			t.Errorf("%s: relayed %v", test.path, relayed)
		}
		if err := c.Wait(); err != nil || out.String() != test.want {
			t.Errorf("%s: %q, %v", test.path, out.String(), err)
		}
		f.Close()
	}
}
