// SPDX-License-Identifier: Apache-2.0

package podman

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/outband/outband/engine"
	"github.com/outband/outband/internal/bolt"
	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/testutil"
)

// unzipped returns a database of testdata.
func unzipped(t testing.TB, path string) []byte {
	t.Helper()
	path = filepath.Join("testdata", path+".gz")
	if strings.HasSuffix(path, "many.db.gz") {
		path = filepath.Join("../../internal/bolt", path)
	}
	return testutil.Gunzip(t, path)
}

const storage = "/var/lib/containers/storage"

// recorded is a machine with the storage of one version of Podman, and nothing
// that runs.
func recorded(t *testing.T, version, database, to string) (root string) {
	t.Helper()
	root = t.TempDir()
	list, err := os.ReadFile(filepath.Join("testdata", version, "containers.json"))
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(root, storage, "overlay-containers/containers.json"), list)
	put(t, filepath.Join(root, storage, to), unzipped(t, filepath.Join(version, database)))
	return root
}

func put(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, b, 0o600)); err != nil {
		t.Fatal(err)
	}
}

// described is what is said of every container.
func described(root string) (map[string]string, error) {
	all, err := engine.Recorded(root, []procfs.Task{}).List(context.Background(), []engine.Engine{Engine{}})
	got := map[string]string{}
	for _, c := range all {
		end := "no end"
		if c.Exit != nil {
			end = fmt.Sprintf("exit %d at %s", c.Exit.Code, c.Exit.At.UTC().Format("15:04:05"))
		}
		got[c.Name] = fmt.Sprintf("%s, %s, %s", c.Restart, c.StopSignal, end)
	}
	return got, err
}

// What Podman wrote of containers that ended, and of those that it would start
// again: recorded with 4.3.1, which has a database of bbolt's, and with 5.8.6,
// which has one of SQLite's.
func TestPolicies(t *testing.T) {
	for _, test := range []struct {
		version, database, to string
		want                  map[string]string
	}{
		{"4.3", "bolt_state.db", "libpod/bolt_state.db", map[string]string{
			"named":  "no, SIGTERM, no end",
			"always": "always, SIGUSR1, no end",
			"exited": "on-failure:3, SIGKILL, exit 0 at 18:58:34",
			"failed": "no, SIGTERM, exit 7 at 18:58:34",
			"killed": "no, SIGTERM, exit 137 at 18:58:34",
			"never":  "unless-stopped, SIGRTMIN+3, no end",
			"oom":    "no, SIGTERM, exit 137 at 18:58:35",
		}},
		{"5.8", "db.sql", "db.sql", map[string]string{
			"always": "always, SIGUSR1, no end",
			"exited": "on-failure:3, SIGKILL, exit 0 at 19:08:23",
			"failed": "no, SIGTERM, exit 7 at 19:08:23",
			"killed": "no, SIGTERM, exit 137 at 19:08:24",
			"never":  "unless-stopped, SIGRTMIN+3, no end",
		}},
	} {
		got, err := described(recorded(t, test.version, test.database, test.to))
		if err != nil || !maps.Equal(got, test.want) {
			t.Errorf("%s: %q, %v", test.version, got, err)
		}
	}
}

// How a container ended is known before Podman has noticed; what it has noticed
// counts.
func TestExitFile(t *testing.T) {
	root := recorded(t, "5.8", "db.sql", "db.sql")
	for id, text := range map[string]string{
		"f7f3f58d9ced": "42", "fb18b3c3f803": "43", // always, failed
	} {
		put(t, filepath.Join(root, "run/libpod/exits", whole(t, id)), []byte(text))
	}
	got, err := described(root)
	if err != nil || !strings.Contains(got["always"], "exit 42") || !strings.Contains(got["failed"], "exit 7 ") {
		t.Errorf("%q, %v", got, err)
	}
	for _, bad := range []string{"", "x", "-1", "999", "1 2"} {
		put(t, filepath.Join(root, "run/libpod/exits", whole(t, "f7f3f58d9ced")), []byte(bad))
		if got, err := described(root); err != nil || !strings.Contains(got["always"], "no end") {
			t.Errorf("%q: %q, %v", bad, got, err)
		}
	}
}

// whole returns the id in testdata that begins so.
func whole(t *testing.T, prefix string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/5.8/containers.json")
	if err != nil {
		t.Fatal(err)
	}
	all, err := ParseContainers(b)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if strings.HasPrefix(c.ID, prefix) {
			return c.ID
		}
	}
	t.Fatal("no container ", prefix)
	return ""
}

// many are the databases that bbolt 1.4 and SQLite 3.40 made of 300 containers:
// trees of several levels, values of many pages.
func many(t testing.TB) map[string]func(bolt.File) (database, error) {
	t.Helper()
	all := map[string]func(bolt.File) (database, error){}
	for _, f := range formats() {
		all[map[string]string{"db.sql": "many.sql", "libpod/bolt_state.db": "many.db"}[f.path]] = f.open
	}
	return all
}

func TestMany(t *testing.T) {
	for path, open := range many(t) {
		all, err := format{path, open}.read(t.Context(), bytes.NewReader(unzipped(t, path)), func() bool { return false })
		if err != nil || len(all) != 300 {
			t.Errorf("%s: %d containers, %v", path, len(all), err)
		}
		for i := range 300 {
			r := all[fmt.Sprintf("%064x", i*7919)]
			if r.Exit == nil || r.Exit.Code != i%256 || r.Restart != fmt.Sprintf("on-failure:%d", i+1) {
				t.Errorf("%s: %d: %+v", path, i, r)
			}
		}
	}
}

// changing is a file that is another from some read on.
type changing struct {
	before, after *bytes.Reader
	reads         int
}

func (c *changing) Size() int64 { return c.after.Size() }

func (c *changing) ReadAt(b []byte, at int64) (int, error) {
	if c.reads--; c.reads < 0 {
		return c.after.ReadAt(b, at)
	}
	return c.before.ReadAt(b, at)
}

// What was read while somebody wrote is read again.
func TestWritten(t *testing.T) {
	for path, open := range many(t) {
		before := unzipped(t, path)
		after := bytes.Clone(before)
		if path == "many.sql" {
			after[27]++ // the count of changes
			before = bytes.ReplaceAll(before, []byte(`"exited":true`), []byte(`"exited":nope`))
		} else {
			touch(after)
			before = bytes.ReplaceAll(before, []byte(`"exited":true`), []byte(`"exited":nope`))
		}
		file := &changing{bytes.NewReader(before), bytes.NewReader(after), 50}
		all, err := format{path, open}.read(t.Context(), file, func() bool { return false })
		if err != nil || len(all) != 300 {
			t.Errorf("%s: %d containers, %v", path, len(all), err)
		}
		always := func() bool { return true }
		if all, err := (format{path, open}).read(t.Context(), bytes.NewReader(after), always); !errors.Is(err, errWritten) || all != nil {
			t.Errorf("%s: %d containers, %v", path, len(all), err)
		}
	}
}

// touch ends a transaction that changed nothing.
func touch(db []byte) {
	tx := func(at int) uint64 { return binary.LittleEndian.Uint64(db[at+16+48:]) }
	newest := 0
	if tx(4096) > tx(0) {
		newest = 4096
	}
	meta := db[newest+16:]
	binary.LittleEndian.PutUint64(meta[48:], tx(newest)+1)
	sum := fnv.New64a()
	sum.Write(meta[:56])
	binary.LittleEndian.PutUint64(meta[56:], sum.Sum64())
}

// A journal is a transaction that has not ended: told, and the containers are
// listed all the same.
func TestJournal(t *testing.T) {
	root := recorded(t, "5.8", "db.sql", "db.sql")
	put(t, filepath.Join(root, storage, "db.sql-journal"), []byte("x"))
	got, err := described(root)
	if !errors.Is(err, errWritten) || len(got) != 5 || got["always"] != ", , no end" {
		t.Errorf("%q, %v", got, err)
	}
	put(t, filepath.Join(root, storage, "db.sql-journal"), nil)
	if got, err := described(root); err != nil || !strings.HasPrefix(got["always"], "always, ") {
		t.Errorf("%q, %v", got, err)
	}
}

// No damage makes a reader fail otherwise than with an error, or take long.
func TestDamaged(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for path, open := range many(t) {
		whole := unzipped(t, path)
		for range 300 {
			db := bytes.Clone(whole)
			for range 1 + random.IntN(20) {
				page := random.IntN(len(db)/4096) * 4096
				db[page+random.IntN(120)] = byte(random.IntN(256))
			}
			db = db[:len(db)-random.IntN(2)*random.IntN(len(db))]
			start := time.Now()
			walkAll(open, db)
			if d := time.Since(start); d > 5*time.Second {
				t.Errorf("%s: %v", path, d)
			}
		}
	}
}

// A tree that leads back to itself is left before long.
func TestLoop(t *testing.T) {
	b := unzipped(t, "many.sql")
	for id := 2; id < len(b)/4096; id++ {
		if b[id*4096] == sqliteInterior {
			binary.BigEndian.PutUint32(b[id*4096+8:], uint32(id+1)) // the last child
		}
	}
	file := &changing{after: bytes.NewReader(b)}
	db, err := openSQLite(file)
	if err == nil {
		err = db.containers(context.Background(), func(string, []byte, []byte) {})
	}
	if !errors.Is(err, ErrFormat) || file.reads < -20000 {
		t.Errorf("%v after %d reads", err, -file.reads)
	}
}

func walkAll(open func(bolt.File) (database, error), b []byte) error {
	db, err := open(bytes.NewReader(b))
	if err != nil {
		return err
	}
	return db.containers(context.Background(), func(string, []byte, []byte) {})
}

func FuzzDatabases(f *testing.F) {
	f.Add(unzipped(f, "5.8/db.sql")[:8192])
	f.Add(unzipped(f, "4.3/bolt_state.db")[:8192])
	f.Fuzz(func(_ *testing.T, b []byte) {
		for _, format := range formats() {
			_ = walkAll(format.open, b)
		}
	})
}

// page1 is a database of one page, a leaf of rows with these cells, as often as
// there are offsets.
func page1(size int, content []byte, at int, offsets ...int) []byte {
	db := make([]byte, size)
	copy(db, sqliteMagic)
	binary.BigEndian.PutUint16(db[16:], uint16(size%(1<<16)|size>>16))
	db[18], db[19], db[59], db[sqliteHeader] = 1, 1, 1, sqliteLeaf
	binary.BigEndian.PutUint16(db[sqliteHeader+3:], uint16(len(offsets)))
	for i, offset := range offsets {
		binary.BigEndian.PutUint16(db[sqliteHeader+8+2*i:], uint16(offset))
	}
	copy(db[at:], content)
	return db
}

// A user's database is what that user made of it: a row of less than nothing, or a
// file whose rows lie over each other.
func TestHostileRows(t *testing.T) {
	rows := func(file []byte) (n int, err error) {
		db, err := openSQLite(bytes.NewReader(file))
		if err != nil {
			t.Fatal(err)
		}
		return n, db.rows(1, 0, func([]string) error { n++; return nil })
	}
	if _, err := rows(page1(4096, bytes.Repeat([]byte{0xff}, 9), 200, 200)); !errors.Is(err, ErrFormat) {
		t.Errorf("a negative size: %v", err)
	}
	const text = 40000
	cell := []byte{0x80 | (text+4)>>14, 0x80 | (text+4)>>7&0x7f, (text + 4) & 0x7f, 1, 4, 0x80 | (13+2*text)>>14, 0x80 | (13+2*text)>>7&0x7f, (13 + 2*text) & 0x7f}
	same := make([]int, 100) // 4 MB of 64 KiB
	for i := range same {
		same[i] = 24000
	}
	if n, err := rows(page1(1<<16, cell, 24000, same[:4]...)); n != 4 || err != nil {
		t.Errorf("%d rows, %v", n, err)
	}
	if n, err := rows(page1(1<<16, cell, 24000, same...)); !errors.Is(err, ErrFormat) || n*text > maxTimes<<16 {
		t.Errorf("%d rows, %v", n, err)
	}
}

// ending is a context that ends when it has been looked at so many times.
type ending struct {
	context.Context
	looks int
}

func (c *ending) Err() error {
	if c.looks--; c.looks < 0 {
		return context.DeadlineExceeded
	}
	return nil
}

// No more of a database is read once nobody waits for it; what was read counts.
func TestReadLate(t *testing.T) {
	for path, open := range many(t) {
		least := map[string]int{"many.sql": 300}[path] // the other table is read first
		for _, n := range []int{0, 1, 20} {
			ctx := &ending{context.Background(), least + n}
			all, err := format{path, open}.read(ctx, bytes.NewReader(unzipped(t, path)), func() bool { return false })
			if !errors.Is(err, engine.ErrDeadline) || errors.Is(err, ErrFormat) || len(all) != n {
				t.Errorf("%s, after %d: %d containers, %v", path, n, len(all), err)
			}
		}
	}
}
