// SPDX-License-Identifier: Apache-2.0

package power

import (
	"os"
	"testing"

	"github.com/outband/outband/internal/testutil"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 3 {
		switch os.Args[1] {
		case stuckArg:
			os.Exit(stuckInit(os.Args[2]))
		case statArg:
			os.Exit(statFile(os.Args[2]))
		}
	}
	testutil.Main(m)
}
