// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cache keeps what takes long to build, by what it is built from. Nothing
// depends on it: what is missing, half or damaged is built again.
type cache struct{ dir string }

// openCache returns the user's cache, or the machine's where none is named.
func openCache() (*cache, error) {
	dir := "/var/cache/outband-lab"
	if home := os.Getenv("XDG_CACHE_HOME"); filepath.IsAbs(home) {
		dir = filepath.Join(home, "outband-lab")
	}
	return &cache{dir}, os.MkdirAll(dir, 0o755)
}

// lockTime bounds the wait for another process that builds.
const lockTime = 10 * time.Minute

// get returns the file for a recipe, which build makes if it is not there. The
// file has its name only once it is whole, and its sum beside it.
func (c *cache) get(ctx context.Context, recipe string, build func(path string) error) (string, error) {
	path := filepath.Join(c.dir, fmt.Sprintf("%.16x.tar", sha256.Sum256([]byte(recipe))))
	unlock, err := c.lock(ctx)
	if err != nil {
		return "", err
	}
	defer unlock()
	if whole(path) {
		return path, nil
	}
	partial := path + ".partial" // of a build that was interrupted, perhaps
	if err := os.RemoveAll(partial); err != nil {
		return "", err
	}
	defer os.RemoveAll(partial)
	if err := build(partial); err != nil {
		return "", err
	}
	sum, err := sumOf(partial)
	if err != nil {
		return "", err
	}
	return path, errors.Join(os.WriteFile(path+".sum", []byte(sum), 0o644), os.Rename(partial, path))
}

// lock keeps other processes from building the same.
func (c *cache) lock(ctx context.Context) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(c.dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, lockTime)
	defer cancel()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("another process builds in %s: %w", c.dir, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// whole tells whether a file is what it was when it was made.
func whole(path string) bool {
	want, err := os.ReadFile(path + ".sum")
	if err != nil {
		return false
	}
	got, err := sumOf(path)
	return err == nil && got == strings.TrimSpace(string(want))
}

func sumOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", sum.Sum(nil)), nil
}
