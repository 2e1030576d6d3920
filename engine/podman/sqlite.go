// SPDX-License-Identifier: Apache-2.0

package podman

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/outband/outband/engine"
	"github.com/outband/outband/internal/bolt"
)

// sqlite reads tables of a database of SQLite's, in which Podman since 4.8 keeps
// its state. It takes no lock, see Unchanged.
//
// https://www.sqlite.org/fileformat2.html has the format.
type sqlite struct {
	file   bolt.File
	page   int64  // bytes
	usable int64  // of a page
	change uint32 // is counted up by each transaction
	left   int64  // bytes that may still be read and decoded: a damaged file has loops
}

const (
	sqliteMagic    = "SQLite format 3\x00"
	sqliteHeader   = 100 // bytes, at the beginning of the first page
	sqliteLeaf     = 13  // kinds of pages of tables
	sqliteInterior = 5
	maxRead        = 256 << 20 // bytes of a file
	maxTimes       = 4         // of its size: what says what tables there are is read twice, and each counts as page and as row
	maxValue       = 16 << 20  // bytes of a row
	maxDepth       = 20        // levels of a tree
)

// openSQLite reads the header.
func openSQLite(file bolt.File) (*sqlite, error) {
	head := make([]byte, sqliteHeader)
	if _, err := file.ReadAt(head, 0); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	db := &sqlite{file: file, page: int64(binary.BigEndian.Uint16(head[16:])), change: binary.BigEndian.Uint32(head[24:]), left: min(maxRead, maxTimes*file.Size())}
	if db.page == 1 {
		db.page = 1 << 16
	}
	db.usable = db.page - int64(head[20])
	switch {
	case string(head[:16]) != sqliteMagic, db.page < 512, db.usable < 480:
		return nil, fmt.Errorf("%w: no database of SQLite's", ErrFormat)
	case head[18] > 1 || head[19] > 1:
		return nil, fmt.Errorf("%w: it has a write-ahead log", ErrFormat)
	case binary.BigEndian.Uint32(head[56:]) > 1:
		return nil, fmt.Errorf("%w: its texts are not UTF-8", ErrFormat)
	}
	return db, nil
}

// Unchanged tells whether no transaction has ended since it was opened.
func (db *sqlite) Unchanged() bool {
	now := make([]byte, 4)
	_, err := db.file.ReadAt(now, 24)
	return err == nil && binary.BigEndian.Uint32(now) == db.change
}

// read returns a page and where its own header is. They are counted from 1.
func (db *sqlite) read(id uint32) (page []byte, header int, err error) {
	if db.left -= db.page; db.left < 0 || id == 0 {
		return nil, 0, fmt.Errorf("%w: page %d", ErrFormat, id)
	}
	page = make([]byte, db.page)
	if _, err := db.file.ReadAt(page, int64(id-1)*db.page); err != nil {
		return nil, 0, fmt.Errorf("%w: page %d: %w", ErrFormat, id, err)
	}
	if id == 1 {
		header = sqliteHeader
	}
	return page[:db.usable], header, nil
}

// rows calls each for every row of the table whose tree is below a page.
func (db *sqlite) rows(root uint32, depth int, each func(columns []string) error) error {
	page, at, err := db.read(root)
	if err != nil {
		return err
	}
	kind, count, cells := page[at], int(binary.BigEndian.Uint16(page[at+3:])), at+8
	if kind == sqliteInterior {
		cells = at + 12
	}
	if kind != sqliteLeaf && kind != sqliteInterior || depth > maxDepth || cells+2*count > len(page) {
		return fmt.Errorf("%w: page %d of kind %d", ErrFormat, root, kind)
	}
	for i := range count {
		cell := int(binary.BigEndian.Uint16(page[cells+2*i:]))
		if cell+4 > len(page) {
			return fmt.Errorf("%w: page %d", ErrFormat, root)
		}
		if kind == sqliteInterior {
			err = db.rows(binary.BigEndian.Uint32(page[cell:]), depth+1, each)
		} else {
			err = db.row(page[cell:], each)
		}
		if err != nil {
			return err
		}
	}
	if kind == sqliteInterior {
		return db.rows(binary.BigEndian.Uint32(page[at+8:]), depth+1, each)
	}
	return nil
}

// row decodes a cell of a leaf: the length of its payload, its number, the payload
// as far as it lies here, and the page on which it goes on.
func (db *sqlite) row(cell []byte, each func([]string) error) error {
	size, n := varint(cell)
	_, m := varint(cell[n:])
	cell = cell[n+m:]
	// Rows that overlap would make of a small file as much as there is memory.
	if db.left -= max(size, 0); n == 0 || m == 0 || size < 0 || size > maxValue || db.left < 0 {
		return fmt.Errorf("%w: a row of %d bytes", ErrFormat, size)
	}
	here := db.local(size)
	if here == size {
		if int64(len(cell)) < here {
			return fmt.Errorf("%w: a row is outside of its page", ErrFormat)
		}
		return record(cell[:here], each)
	}
	if int64(len(cell)) < here+4 {
		return fmt.Errorf("%w: a row is outside of its page", ErrFormat)
	}
	payload := slices.Clone(cell[:here])
	next := binary.BigEndian.Uint32(cell[here:])
	for int64(len(payload)) < size {
		page, _, err := db.read(next)
		if err != nil {
			return err
		}
		next = binary.BigEndian.Uint32(page)
		payload = append(payload, page[4:min(int64(len(page)), 4+size-int64(len(payload)))]...)
	}
	return record(payload, each)
}

// local is how much of a payload lies in its cell.
func (db *sqlite) local(size int64) int64 {
	most, least := db.usable-35, (db.usable-12)*32/255-23
	if size <= most {
		return size
	}
	if k := least + (size-least)%(db.usable-4); k <= most {
		return k
	}
	return least
}

// record decodes a row: a header of types, then the values. Numbers other than
// those of pages are not needed, and are left empty.
func record(payload []byte, each func([]string) error) error {
	head, n := varint(payload)
	if n == 0 || head > int64(len(payload)) || head < int64(n) {
		return fmt.Errorf("%w: a row", ErrFormat)
	}
	types, values := payload[n:head], payload[head:]
	var columns []string
	for len(types) > 0 {
		kind, n := varint(types)
		if n == 0 {
			return fmt.Errorf("%w: a row", ErrFormat)
		}
		types = types[n:]
		size := sizeOf(kind)
		if size > int64(len(values)) {
			return fmt.Errorf("%w: a row is cut off", ErrFormat)
		}
		columns = append(columns, string(values[:size]))
		values = values[size:]
	}
	return each(columns)
}

// sizeOf is how many bytes a value of a type has.
func sizeOf(kind int64) int64 {
	if kind >= 12 {
		return (kind - 12) / 2
	}
	return [12]int64{0, 1, 2, 3, 4, 6, 8, 8, 0, 0, 0, 0}[max(kind, 0)]
}

// varint decodes a number of one to nine bytes; 0 bytes if it is cut off.
func varint(b []byte) (value int64, n int) {
	for i := range min(len(b), 9) {
		if i == 8 {
			return value<<8 | int64(b[i]), 9
		}
		value = value<<7 | int64(b[i]&0x7f)
		if b[i] < 0x80 {
			return value, i + 1
		}
	}
	return 0, 0
}

// table returns the page on which a table begins, and where in a row columns are.
func (db *sqlite) table(name string, columns ...string) (root uint32, at []int, err error) {
	err = db.rows(1, 0, func(row []string) error { // type, name, table, page, statement
		if len(row) < 5 || row[0] != "table" || row[1] != name {
			return nil
		}
		for _, b := range []byte(row[3]) { // a number, the highest byte first
			root = root<<8 | uint32(b)
		}
		have := columnsOf(row[4])
		for _, c := range columns {
			at = append(at, slices.Index(have, c))
		}
		return nil
	})
	if err == nil && (root == 0 || slices.Contains(at, -1)) {
		err = fmt.Errorf("%w: no table %s with %s", ErrFormat, name, strings.Join(columns, ", "))
	}
	return root, at, err
}

// columnsOf are the names that a CREATE TABLE gives.
func columnsOf(statement string) (names []string) {
	_, inner, _ := strings.Cut(statement, "(")
	depth := 0
	word := strings.Builder{}
	for _, r := range inner + "," {
		switch {
		case r == '(':
			depth++
		case r == ')':
			depth--
		case r == ',' && depth <= 0:
			if f := strings.Fields(word.String()); len(f) > 0 {
				names = append(names, f[0])
			}
			word.Reset()
			continue
		}
		word.WriteRune(r)
	}
	return names
}

// containers calls each for every container.
func (db *sqlite) containers(ctx context.Context, each func(id string, config, state []byte)) error {
	configs := map[string]string{}
	err := db.texts(ctx, "ContainerConfig", func(id, text string) { configs[id] = text })
	if err != nil {
		return err
	}
	return db.texts(ctx, "ContainerState", func(id, text string) { each(id, []byte(configs[id]), []byte(text)) })
}

// texts calls each for the text that a table has of every container.
func (db *sqlite) texts(ctx context.Context, name string, each func(id, text string)) error {
	root, at, err := db.table(name, "ID", "JSON")
	if err != nil {
		return err
	}
	return db.rows(root, 0, func(row []string) error {
		if slices.Max(at) >= len(row) {
			return fmt.Errorf("%w: a row of %d columns", ErrFormat, len(row))
		}
		each(row[at[0]], row[at[1]])
		return engine.Late(ctx)
	})
}
