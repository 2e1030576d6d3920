// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// timed is a context that also ends when somebody says so, as by a deadline.
type timed struct {
	context.Context
	ended chan struct{}
}

func (t timed) Done() <-chan struct{} { return t.ended }

func (t timed) Err() error {
	select {
	case <-t.ended:
		if err := t.Context.Err(); err != nil {
			return err
		}
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// patient returns a context that ends as spend does.
func patient(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	t := timed{ctx, make(chan struct{})}
	go func() { spend(ctx, d, usage); close(t.ended) }()
	return t, cancel
}

// spend returns when time d has gone by, or ctx has ended. Time in which threads of
// this process wait for a CPU while others run does not count, up to nine times d:
// that an engine hangs cannot be told from its reader's having nothing to run on.
func spend(ctx context.Context, d time.Duration, usage func() (ran, waited time.Duration)) {
	ctx, cancel := context.WithTimeout(ctx, 10*d)
	defer cancel()
	pass := func(d time.Duration) time.Duration {
		begun := time.Now()
		select {
		case <-ctx.Done():
		case <-time.After(d):
		}
		return time.Since(begun)
	}
	pass(d / 2) // whoever is done by then is not kept by questions
	for left := d - d/2; left > 0 && ctx.Err() == nil; {
		ran, waited := usage()
		took := pass(max(left, d/16))
		nowRan, nowWaited := usage()
		left -= took - max(0, min(took-(nowRan-ran), nowWaited-waited)) // they may wait for each other
	}
}

// usage is how long the threads of this process have run, and how long they were ready
// to and did not (proc_pid_schedstat(5)); 0 where the kernel does not tell.
func usage() (ran, waited time.Duration) {
	paths, _ := filepath.Glob("/proc/self/task/*/schedstat")
	for _, path := range paths {
		b, _ := os.ReadFile(path) // it may have ended
		if f := strings.Fields(string(b)); len(f) > 1 {
			on, _ := strconv.ParseInt(f[0], 10, 64)
			off, _ := strconv.ParseInt(f[1], 10, 64)
			ran, waited = ran+time.Duration(on), waited+time.Duration(off)
		}
	}
	return ran, waited
}
