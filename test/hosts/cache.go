// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cacheDir is where images are kept. Nothing depends on it: what is not there is
// made.
func cacheDir(getenv func(string) string) string {
	switch {
	case getenv("OUTBAND_CACHE") != "":
		return filepath.Join(getenv("OUTBAND_CACHE"), "hosts")
	case getenv("XDG_CACHE_HOME") != "":
		return filepath.Join(getenv("XDG_CACHE_HOME"), "outband", "hosts")
	}
	return "/var/cache/outband/hosts"
}

// An image is a directory of the files that a host boots from. It is whole if
// it has its final name.
type image struct {
	dir  string
	lock *os.File // shared: nobody removes the image meanwhile
}

func (i *image) file(name string) string { return filepath.Join(i.dir, name) }

func (i *image) Close() error { return i.lock.Close() }

// key tells recipes apart.
func (h host) key() string {
	sum := sha256.New()
	fmt.Fprintln(sum, h.mmdebstrap("ROOT", "RECIPE", "OUT"))
	for _, name := range recipeFiles {
		b, err := recipe.ReadFile("recipe/" + name)
		if err != nil {
			panic(err) // the names are those that are embedded
		}
		fmt.Fprintf(sum, "%s %d\n%s", name, len(b), b)
	}
	return hex.EncodeToString(sum.Sum(nil))[:12]
}

// lockTime is how long another builder of the same image may take.
const lockTime = 20 * time.Minute

// cached returns the image of a host; build makes it where there is none. An
// image is built under a temporary name, and renamed when it is whole. What an
// interrupted build has left is removed by the next.
func cached(ctx context.Context, cache string, h host, build func(ctx context.Context, dir string) error) (*image, error) {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, fmt.Errorf("cache of images: %w", err)
	}
	name := h.name + "-" + h.key()
	final, half := filepath.Join(cache, name), filepath.Join(cache, name+".half")
	lock, err := os.OpenFile(final+".lock", os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cache of images: %w", err)
	}
	img := &image{final, lock}
	if err := whole(ctx, lock, final, half, build); err != nil {
		lock.Close()
		return nil, fmt.Errorf("image of %s: %w", h.name, err)
	}
	forget(cache, h.name, name)
	return img, nil
}

// whole makes the image at final be there, and returns with a shared lock.
func whole(ctx context.Context, lock *os.File, final, half string, build func(ctx context.Context, dir string) error) error {
	if err := flock(ctx, lock, unix.LOCK_SH); err != nil {
		return err
	}
	if exists(final) {
		return nil
	}
	if err := flock(ctx, lock, unix.LOCK_EX); err != nil {
		return err
	}
	if !exists(final) { // nobody made it while we waited
		if err := errors.Join(os.RemoveAll(half), os.Mkdir(half, 0o755)); err != nil {
			return err
		}
		if err := build(ctx, half); err != nil {
			return errors.Join(err, os.RemoveAll(half))
		}
		if err := os.Rename(half, final); err != nil {
			return err
		}
	}
	return flock(ctx, lock, unix.LOCK_SH)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// flock waits for a lock as long as another builder may take.
func flock(ctx context.Context, f *os.File, how int) error {
	for until := time.Now().Add(lockTime); ; {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		if time.Now().After(until) {
			return fmt.Errorf("another build holds %s", f.Name())
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// forget removes images of the same host by other recipes that nobody uses.
func forget(cache, host, keep string) {
	locks, err := filepath.Glob(filepath.Join(cache, host+"-*.lock"))
	if err != nil {
		return
	}
	for _, path := range locks {
		name := strings.TrimSuffix(path, ".lock")
		if filepath.Base(name) == keep {
			continue
		}
		lock, err := os.OpenFile(path, os.O_RDWR|unix.O_CLOEXEC, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			_ = os.RemoveAll(name)
			_ = os.RemoveAll(name + ".half")
		}
		lock.Close() // the lock's file stays: somebody may be about to take it
	}
}
