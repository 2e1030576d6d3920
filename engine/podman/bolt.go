// SPDX-License-Identifier: Apache-2.0

package podman

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
)

// bolt reads a database of bbolt's, in which Podman before 5 keeps its state, and
// takes no lock: who writes is not kept waiting, see unchanged.
//
// https://github.com/etcd-io/bbolt/blob/main/internal/common has the format.
type bolt struct {
	file io.ReaderAt
	page int64  // bytes
	root uint64 // page of the outermost bucket
	last uint64 // number of the last transaction
	left int64  // bytes that may still be read: a damaged file has loops
}

// What is read of a database at most: bytes, bytes of one value, levels of a tree.
const maxRead, maxValue, maxDepth = 256 << 20, 16 << 20, 20

// Sizes and flags of the format.
const (
	boltMagic, boltVersion            = 0xED0CDAED, 2
	boltHeader, boltElement, boltMeta = 16, 16, 64 // bytes
	boltBranch, boltLeaf              = 1, 2       // kinds of pages
	boltBucket                        = 1          // kind of an element of a leaf

	maxPage = 1 << 16 // bytes
)

// openBolt finds the newest of the two beginnings that is whole.
func openBolt(file io.ReaderAt) (*bolt, error) {
	db := &bolt{file: file, left: maxRead}
	first := make([]byte, boltHeader+boltMeta)
	if _, err := file.ReadAt(first, 0); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	// The first tells the size of a page, also where it is not whole.
	db.page = int64(binary.LittleEndian.Uint32(first[boltHeader+8:]))
	if db.page < 512 || db.page > maxPage {
		return nil, fmt.Errorf("%w: pages of %d bytes", ErrFormat, db.page)
	}
	for at := range int64(2) {
		if _, err := file.ReadAt(first, at*db.page); err != nil {
			continue
		}
		root, tx, ok := parseMeta(first[boltHeader:])
		if ok && (db.root == 0 || tx > db.last) {
			db.root, db.last = root, tx
		}
	}
	if db.root == 0 {
		return nil, fmt.Errorf("%w: no database of bbolt's", ErrFormat)
	}
	return db, nil
}

// parseMeta parses a beginning: on which page the outermost bucket is, and the
// number of the transaction that wrote it.
func parseMeta(meta []byte) (root, tx uint64, ok bool) {
	u32, u64 := binary.LittleEndian.Uint32, binary.LittleEndian.Uint64
	sum := fnv.New64a()
	sum.Write(meta[:56])
	return u64(meta[16:]), u64(meta[48:]), u32(meta) == boltMagic && u32(meta[4:]) == boltVersion && u64(meta[56:]) == sum.Sum64()
}

// unchanged tells whether no transaction has ended since it was opened.
func (db *bolt) unchanged() bool {
	now, err := openBolt(db.file)
	return err == nil && now.last == db.last
}

// read returns a page with those that it runs over into.
func (db *bolt) read(id uint64) ([]byte, error) {
	page, err := db.run(id, 1)
	if err != nil {
		return nil, err
	}
	if binary.LittleEndian.Uint64(page) != id {
		return nil, fmt.Errorf("%w: page %d is another", ErrFormat, id)
	}
	if more := int64(binary.LittleEndian.Uint32(page[12:])); more > 0 {
		return db.run(id, more+1)
	}
	return page, nil
}

// run reads pages that follow each other.
func (db *bolt) run(id uint64, pages int64) ([]byte, error) {
	size := pages * db.page
	if db.left -= size; db.left < 0 || size > maxValue || id < 2 || id > 1<<40 {
		return nil, fmt.Errorf("%w: %d pages from %d", ErrFormat, pages, id)
	}
	b := make([]byte, size)
	if _, err := db.file.ReadAt(b, int64(id)*db.page); err != nil {
		return nil, fmt.Errorf("%w: page %d: %w", ErrFormat, id, err)
	}
	return b, nil
}

// boltPair is an element of a page: of a leaf with its value, of a branch with the
// page that begins with its key.
type boltPair struct {
	key, value []byte
	page       uint64
	bucket     bool
}

// pairs returns the elements of a page.
func pairs(page []byte) (all []boltPair, leaf bool, err error) {
	kind, count := binary.LittleEndian.Uint16(page[8:]), int(binary.LittleEndian.Uint16(page[10:]))
	if kind != boltBranch && kind != boltLeaf || boltHeader+count*boltElement > len(page) {
		return nil, false, fmt.Errorf("%w: a page of kind %d", ErrFormat, kind)
	}
	u32 := func(at int) int { return int(binary.LittleEndian.Uint32(page[at:])) }
	for i := range count {
		at := boltHeader + i*boltElement
		var p boltPair
		var pos, keys, values int
		if kind == boltLeaf {
			p.bucket, pos, keys, values = u32(at)&boltBucket != 0, u32(at+4), u32(at+8), u32(at+12)
		} else {
			pos, keys, p.page = u32(at), u32(at+4), binary.LittleEndian.Uint64(page[at+8:])
		}
		if at+pos+keys+values > len(page) {
			return nil, false, fmt.Errorf("%w: an element is outside of its page", ErrFormat)
		}
		p.key, p.value = page[at+pos:][:keys], page[at+pos+keys:][:values]
		all = append(all, p)
	}
	return all, kind == boltLeaf, nil
}

// boltNode is a bucket: a page of the file, or one that lies in a value.
type boltNode struct {
	page   uint64
	inline []byte
}

// walk calls each for all that a bucket has, in the order of the keys.
func (db *bolt) walk(n boltNode, each func(boltPair) error) error { return db.descend(n, 0, each) }

func (db *bolt) descend(n boltNode, depth int, each func(boltPair) error) error {
	page := n.inline
	switch {
	case depth > maxDepth:
		return fmt.Errorf("%w: a tree of more than %d levels", ErrFormat, maxDepth)
	case page == nil:
		var err error
		if page, err = db.read(n.page); err != nil {
			return err
		}
	}
	all, leaf, err := pairs(page)
	if err != nil {
		return err
	}
	for _, p := range all {
		if leaf {
			err = each(p)
		} else {
			err = db.descend(boltNode{page: p.page}, depth+1, each)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// inner returns the bucket that an element is.
func (p boltPair) inner() (boltNode, error) {
	if !p.bucket || len(p.value) < boltHeader {
		return boltNode{}, fmt.Errorf("%w: no bucket", ErrFormat)
	}
	n := boltNode{page: binary.LittleEndian.Uint64(p.value)}
	if n.page == 0 { // small ones lie in the value
		n.inline = p.value[boltHeader:]
		if len(n.inline) < boltHeader {
			return boltNode{}, fmt.Errorf("%w: a bucket of %d bytes", ErrFormat, len(p.value))
		}
	}
	return n, nil
}

// containers calls each for every container: in the bucket "ctr" there is a bucket
// for each id, in that "config" and "state".
func (db *bolt) containers(each func(id string, config, state []byte)) error {
	return db.walk(boltNode{page: db.root}, func(top boltPair) error {
		if string(top.key) != "ctr" {
			return nil
		}
		all, err := top.inner()
		if err != nil {
			return err
		}
		return db.walk(all, func(one boltPair) error {
			node, err := one.inner()
			if err != nil {
				return err
			}
			values := map[string][]byte{}
			err = db.walk(node, func(p boltPair) error { values[string(p.key)] = p.value; return nil })
			each(string(one.key), values["config"], values["state"])
			return err
		})
	})
}
