// SPDX-License-Identifier: Apache-2.0

package testutil

import (
	"compress/gzip"
	"io"
	"os"
	"testing"
)

// Gunzip returns what is in a compressed file of a test's data.
func Gunzip(t testing.TB, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
