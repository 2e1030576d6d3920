// SPDX-License-Identifier: Apache-2.0

// Package share has several CPUs do what has to be done of each of many things.
package share

import (
	"runtime"
	"sync"
	"sync/atomic"
)

const (
	most  = 4  // at a time: what they do is ask the kernel, which has locks
	worth = 32 // things for each, so that starting it pays
)

// Each calls do for each index below n, in no certain order, and returns when all
// are done. Each of those at work calls begin for a do of its own, which may keep
// what it needs from one thing to the next.
func Each(n int, begin func() (do func(i int))) {
	var next atomic.Int64
	work := func() {
		do := begin()
		for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
			do(int(i))
		}
	}
	var others sync.WaitGroup
	for range min(most, runtime.GOMAXPROCS(0), n/worth) - 1 {
		others.Go(work)
	}
	work()
	others.Wait()
}
