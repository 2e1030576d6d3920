// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"strconv"
	"testing"

	"github.com/outband/outband/internal/testutil"
)

func TestMain(m *testing.M) { testutil.Main(m) }

func itoa(n int) string { return strconv.Itoa(n) }
