// SPDX-License-Identifier: Apache-2.0

package testutil

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
)

// fake is a test that is only looked at: what the helpers do to it.
type fake struct {
	testing.TB // a real one, for what is not overridden

	said     string
	skipped  bool
	failed   bool
	cleanups []func()
}

// observe runs f as a test of its own, with its cleanups.
func observe(t *testing.T, f func(testing.TB)) *fake {
	t.Helper()
	fk := &fake{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(fk)
	}()
	<-done
	for _, cleanup := range slices.Backward(fk.cleanups) {
		cleanup()
	}
	return fk
}

func (f *fake) Helper()                   {}
func (f *fake) Cleanup(cleanup func())    { f.cleanups = append(f.cleanups, cleanup) }
func (f *fake) say(s string)              { f.said += s + "\n" }
func (f *fake) Error(args ...any)         { f.failed = true; f.say(fmt.Sprint(args...)) }
func (f *fake) Errorf(s string, a ...any) { f.failed = true; f.say(fmt.Sprintf(s, a...)) }

func (f *fake) Fatal(args ...any) {
	f.Error(args...)
	runtime.Goexit()
}

func (f *fake) Fatalf(s string, a ...any) {
	f.Errorf(s, a...)
	runtime.Goexit()
}

func (f *fake) Skipf(s string, a ...any) {
	f.skipped = true
	f.say(fmt.Sprintf(s, a...))
	runtime.Goexit()
}
