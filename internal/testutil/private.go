// SPDX-License-Identifier: Apache-2.0

package testutil

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// Private copies a directory of recorded files to one that only the test's user
// can write, which a checkout need not be, and returns that.
func Private(t testing.TB, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "host")
	err := os.CopyFS(to, os.DirFS(dir))
	if err == nil {
		err = filepath.WalkDir(to, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return os.Chmod(path, 0o700)
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return to
}
