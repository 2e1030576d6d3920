// SPDX-License-Identifier: Apache-2.0

package sys_test

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/sys"
)

// readers are those of whole files.
var readers = map[string]func(int, []byte, []byte) (int, error){"ReadAt": sys.ReadAt, "PeekAt": sys.PeekAt}

func TestReadAt(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"file": "0123456789", "empty": ""} {
		if err := os.WriteFile(dir+"/"+name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("file", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	before, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for name, read := range readers {
		for _, c := range []struct {
			path string
			room int
			want string
			err  error
		}{
			{"file\x00", 32, "0123456789", nil},
			{"file\x00", 4, "0123", nil},
			{"empty\x00", 4, "", nil},
			{".\x00", 4, "", unix.EISDIR}, // the open works, the read does not
			{"link\x00", 32, "", unix.ELOOP},
			{"../file\x00", 32, "", unix.EXDEV},
			{"nothing\x00", 32, "", unix.ENOENT},
			{"file", 32, "", unix.EINVAL}, // it has no end
			{"", 32, "", unix.EINVAL},
			{"file\x00", 0, "", unix.EINVAL},
		} {
			buf := make([]byte, c.room)
			n, err := read(int(d.Fd()), []byte(c.path), buf)
			if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) || !bytes.Equal(buf[:n], []byte(c.want)) {
				t.Errorf("%s %q into %d: %q, %v, want %q, %v", name, c.path, c.room, buf[:n], err, c.want, c.err)
			}
		}
	}
	if after, err := os.ReadDir("/proc/self/fd"); err != nil || len(after) != len(before) {
		t.Errorf("%d descriptors, then %d: %v", len(before), len(after), err)
	}
}

// Neither allocates.
func TestReadAtAllocates(t *testing.T) {
	d, err := os.Open("/proc/self")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	fd, path, buf := int(d.Fd()), []byte("stat\x00"), make([]byte, 4096)
	for name, read := range readers {
		if n := testing.AllocsPerRun(100, func() {
			if n, err := read(fd, path, buf); err != nil || n == 0 {
				t.Errorf("%s: %d, %v", name, n, err)
			}
		}); n > 0 {
			t.Errorf("%s: %v", name, n)
		}
	}
}
