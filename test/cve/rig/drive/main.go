// SPDX-License-Identifier: Apache-2.0

// Command drive calls the library many times and says what that leaves open in
// the process.
//
//	drive PID COUNT
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/outband/outband"
)

func main() {
	if err := drive(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "drive:", err)
		os.Exit(1)
	}
}

func drive(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: drive PID COUNT")
	}
	count, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	debug.SetGCPercent(-1)                                  // a finalizer closes what was forgotten
	ctx, cancel := context.WithCancel(context.Background()) // and is not until the end
	defer cancel()
	t, err := outband.Open(ctx, "pid:"+args[0])
	if err != nil {
		return err
	}
	defer t.Close()
	for _, entry := range []func(context.Context, *outband.Target) error{run, drop, missing} {
		if err := entry(ctx, t); err != nil { // what the runtime opens once is open
			return err
		}
		goroutines, files := runtime.NumGoroutine(), openFiles()
		for range count {
			if err := entry(ctx, t); err != nil {
				return err
			}
		}
		const settle = time.Second // of goroutines that are about to end
		for until := time.Now().Add(settle); runtime.NumGoroutine() > goroutines && time.Now().Before(until); {
			time.Sleep(time.Millisecond)
		}
		// Fewer than before is one that the first entry had still to end.
		fmt.Println(max(0, runtime.NumGoroutine()-goroutines), openFiles()-files)
	}
	return nil
}

// run enters and waits.
func run(ctx context.Context, t *outband.Target) error {
	return t.CommandContext(ctx, "true").Run()
}

// drop enters and loses interest.
func drop(ctx context.Context, t *outband.Target) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := t.CommandContext(ctx, "sleep", "infinity")
	if err := c.Start(); err != nil {
		return err
	}
	cancel()
	var exit *outband.ExitError
	if err := c.Wait(); !errors.As(err, &exit) {
		return fmt.Errorf("a command that was dropped: %w", err)
	}
	return nil
}

// missing executes what is not there.
func missing(ctx context.Context, t *outband.Target) error {
	if err := t.CommandContext(ctx, "missing").Run(); !errors.Is(err, outband.ErrExec) {
		return fmt.Errorf("a command that is missing: %w", err)
	}
	return nil
}

func openFiles() int {
	entries, _ := os.ReadDir("/proc/self/fd") // its own descriptor is there each time
	return len(entries)
}
