// SPDX-License-Identifier: Apache-2.0

package forkexec

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openPath opens a directory as the root of a Reading.
func openPath(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// read reads files below root.
func read(t *testing.T, root string, paths ...string) []Content {
	t.Helper()
	dir, proc := openPath(t, root), openPath(t, "/proc")
	defer dir.Close()
	defer proc.Close()
	cs, err := Read(context.Background(), &Reading{Root: dir, Proc: proc, Paths: paths, Deadline: time.Now().Add(deadline)})
	if err != nil || len(cs) != len(paths) {
		t.Fatalf("%d of %d files: %v", len(cs), len(paths), err)
	}
	return cs
}

// fileCases are what may be in the place of a file that is read: what is read of
// it, or why nothing is.
type fileCase struct {
	name string
	make func(path string) error
	want []byte
	err  error
}

func fileCases(outside string) []fileCase {
	file := func(b []byte) func(string) error {
		return func(p string) error { return os.WriteFile(p, b, 0o644) }
	}
	link := func(to string) func(string) error { return func(p string) error { return os.Symlink(to, p) } }
	sparse := func(size int64) func(string) error {
		return func(p string) error { return errors.Join(file(nil)(p), os.Truncate(p, size)) }
	}
	long := bytes.Repeat([]byte("0123456789abcde\n"), 5000) // more than two reads
	return []fileCase{
		{"file", file([]byte("root:x:0:0::/root:/bin/sh\n")), []byte("root:x:0:0::/root:/bin/sh\n"), nil},
		{"empty", file(nil), nil, nil},
		{"long", file(long), long, nil},
		{"longest", sparse(MaxFile - 1), make([]byte, MaxFile-1), nil},
		{"too long", sparse(MaxFile), nil, unix.EFBIG},
		{"sparse", sparse(10 << 30), nil, unix.EFBIG},
		{"link", link("file"), []byte("root:x:0:0::/root:/bin/sh\n"), nil},
		{"link from the root", link("/file"), []byte("root:x:0:0::/root:/bin/sh\n"), nil},
		{"link upwards", link("../../../../../../../../file"), []byte("root:x:0:0::/root:/bin/sh\n"), nil},
		{"link out", link(outside), nil, unix.ENOENT},
		{"link to itself", link("link to itself"), nil, unix.ELOOP},
		{"pipe", func(p string) error { return unix.Mkfifo(p, 0o666) }, nil, unix.ENXIO},
		{"link to a pipe", link("pipe"), nil, unix.ENXIO},
		{"socket", func(p string) error {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: p})
			if err == nil {
				l.SetUnlinkOnClose(false)
				err = l.Close()
			}
			return err
		}, nil, unix.ENXIO},
		{"directory", func(p string) error { return os.Mkdir(p, 0o755) }, nil, unix.ENXIO},
		{"missing", func(string) error { return nil }, nil, unix.ENOENT},
		{"file/below", func(string) error { return nil }, nil, unix.ENOTDIR},
	}
}

// TestRead reads what may be in the place of a file, all at once: the one that
// is refused does not keep the next from being read.
func TestRead(t *testing.T) {
	before := takeCensus()
	root, outside := t.TempDir(), filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte("of the host"), 0o644); err != nil {
		t.Fatal(err)
	}
	cases, names := fileCases(outside), []string(nil)
	for _, c := range cases {
		if err := c.make(filepath.Join(root, c.name)); err != nil {
			t.Fatal(c.name, ": ", err)
		}
		names = append(names, c.name)
	}
	for i, got := range read(t, root, names...) {
		if c := cases[i]; !bytes.Equal(got.Data, c.want) || !errors.Is(got.Err, c.err) || (got.Err == nil) != (c.err == nil) {
			t.Errorf("%s: %d bytes, %v; want %d, %v", c.name, len(got.Data), got.Err, len(c.want), c.err)
		}
	}
	for path, want := range map[string]error{"/dev/zero": unix.ENXIO, "/proc/self/exe": unix.ELOOP, "/proc/self/root/dev/null": unix.ELOOP} {
		if got := read(t, "/", path)[0]; !errors.Is(got.Err, want) {
			t.Errorf("%s: %d bytes, %v; want %v", path, len(got.Data), got.Err, want)
		}
	}
	if got := read(t, root); len(got) != 0 {
		t.Errorf("nothing was asked for: %v", got)
	}
	before.check(t)
}

// TestReadMutants shows that the defences are what makes the difference: a
// reader that opens what it finds hangs on a pipe, reads a device, and leaves
// the root. (alter is not for a Reading, so the programs are changed here.)
func TestReadMutants(t *testing.T) {
	root, outside := t.TempDir(), filepath.Join(t.TempDir(), "secret")
	err := errors.Join(os.WriteFile(outside, []byte("of the host"), 0o644), os.Symlink(outside, filepath.Join(root, "out")))
	if err != nil {
		t.Fatal(err)
	}
	r := &Reading{Root: openPath(t, root), Proc: openPath(t, "/proc"), Paths: []string{"out"}}
	cs, err := mutant(t, r, func(p *program) {
		for i := range p.ops {
			if p.ops[i].code == unix.SYS_OPENAT2 { // struct open_how: resolve
				binary.LittleEndian.PutUint64(p.data[p.ops[i].words[2].n+16:], 0)
			}
		}
	})
	if err != nil || string(cs[0].Data) != "of the host" {
		t.Errorf("without a root: %v, %v", cs, err)
	}
	r.Paths, r.Root = []string{"/dev/zero"}, openPath(t, "/")
	cs, err = mutant(t, r, func(p *program) {
		for i := range p.ops {
			if o := &p.ops[i]; o.code == opSame && o.words[1] == num(uint64(unix.S_IFREG)<<32) {
				o.err = o.ok
			}
		}
	})
	if err != nil || !errors.Is(cs[0].Err, unix.EFBIG) {
		t.Errorf("whatever it is: %v, %v", cs, err)
	}
}

// mutant is Read with another program.
func mutant(t *testing.T, r *Reading, alter func(*program)) ([]Content, error) {
	t.Helper()
	r.alter = alter
	r.Deadline = time.Now().Add(deadline)
	defer func() { r.alter = nil }()
	return Read(context.Background(), r)
}

// roleFuse mounts a file system in mounts of its own. It takes requests but
// answers only the first, so that not even SIGKILL ends who waits for one.
func roleFuse() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	device, err := os.OpenFile("/dev/fuse", os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", device.Fd())
	if err := unix.Mount("dead", "/mnt", "fuse", 0, options); err != nil {
		return err
	}
	buf := make([]byte, 1<<17)
	for first := true; ; first = false {
		n, err := unix.Read(int(device.Fd()), buf)
		if err != nil {
			return err
		}
		if !first {
			fmt.Println("swallowed")
			continue
		}
		// struct fuse_out_header, struct fuse_init_out: version 7.31
		reply := make([]byte, 16+64)
		binary.LittleEndian.PutUint32(reply, uint32(len(reply)))
		copy(reply[8:16], buf[8:16]) // unique
		binary.LittleEndian.PutUint32(reply[16:], 7)
		binary.LittleEndian.PutUint32(reply[20:], 31)
		if _, err := unix.Write(int(device.Fd()), reply); err != nil || n < 40 {
			return fmt.Errorf("init of %d bytes: %w", n, err)
		}
		fmt.Println("ready")
	}
}

// TestReadAbandons reads from a file system that never answers. It is over soon
// after its deadline, says that something is left, and what is left ends with
// the file system.
func TestReadAbandons(t *testing.T) {
	need(t, os.Geteuid() == 0, "root")
	_, err := os.Stat("/dev/fuse")
	need(t, err == nil, "FUSE")
	before := takeCensus()
	c := roleCommand(t, "fuse")
	c.SysProcAttr.Cloneflags = syscall.CLONE_NEWNS
	said, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	end := startTied(t, c)
	lines := bufio.NewScanner(said)
	if !lines.Scan() || lines.Text() != "ready" {
		end()
		t.Fatalf("the file system says %q", lines.Text())
	}
	r := &Reading{Root: openPath(t, fmt.Sprintf("/proc/%d/root", c.Process.Pid)), Proc: openPath(t, "/proc"), Paths: []string{"mnt/passwd"}}
	for what, ctx := range map[string]func() (context.Context, context.CancelFunc){
		"deadline": func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(context.Background(), 100*time.Millisecond)
		},
		"cancelled": func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(context.Background())
			time.AfterFunc(100*time.Millisecond, cancel)
			return ctx, cancel
		},
	} {
		ctx, cancel := ctx()
		done := make(chan error, 1)
		go func() {
			_, err := Read(ctx, r)
			done <- err
		}()
		select {
		case err := <-done:
			if !errors.Is(err, ErrDeadline) || !errors.Is(err, ErrAbandoned) {
				t.Errorf("%s: %v", what, err)
			}
		case <-time.After(deadline):
			t.Errorf("%s: it hangs", what)
		}
		cancel()
	}
	end() // the connection ends with the daemon, and so do those who wait
	said.Close()
	r.Root.Close()
	r.Proc.Close()
	before.adopt(t)
	if now := openFiles(); !slices.Equal(now, before.files) {
		t.Errorf("open files %q, were %q", now, before.files)
	}
}

// TestFrames cuts what a reader says at every place.
func TestFrames(t *testing.T) {
	frame := func(kind, n uint64, data string) []byte {
		b := binary.LittleEndian.AppendUint64(nil, kind)
		return append(binary.LittleEndian.AppendUint64(b, n), data...)
	}
	all := append(frame(frameData, 3, "abc"), frame(frameEnd, 0, "")...)
	for n := range len(all) + 1 {
		want := 0
		if n >= frameSize+3 {
			want = frameSize + 3
		}
		if got := frameLength(all[:n]); got != want {
			t.Errorf("%d bytes: %d, want %d", n, got, want)
		}
	}
	var c Content
	if takeFrame(all[:frameSize+3], &c) || !takeFrame(all[frameSize+3:], &c) || string(c.Data) != "abc" || c.Err != nil {
		t.Errorf("%+v", c)
	}
	if !takeFrame(frame(frameEnd, uint64(unix.EIO), ""), &c) || c.Data != nil || !errors.Is(c.Err, unix.EIO) {
		t.Errorf("an error behind content: %+v", c)
	}
}
