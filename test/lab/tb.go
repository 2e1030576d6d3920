// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"testing"

	"github.com/outband/outband/internal/testutil"
)

// Open makes a host with an engine, for the time of a test. What the machine
// lacks for it skips the test, or fails it with OUTBAND_REQUIRE=all.
func Open(t testing.TB, engine *Engine) *Host {
	t.Helper()
	testutil.RequireRoot(t)
	for _, p := range engine.Needs {
		testutil.RequireCommand(t, p.Name, p.Package)
	}
	h, err := Start(context.Background(), engine)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// Busybox is BusyboxImage for a test, Scratch is ScratchImage.
func Busybox(t testing.TB) *Image { return image(t, BusyboxImage) }

// Scratch is ScratchImage for a test.
func Scratch(t testing.TB) *Image { return image(t, ScratchImage) }

func image(t testing.TB, build func() (*Image, error)) *Image {
	t.Helper()
	testutil.RequireCommand(t, "busybox", "busybox-static")
	i, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// RequireSystems requires what Host.Boot takes beyond nspawn.
func RequireSystems(t testing.TB) {
	t.Helper()
	for _, p := range SystemNeeds() {
		testutil.RequireCommand(t, p.Name, p.Package)
	}
}
