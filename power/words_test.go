// SPDX-License-Identifier: Apache-2.0

package power

import (
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband"
	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
)

// hold starts a container with a user namespace of its own and takes hold of it.
func hold(t *testing.T, spec throwaway.Spec) (*outband.Target, *throwaway.Container) {
	t.Helper()
	spec.User = true
	c := testutil.Throwaway(t, spec)
	target, err := outband.OpenPidfd(t.Context(), int(c.Pidfd().Fd()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { target.Close() })
	return target, c
}

func names(words []Word) (all []string) {
	for _, w := range words {
		all = append(all, w.How)
	}
	return all
}

// TestWordsUnknown asks an init of no known kind: with SIGTERM where it has a
// handler, else not at all.
func TestWordsUnknown(t *testing.T) {
	testutil.NoLeaks(t)
	target, c := hold(t, throwaway.Spec{})
	init, err := Identify(t.Context(), target)
	if err != nil || init.Kind != Unknown || filepath.Base(init.Exe) == "" || init.Evidence == "" {
		t.Fatalf("Identify: %+v, %v", init, err)
	}
	for _, a := range []Action{Off, Reboot, Halt} {
		ask, harder := init.Words(a)
		if got := names(ask); len(got) != 1 || got[0] != "SIGTERM" || len(harder) > 0 {
			t.Errorf("%s: asks %q, harder %q", a, got, names(harder))
		}
	}
	init.caught = 0
	for _, a := range []Action{Off, Reboot, Halt, Kill, Pause, Resume, On} {
		if ask, harder := init.Words(a); len(ask)+len(harder) > 0 {
			t.Errorf("%s without a handler: asks %q, harder %q", a, names(ask), names(harder))
		}
	}
	if !(Init{caught: 1 << (unix.SIGTERM - 1)}).catches(unix.SIGTERM) || init.catches(unix.SIGTERM) {
		t.Error("catches: the wrong bit")
	}
	ask, _ := Init{caught: ^uint64(0)}.Words(Off)
	if err := ask[0].speak(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	state, err := c.Wait(t.Context())
	if err != nil || state.ExitCode() != 0 {
		t.Errorf("after SIGTERM: %v, %v", state, err)
	}
}
