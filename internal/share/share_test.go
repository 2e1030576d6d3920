// SPDX-License-Identifier: Apache-2.0

package share

import (
	"sync/atomic"
	"testing"
)

func TestEach(t *testing.T) {
	for _, n := range []int{0, 1, worth, 10 * worth} {
		done := make([]atomic.Int32, n)
		var begun atomic.Int32
		Each(n, func() func(int) {
			begun.Add(1)
			return func(i int) { done[i].Add(1) }
		})
		for i := range done {
			if got := done[i].Load(); got != 1 {
				t.Errorf("%d of %d: %d times", i, n, got)
			}
		}
		if got := begun.Load(); got < 1 || got > most {
			t.Errorf("of %d: %d at work", n, got)
		}
	}
}
