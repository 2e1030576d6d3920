// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/outband/outband/internal/testutil"
)

// Change replaces text of a source file, given by its path from the root of
// the module. A file that does not exist is made where Old is empty.
type Change struct{ File, Old, New string }

// Off replaces a defence by nothing.
func Off(file, defence string) Change { return Change{File: file, Old: defence} }

// buildTime bounds a build, which the machine may be slow at.
const buildTime = 4 * time.Minute

// Build builds the program with changes, or finds it built, and returns it
// with a run directory of its own.
func Build(t testing.TB, changes ...Change) *Tool {
	t.Helper()
	path, run := buildPackage(t, "./cmd/outband", changes), filepath.Join(t.TempDir(), "run")
	return &Tool{t: t, Path: path, RunDir: run}
}

// Drive is Build for the program that calls the library, and returns its path.
func Drive(t testing.TB, changes ...Change) string {
	t.Helper()
	return buildPackage(t, "./test/cve/rig/drive", changes)
}

func buildPackage(t testing.TB, pkg string, changes []Change) string {
	t.Helper()
	path, err := build(testutil.RequireCommand(t, "go", "golang"), pkg, changes)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// build returns the path of a package's program. Builds are kept by what they
// are made of, for all tests of a run, nested ones included.
func build(gobin, pkg string, changes []Change) (string, error) {
	key := sha256.Sum256([]byte(fmt.Sprintf("%s %q", pkg, changes)))
	dir := filepath.Join(os.Getenv(dirVariable), fmt.Sprintf("%x", key[:8]))
	path := filepath.Join(dir, filepath.Base(pkg))
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	overlay, err := writeOverlay(root, dir, changes)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), buildTime)
	defer cancel()
	fresh := path + ".new"
	cmd := exec.CommandContext(ctx, gobin, "build", "-trimpath", "-ldflags=-s -w", "-overlay="+overlay, "-o", fresh, pkg)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // the last of two counts
	if said, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build with %q: %w\n%s", changes, err, said)
	}
	return path, os.Rename(fresh, path)
}

// moduleRoot is the directory of go.mod, above that of the test.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	for ; err == nil && dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
	}
	return "", errors.Join(err, errors.New("there is no go.mod above the working directory"))
}

// writeOverlay writes changed copies of files into dir, and the list of them
// that go build reads.
func writeOverlay(root, dir string, changes []Change) (path string, err error) {
	texts := map[string]string{}
	for _, c := range changes {
		text, known := texts[c.File]
		if !known {
			if text, err = original(filepath.Join(root, c.File)); err != nil {
				return "", err
			}
		}
		if texts[c.File], err = c.apply(text); err != nil {
			return "", err
		}
	}
	replace := map[string]string{}
	for file, text := range texts {
		changed := filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
		if err := os.WriteFile(changed, []byte(text), 0o644); err != nil {
			return "", err
		}
		replace[filepath.Join(root, file)] = changed
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, list, 0o644)
}

// original reads a source file; one that is to be made is empty.
func original(file string) (string, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	return string(text), err
}

// apply makes one change, of text that must be there exactly once.
func (c Change) apply(text string) (string, error) {
	if c.Old == "" && text == "" {
		return c.New, nil
	}
	if n := strings.Count(text, c.Old); n != 1 || c.Old == "" {
		return "", fmt.Errorf("%s: the text to be replaced is there %d times, not once: %q", c.File, n, c.Old)
	}
	return strings.Replace(text, c.Old, c.New, 1), nil
}
