// SPDX-License-Identifier: Apache-2.0

package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
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
	whole := many(t)
	db := open(t, whole)
	for i := range 300 {
		db = open(t, whole) // of one so much is not read
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
	*bytes.Reader
	n int
}

func (c *counting) ReadAt(b []byte, at int64) (int, error) {
	c.n++
	return c.Reader.ReadAt(b, at)
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

// A page whose elements lie over each other has more than fits: in buckets that are
// in a page, and in those again, it would be without end.
func TestOverlap(t *testing.T) {
	page := func(elements, each int) []byte {
		b := make([]byte, headerSize+elements*elementSize+1000)
		b[8] = leafPage
		binary.LittleEndian.PutUint16(b[10:], uint16(elements))
		for i := range elements {
			at := headerSize + i*elementSize
			binary.LittleEndian.PutUint32(b[at:], bucketFlag)
			binary.LittleEndian.PutUint32(b[at+4:], uint32(len(b)-1000-at))
			binary.LittleEndian.PutUint32(b[at+12:], uint32(each))
		}
		return b
	}
	for each, want := range map[int]error{20: nil, 21: ErrFormat, 1000: ErrFormat} {
		n := 0
		err := (&DB{}).Walk(Bucket{inline: page(50, each)}, func(Pair) error { n++; return nil })
		if !errors.Is(err, want) || want != nil && n != 0 {
			t.Errorf("%d bytes each: %d elements, %v", each, n, err)
		}
	}
}

// A small file in which pages lead to the same ones again is not read over and over.
func TestOften(t *testing.T) {
	b := many(t)
	file := &counting{bytes.NewReader(b), 0}
	db, err := Open(file)
	for err == nil && file.n < len(b) {
		_, _, err = db.Find("ctr")
	}
	if most := maxTimes * len(b) / 4096; !errors.Is(err, ErrFormat) || file.n > most+3 { // and the beginnings
		t.Errorf("%v after %d reads, want no more than %d", err, file.n, most)
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
