// SPDX-License-Identifier: Apache-2.0

package power

import (
	"testing"

	"github.com/outband/outband/internal/testutil"
)

func TestMain(m *testing.M) { testutil.Main(m) }
