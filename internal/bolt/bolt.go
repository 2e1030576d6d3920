// SPDX-License-Identifier: Apache-2.0

// Package bolt reads databases of bbolt, in which engines keep their state. It takes
// no lock: who writes is not kept waiting, see Unchanged. It is not for files that
// anybody may write to, and yet a damaged one is an error and nothing worse.
//
// https://github.com/etcd-io/bbolt/blob/main/internal/common has the format.
package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// ErrFormat is a file that is not as bbolt writes it.
var ErrFormat = errors.New("unexpected format")

// A File is what a database is read from. It knows its size, bytes.
type File interface {
	io.ReaderAt
	Size() int64
}

// OSFile is a File of the system's.
type OSFile struct{ *os.File }

// Size returns the size that it has now, 0 where that is not known.
func (f OSFile) Size() int64 {
	info, err := f.Stat()
	if err != nil {
		return 0
	}
	return info.Size()
}

// DB is a database. It is not safe for use by several goroutines.
type DB struct {
	file File
	page int64  // bytes
	root uint64 // page of the outermost bucket
	last uint64 // number of the last transaction
	left int64  // bytes that may still be read: a damaged file has loops
}

// What is read of a database at most: bytes, how often its own size, bytes of one
// value, levels of a tree.
const maxRead, maxTimes, maxValue, maxDepth = 256 << 20, 8, 16 << 20, 20

// Sizes and flags of the format.
const (
	magic, version                    = 0xED0CDAED, 2
	headerSize, elementSize, metaSize = 16, 16, 64 // bytes
	branchPage, leafPage              = 1, 2       // kinds of pages
	bucketFlag                        = 1          // kind of an element of a leaf

	maxPage = 1 << 16 // bytes
)

// Open finds the newest of the two beginnings that is whole.
func Open(file File) (*DB, error) {
	db := &DB{file: file, left: min(maxRead, maxTimes*file.Size())}
	first := make([]byte, headerSize+metaSize)
	if _, err := file.ReadAt(first, 0); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	// The first tells the size of a page, also where it is not whole.
	db.page = int64(binary.LittleEndian.Uint32(first[headerSize+8:]))
	if db.page < 512 || db.page > maxPage {
		return nil, fmt.Errorf("%w: pages of %d bytes", ErrFormat, db.page)
	}
	for at := range int64(2) {
		if _, err := file.ReadAt(first, at*db.page); err != nil {
			continue
		}
		root, tx, ok := parseMeta(first[headerSize:])
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
	return u64(meta[16:]), u64(meta[48:]), u32(meta) == magic && u32(meta[4:]) == version && u64(meta[56:]) == sum.Sum64()
}

// Unchanged tells whether no transaction has ended since it was opened.
func (db *DB) Unchanged() bool {
	now, err := Open(db.file)
	return err == nil && now.last == db.last
}

// read returns a page with those that it runs over into.
func (db *DB) read(id uint64) ([]byte, error) {
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
func (db *DB) run(id uint64, pages int64) ([]byte, error) {
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

// Pair is an element of a page: of a leaf with its value, of a branch with the
// page that begins with its key.
type Pair struct {
	Key, Value []byte
	page       uint64
	bucket     bool
}

// pairs returns the elements of a page.
func pairs(page []byte) (all []Pair, leaf bool, err error) {
	kind, count := binary.LittleEndian.Uint16(page[8:]), int(binary.LittleEndian.Uint16(page[10:]))
	if kind != branchPage && kind != leafPage || headerSize+count*elementSize > len(page) {
		return nil, false, fmt.Errorf("%w: a page of kind %d", ErrFormat, kind)
	}
	used := headerSize + count*elementSize
	u32 := func(at int) int { return int(binary.LittleEndian.Uint32(page[at:])) }
	for i := range count {
		at := headerSize + i*elementSize
		var p Pair
		var pos, keys, values int
		if kind == leafPage {
			p.bucket, pos, keys, values = u32(at)&bucketFlag != 0, u32(at+4), u32(at+8), u32(at+12)
		} else {
			pos, keys, p.page = u32(at), u32(at+4), binary.LittleEndian.Uint64(page[at+8:])
		}
		if at+pos+keys+values > len(page) {
			return nil, false, fmt.Errorf("%w: an element is outside of its page", ErrFormat)
		}
		// Elements that overlap, buckets in them again, would make of one page as much
		// as there is memory.
		if used += keys + values; used > len(page) {
			return nil, false, fmt.Errorf("%w: a page has more than fits", ErrFormat)
		}
		p.Key, p.Value = page[at+pos:][:keys], page[at+pos+keys:][:values]
		all = append(all, p)
	}
	return all, kind == leafPage, nil
}

// Bucket is a bucket: a page of the file, or one that lies in a value.
type Bucket struct {
	page   uint64
	inline []byte
}

// Walk calls each for all that a bucket has, in the order of the keys.
func (db *DB) Walk(n Bucket, each func(Pair) error) error { return db.descend(n, 0, each) }

func (db *DB) descend(n Bucket, depth int, each func(Pair) error) error {
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
			err = db.descend(Bucket{page: p.page}, depth+1, each)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// IsBucket tells whether an element is a bucket.
func (p Pair) IsBucket() bool { return p.bucket }

// Bucket returns the bucket that an element is.
func (p Pair) Bucket() (Bucket, error) {
	if !p.bucket || len(p.Value) < headerSize {
		return Bucket{}, fmt.Errorf("%w: no bucket", ErrFormat)
	}
	n := Bucket{page: binary.LittleEndian.Uint64(p.Value)}
	if n.page == 0 { // small ones lie in the value
		n.inline = p.Value[headerSize:]
		if len(n.inline) < headerSize {
			return Bucket{}, fmt.Errorf("%w: a bucket of %d bytes", ErrFormat, len(p.Value))
		}
	}
	return n, nil
}

// Find returns the bucket at a path of keys; false if there is none.
func (db *DB) Find(path ...string) (n Bucket, ok bool, err error) {
	return db.FindIn(Bucket{page: db.root}, path...)
}

// FindIn is Find below a bucket.
func (db *DB) FindIn(n Bucket, path ...string) (_ Bucket, ok bool, err error) {
	ok = true
	for _, key := range path {
		in := n
		n, ok = Bucket{}, false
		err := db.Walk(in, func(p Pair) (err error) {
			if string(p.Key) == key {
				n, err = p.Bucket()
				ok = err == nil
			}
			return err
		})
		if err != nil || !ok {
			return Bucket{}, false, err
		}
	}
	return n, ok, nil
}

// Values returns what a bucket has that is not a bucket itself.
func (db *DB) Values(n Bucket) (map[string][]byte, error) {
	values := map[string][]byte{}
	return values, db.Walk(n, func(p Pair) error {
		if !p.bucket {
			values[string(p.Key)] = p.Value
		}
		return nil
	})
}
