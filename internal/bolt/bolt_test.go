// SPDX-License-Identifier: Apache-2.0

package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/outband/outband/internal/testutil"
)

// many is the database that bbolt 1.4 made of 300 buckets in one: pages of branches,
// values that run over into other pages.
func many(t testing.TB) []byte {
	t.Helper()
	return testutil.Gunzip(t, "testdata/many.db.gz")
}

func open(t *testing.T, b []byte) *DB {
	t.Helper()
	db, err := Open(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func TestFind(t *testing.T) {
	db := open(t, many(t))
	for i := range 300 {
		n, ok, err := db.Find("ctr", fmt.Sprintf("%064x", i*7919))
		if err != nil || !ok {
			t.Fatalf("%d: %v, %v", i, ok, err)
		}
		values, err := db.Values(n)
		want := fmt.Sprintf(`"restart_retries":%d,`, i+1)
		if err != nil || len(values) != 2 || !bytes.Contains(values["config"], []byte(want)) || i == 293 && len(values["config"]) < 58600 {
			t.Errorf("%d: %d bytes, %v", i, len(values["config"]), err)
		}
	}
	for _, path := range [][]string{{"nothing"}, {"ctr", "nothing"}, {"ctr", fmt.Sprintf("%064x", 0), "nothing"}} {
		if _, ok, err := db.Find(path...); ok || err != nil {
			t.Errorf("%q: %v, %v", path, ok, err)
		}
	}
	if _, ok, err := db.Find("ctr", fmt.Sprintf("%064x", 0), "config"); ok || !errors.Is(err, ErrFormat) {
		t.Errorf("a value is a bucket: %v, %v", ok, err)
	}
	if !db.Unchanged() {
		t.Error("it has changed")
	}
}

// txOf returns the number of the transaction that a page begins with.
func txOf(db []byte, page int) uint64 { return binary.LittleEndian.Uint64(db[page+16+48:]) }

// The newer beginning counts, unless it is torn; without a whole one there is no
// database.
func TestMeta(t *testing.T) {
	db := many(t)
	newer, older := 0, 4096
	if txOf(db, 0) < txOf(db, 4096) {
		newer, older = older, newer
	}
	last := func() uint64 {
		d, err := Open(bytes.NewReader(db))
		if err != nil {
			return 0
		}
		return d.last
	}
	if got := last(); got != txOf(db, newer) {
		t.Errorf("%d, want %d", got, txOf(db, newer))
	}
	opened := open(t, db)
	db[newer+16+20] ^= 1
	if got := last(); got != txOf(db, older) {
		t.Errorf("%d, want %d", got, txOf(db, older))
	}
	if opened.Unchanged() {
		t.Error("it has not changed")
	}
	db[older+16+20] ^= 1
	if got := last(); got != 0 {
		t.Errorf("%d of none", got)
	}
}

// counting counts reads.
type counting struct {
	io.ReaderAt
	n int
}

func (c *counting) ReadAt(b []byte, at int64) (int, error) {
	c.n++
	return c.ReaderAt.ReadAt(b, at)
}

// A tree that leads back to itself is left before long.
func TestLoop(t *testing.T) {
	b := many(t)
	for id := 2; id < len(b)/4096; id++ {
		if page := b[id*4096:]; page[8] == branchPage {
			binary.LittleEndian.PutUint64(page[headerSize+8:], uint64(id)) // its first child is itself
		}
	}
	file := &counting{bytes.NewReader(b), 0}
	db, err := Open(file)
	if err == nil {
		_, _, err = db.Find("ctr", "nothing")
	}
	if !errors.Is(err, ErrFormat) || file.n > 1000 {
		t.Errorf("%v after %d reads", err, file.n)
	}
}

// What is outside of its page is not read, and no more than there can be.
func FuzzOpen(f *testing.F) {
	whole := many(f)
	f.Add(whole[:4*4096])
	f.Fuzz(func(_ *testing.T, b []byte) {
		db, err := Open(bytes.NewReader(b))
		if err != nil {
			return
		}
		_, _, _ = db.Find("ctr", "a")
	})
}
