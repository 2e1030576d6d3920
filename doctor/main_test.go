// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"os"
	"strconv"
	"testing"

	"github.com/outband/outband/internal/testutil"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == sickJob {
		os.Exit(beSick(os.Args[2]))
	}
	testutil.Main(m)
}

func itoa(n int) string { return strconv.Itoa(n) }
