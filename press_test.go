// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/sys"
	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/ns"
)

// Each button ends a container in its own way, for root and for the owner of a
// rootless one; what can be pressed no more is gone.
func TestPress(t *testing.T) {
	testutil.NoLeaks(t)
	both(t, func(t *testing.T) {
		for button, want := range map[Button]syscall.Signal{PowerOff: unix.SIGINT, HaltIt: unix.SIGINT, Restart: unix.SIGHUP} {
			c := testutil.Throwaway(t, throwaway.Spec{User: true, Workers: [][]string{{"sleep", "1000"}}})
			target := hold(t, c)
			if err := target.Press(t.Context(), button); err != nil {
				t.Fatal(button, err, Hint(err))
			}
			state, err := c.Wait(t.Context())
			if err != nil || state.Sys().(syscall.WaitStatus).Signal() != want {
				t.Errorf("%s: %v, %v", button, state, err)
			}
			if err := target.Press(t.Context(), button); !errors.Is(err, ErrGone) {
				t.Errorf("%s once more: %v", button, err)
			}
		}
	})
}

// A press ends the container that is meant: not the one it is in, not those
// inside of it but with it.
func TestPressInner(t *testing.T) {
	testutil.NoLeaks(t)
	testutil.RequireRoot(t)
	c := testutil.Throwaway(t, throwaway.Spec{User: true, Depth: 3})
	leaf := hold(t, c.Leaf())
	if err := leaf.Press(t.Context(), PowerOff); err != nil {
		t.Fatal(err)
	}
	await(t, "the inner one to end", func() bool { return leaf.Alive() != nil })
	outer := hold(t, c)
	if err := outer.Press(t.Context(), PowerOff); err != nil {
		t.Fatal(err)
	}
	await(t, "the outer one to end", func() bool { return outer.Alive() != nil })
}

// What has no pid namespace of its own, or is not the first process of it, is not
// pressed, nor is anything else done to it. A32.
func TestPowered(t *testing.T) {
	testutil.NoLeaks(t)
	testutil.RequireRoot(t)
	none := testutil.Throwaway(t, throwaway.Spec{User: true, Namespaces: unix.CLONE_NEWNS | unix.CLONE_NEWUTS, Tree: throwaway.TreeHost})
	container := enter(t, throwaway.Spec{User: true})
	_, number := sleeper(t, container, nil)
	pidfd, err := sys.OpenPid(number)
	if err != nil {
		t.Fatal(err)
	}
	defer pidfd.Close()
	second, err := OpenPidfd(t.Context(), int(pidfd.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	for name, test := range map[string]struct {
		target *Target
		want   error
	}{"the host's pid namespace": {hold(t, none), ErrOwnNamespace}, "number 2": {second, ErrNotSupported}} {
		if err := test.target.Press(t.Context(), PowerOff); !errors.Is(err, test.want) || Hint(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
		if err := test.target.Powered(); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", name, err)
		}
		if err := test.target.Alive(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := container.Powered(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Target){
		"the initial one": func(t *Target) { t.namespaces[ns.PID] = ns.Initial },
		"one number":      func(t *Target) { t.status.NSpid = []int{1} },
		"another":         func(t *Target) { t.namespaces[ns.PID]++ }, // layer 1 sees that it is not the one
	} {
		one := enter(t, throwaway.Spec{User: true})
		change(one)
		if err := one.Press(t.Context(), PowerOff); err == nil || one.Alive() != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A press that is called off, late or unknown does nothing.
func TestPressNot(t *testing.T) {
	testutil.NoLeaks(t)
	target := enter(t, throwaway.Spec{User: true})
	if err := target.Press(t.Context(), "RB_KEXEC"); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := target.Press(ctx, PowerOff); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	ctx, cancel = context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	if err := target.Press(ctx, PowerOff); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if err := target.Alive(); err != nil {
		t.Error(err)
	}
}
