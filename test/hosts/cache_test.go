// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/testutil"
)

// tiny is a host that takes no time to build.
var tiny = host{name: "tiny"}

// put is a build of one file.
func put(_ context.Context, dir string) error {
	return os.WriteFile(filepath.Join(dir, "disk"), []byte("whole"), 0o644)
}

func TestCacheDir(t *testing.T) {
	for _, test := range []struct {
		env  map[string]string
		want string
	}{
		{map[string]string{"OUTBAND_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, "/a/hosts"},
		{map[string]string{"XDG_CACHE_HOME": "/b"}, "/b/outband/hosts"},
		{nil, "/var/cache/outband/hosts"},
	} {
		if got := cacheDir(func(name string) string { return test.env[name] }); got != test.want {
			t.Errorf("%v: %s, want %s", test.env, got, test.want)
		}
	}
}

// TestHalfAnImage leaves what an interrupted build leaves: it is not taken for an
// image, and does not get into one.
func TestHalfAnImage(t *testing.T) {
	testutil.NoLeaks(t)
	cache := t.TempDir()
	half := filepath.Join(cache, tiny.name+"-"+tiny.key()+".half")
	if err := errors.Join(os.MkdirAll(filepath.Join(half, "root"), 0o755),
		os.WriteFile(filepath.Join(half, "kernel"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	builds := 0
	for range 2 {
		img, err := cached(t.Context(), cache, tiny, func(ctx context.Context, dir string) error { builds++; return put(ctx, dir) })
		if err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(img.file("disk")); string(b) != "whole" || exists(img.file("kernel")) || exists(half) {
			t.Errorf("%q, %v; there are remains", b, err)
		}
		img.Close()
	}
	if builds != 1 {
		t.Errorf("it was built %d times", builds)
	}
}

// TestBuildFails makes an image that cannot be made: the next one who asks tries
// again.
func TestBuildFails(t *testing.T) {
	testutil.NoLeaks(t)
	cache, broken := t.TempDir(), errors.New("no network")
	for range 2 {
		img, err := cached(t.Context(), cache, tiny, func(_ context.Context, dir string) error {
			return errors.Join(put(t.Context(), dir), broken)
		})
		if !errors.Is(err, broken) || !strings.Contains(err.Error(), "image of tiny") {
			t.Errorf("%v, %v", img, err)
		}
	}
	left, _ := filepath.Glob(filepath.Join(cache, "*"))
	if len(left) != 1 || !strings.HasSuffix(left[0], ".lock") {
		t.Errorf("left: %q", left)
	}
}

// TestTwoBuilders lets several want the same image: one of them makes it.
func TestTwoBuilders(t *testing.T) {
	testutil.NoLeaks(t)
	cache := t.TempDir()
	var builds, inside atomic.Int32
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			img, err := cached(t.Context(), cache, tiny, func(ctx context.Context, dir string) error {
				if builds.Add(1); inside.Add(1) > 1 {
					t.Error("two build at once")
				}
				defer inside.Add(-1)
				return put(ctx, dir)
			})
			if err != nil {
				t.Error(err)
				return
			}
			img.Close()
		})
	}
	all.Wait()
	if n := builds.Load(); n != 1 {
		t.Errorf("it was built %d times", n)
	}
}

// TestWaitingForABuilder ends with the context.
func TestWaitingForABuilder(t *testing.T) {
	testutil.NoLeaks(t)
	cache := t.TempDir()
	lock, err := os.Create(filepath.Join(cache, tiny.name+"-"+tiny.key()+".lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if img, err := cached(ctx, cache, tiny, put); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v", img, err)
	}
}

// TestForget removes images of old recipes, but for one that is in use and those
// of other hosts.
func TestForget(t *testing.T) {
	testutil.NoLeaks(t)
	cache := t.TempDir()
	for _, name := range []string{"tiny-old", "tiny-used", "other-old"} {
		if err := errors.Join(os.Mkdir(filepath.Join(cache, name), 0o755), os.WriteFile(filepath.Join(cache, name+".lock"), nil, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	used, err := os.Open(filepath.Join(cache, "tiny-used.lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer used.Close()
	if err := unix.Flock(int(used.Fd()), unix.LOCK_SH); err != nil {
		t.Fatal(err)
	}
	img, err := cached(t.Context(), cache, tiny, put)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	for name, want := range map[string]bool{"tiny-old": false, "tiny-used": true, "other-old": true, filepath.Base(img.dir): true} {
		if exists(filepath.Join(cache, name)) != want {
			t.Errorf("%s: there is %v", name, !want)
		}
	}
}

// TestKey is another for each recipe.
func TestKey(t *testing.T) {
	other := tiny
	other.packages = []string{"podman"}
	if tiny.key() == other.key() || tiny.key() != tiny.key() || len(tiny.key()) != 12 {
		t.Errorf("%s, %s", tiny.key(), other.key())
	}
}
