// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/engine"
	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
)

// TestContainer: a target is the container that it is, however it was found, and
// no other that has its number (A19).
func TestContainer(t *testing.T) {
	testutil.NoLeaks(t)
	c := testutil.Throwaway(t, throwaway.Spec{})
	dir := t.TempDir()
	bare := fmt.Sprintf("bare pid:%d", c.Pid())
	check := func(name, want string, change func(*Target)) {
		t.Helper()
		target, err := OpenIn(t.Context(), name, dir)
		if err != nil {
			t.Fatal(err)
		}
		defer target.Close()
		change(target)
		got, _ := target.Container(t.Context()) // engines of the machine's may be broken
		if got.Engine+" "+got.Name != want || got.Init.PID != c.Pid() || !slices.Equal(got.Init.PIDs, target.PIDs()) ||
			got.Init.Start != target.Started() || got.State != engine.Running || got.ID != fmt.Sprint(got.Init.PIDNS) && got.Engine == engine.Bare {
			t.Errorf("%s: %+v, want %s", name, got, want)
		}
		facts, err := target.Inspect()
		if err != nil || facts.Engine+" "+facts.Name != want {
			t.Errorf("%s: %+v, %v", name, facts, err)
		}
	}
	asIs := func(*Target) {}
	check(fmt.Sprint(c.Pid()), bare, asIs)
	forget, err := engine.Announce(dir, "shown", c.Pid())
	if err != nil {
		t.Fatal(err)
	}
	defer forget()
	check("shown", "demo shown", asIs)
	check(fmt.Sprint(c.Pid()), "demo shown", asIs)
	check("shown", bare, func(t *Target) { t.runDir = "" })
	check("shown", bare, func(t *Target) { t.started++ })
}

// One that shares the caller's pid namespace is a container, too.
func TestContainerInOwnPIDNamespace(t *testing.T) {
	testutil.NoLeaks(t)
	c := testutil.Throwaway(t, throwaway.Spec{Namespaces: unix.CLONE_NEWNS | unix.CLONE_NEWUTS})
	target, err := OpenPID(t.Context(), c.Pid())
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	if got, _ := target.Container(t.Context()); got.FullName() != fmt.Sprintf("pid:%d", c.Pid()) || got.Engine != engine.Bare {
		t.Errorf("%+v", got)
	}
}

// broken is an engine that cannot be asked.
type broken struct{}

var errUnasked = errors.New("broken")

func (broken) Name() string { return "broken" }

func (broken) List(context.Context, *engine.Host) ([]engine.Container, error) { return nil, errUnasked }

// That an engine may have a name for a target that has none is told.
func TestInspectDoubt(t *testing.T) {
	testutil.NoLeaks(t)
	c := testutil.Throwaway(t, throwaway.Spec{})
	target, err := OpenIn(t.Context(), fmt.Sprint(c.Pid()), t.TempDir(), broken{})
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	facts, err := target.Inspect()
	if err != nil || facts.Engine != engine.Bare || !errors.Is(facts.Doubt, errUnasked) {
		t.Errorf("%+v, %v", facts, err)
	}
	forget, err := engine.Announce(target.runDir, "shown", c.Pid())
	if err != nil {
		t.Fatal(err)
	}
	defer forget()
	if facts, err := target.Inspect(); err != nil || facts.Engine != "demo" || facts.Doubt != nil {
		t.Errorf("%+v, %v", facts, err)
	}
}
