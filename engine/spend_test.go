// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"runtime"
	"sync"
	"testing"
	"time"
)

// Time without a CPU is given back, and not for ever; what this process used itself
// is not.
func TestSpend(t *testing.T) {
	const d = 100 * time.Millisecond
	for what, test := range map[string]struct {
		starved     int           // how often all time was spent on waiting
		ran         time.Duration // and on running meanwhile
		least, most int           // how often that is asked
	}{"never": {0, 0, 2, 2}, "twice": {2, 0, 6, 6}, "always": {1 << 20, 0, 8, 100}, "for itself": {1 << 20, time.Hour, 2, 2}} {
		asked := 0
		var ran, waited time.Duration
		spend(t.Context(), d, func() (time.Duration, time.Duration) {
			if asked++; asked%2 == 0 && asked/2 <= test.starved {
				ran, waited = ran+test.ran, waited+time.Hour
			}
			return ran, waited
		})
		if asked < test.least || asked > test.most {
			t.Errorf("%s: asked %d times", what, asked)
		}
	}
}

// More threads than CPUs wait for them.
func TestUsage(t *testing.T) {
	ran, waited := usage()
	var all sync.WaitGroup
	done := make(chan struct{})
	for range 4 * runtime.NumCPU() {
		all.Go(func() {
			runtime.LockOSThread()
			for begun := time.Now(); time.Since(begun) < 50*time.Millisecond; {
			}
			<-done // and the thread lives
		})
	}
	deadline := time.Now().Add(10 * time.Second)
	for more, off := usage(); (off <= waited || more <= ran) && time.Now().Before(deadline); more, off = usage() {
		time.Sleep(time.Millisecond)
	}
	if more, off := usage(); off <= waited || more <= ran {
		t.Errorf("ran %v, waited %v; %v, %v before", more, off, ran, waited)
	}
	close(done)
	all.Wait()
}
