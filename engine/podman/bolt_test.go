// SPDX-License-Identifier: Apache-2.0

package podman

import (
	"bytes"
	"encoding/binary"
	"hash/fnv"
	"testing"
)

// metaOf returns the number of the transaction that a page begins with.
func metaOf(db []byte, page int) uint64 { return binary.LittleEndian.Uint64(db[page+16+48:]) }

// setMeta gives a beginning another one.
func setMeta(meta []byte, tx uint64) {
	binary.LittleEndian.PutUint64(meta[48:], tx)
	sum := fnv.New64a()
	sum.Write(meta[:56])
	binary.LittleEndian.PutUint64(meta[56:], sum.Sum64())
}

// The newer beginning counts, unless it is torn; without a whole one there is no
// database.
func TestMeta(t *testing.T) {
	db := unzipped(t, "many.db")
	newer, older := 0, 4096
	if metaOf(db, 0) < metaOf(db, 4096) {
		newer, older = older, newer
	}
	last := func() uint64 {
		b, err := openBolt(bytes.NewReader(db))
		if err != nil {
			t.Log(err)
			return 0
		}
		return b.last
	}
	if got := last(); got != metaOf(db, newer) {
		t.Errorf("%d, want %d", got, metaOf(db, newer))
	}
	db[newer+16+20] ^= 1
	if got := last(); got != metaOf(db, older) {
		t.Errorf("%d, want %d", got, metaOf(db, older))
	}
	db[older+16+20] ^= 1
	if got := last(); got != 0 {
		t.Errorf("%d of none", got)
	}
}
