// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestCache builds what is missing, half or damaged, and nothing else.
func TestCache(t *testing.T) {
	c := &cache{t.TempDir()}
	builds := 0
	get := func(recipe string) string {
		t.Helper()
		path, err := c.get(t.Context(), recipe, func(path string) error {
			builds++
			return os.WriteFile(path, []byte("built of "+recipe), 0o644)
		})
		if err != nil {
			t.Fatal(err)
		}
		if data, err := os.ReadFile(path); err != nil || string(data) != "built of "+recipe {
			t.Errorf("%q, %v", data, err)
		}
		return path
	}
	path := get("a")
	for _, step := range []struct {
		name   string
		do     func() error
		recipe string
		builds int
	}{
		{"again", func() error { return nil }, "a", 1},
		{"another recipe", func() error { return nil }, "b", 2},
		{"damaged", func() error { return os.WriteFile(path, []byte("half"), 0o644) }, "a", 3},
		{"no sum", func() error { return os.Remove(path + ".sum") }, "a", 4},
		{"removed", func() error { return os.Remove(path) }, "a", 5},
		{"an interrupted build", func() error { return os.WriteFile(path+".partial", []byte("half"), 0o600) }, "a", 5},
		{"an interrupted first build", func() error {
			return errors.Join(os.Remove(path), os.WriteFile(path+".partial", []byte("half"), 0o600))
		}, "a", 6},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		if get(step.recipe); builds != step.builds {
			t.Errorf("%s: %d builds, want %d", step.name, builds, step.builds)
		}
	}
}

func TestCacheFails(t *testing.T) {
	c := &cache{t.TempDir()}
	broken := errors.New("the mirror does not answer")
	_, err := c.get(t.Context(), "a", func(path string) error {
		return errors.Join(os.WriteFile(path, nil, 0o644), broken)
	})
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(c.dir, "*.tar*")); left != nil {
		t.Errorf("left behind: %q", left)
	}
	unlock, err := c.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.get(ctx, "a", nil); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), c.dir) {
		t.Errorf("while another builds: %v", err)
	}
}

// TestBuildFails: a build that fails says why and leaves nothing, one that hangs
// is ended.
func TestBuildFails(t *testing.T) {
	bare(t)
	out := filepath.Join(t.TempDir(), "out")
	if err := build(t.Context(), "mount -t tmpfs none \"$1\"; echo it broke >&2; exit 1", out); err == nil || !strings.Contains(err.Error(), "it broke") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := build(ctx, "sleep 1000 & sleep 1000", out); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a build that hangs: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "outband-lab-*")); left != nil {
		t.Errorf("left behind: %q", left)
	}
}
