// SPDX-License-Identifier: Apache-2.0

package forkexec

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inbox is a directory with a FIFO in it that this process holds open, as an init
// does that is told something.
type inbox struct {
	t    *testing.T
	root string
	file *os.File
	told Telling
}

func newInbox(t *testing.T) *inbox {
	t.Helper()
	i := &inbox{t: t, root: t.TempDir()}
	i.file = i.fifo("initctl", 0o600)
	i.told = Telling{
		Root: openPath(t, i.root), Proc: openPath(t, "/proc"), Init: openPath(t, "/proc/self"),
		Held: []int{1000, int(i.file.Fd())}, Record: "to be read",
		UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()),
	}
	return i
}

// fifo makes a FIFO and opens it.
func (i *inbox) fifo(name string, mode uint32) *os.File {
	i.t.Helper()
	path := filepath.Join(i.root, name)
	if err := unix.Mkfifo(path, mode); err != nil {
		i.t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		i.t.Fatal(err)
	}
	i.t.Cleanup(func() { f.Close() })
	return f
}

// tell tells by a FIFO, with another program where alter is not nil.
func (i *inbox) tell(path string, alter func(*program)) error {
	i.t.Helper()
	t := i.told
	t.FIFO, t.Deadline, t.alter = path, time.Now().Add(deadline), alter
	return Tell(context.Background(), &t)
}

// arrived is what can be read of a FIFO now.
func arrived(f *os.File) string {
	buf := make([]byte, 1<<16)
	n, err := unix.Read(int(f.Fd()), buf)
	if err != nil {
		return ""
	}
	return string(buf[:n])
}

// TestTell writes into the FIFO that is held open, by whatever path leads there.
func TestTell(t *testing.T) {
	i := newInbox(t)
	before := takeCensus()
	if err := os.Symlink("/", filepath.Join(i.root, "run")); err != nil { // links on the way are the container's
		t.Fatal(err)
	}
	for _, path := range []string{"initctl", "/initctl", "run/initctl", "../../initctl"} {
		if err := i.tell(path, nil); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if got := arrived(i.file); got != "to be read" {
			t.Errorf("%s: %q has arrived", path, got)
		}
	}
	i.told.Record = strings.Repeat("x", maxRecord)
	if err := i.tell("initctl", nil); err != nil || arrived(i.file) != i.told.Record {
		t.Errorf("the longest record: %v", err)
	}
	for _, record := range []string{"", i.told.Record + "x"} {
		i.told.Record = record
		if err := i.tell("initctl", nil); !errors.Is(err, unix.EMSGSIZE) {
			t.Errorf("%d bytes: %v", len(record), err)
		}
	}
	before.check(t)
}

// decoys are what may be in the place of the FIFO, and why it is not written to.
func decoys(i *inbox) map[string]error {
	path := func(name string) string { return filepath.Join(i.root, name) }
	err := errors.Join(
		os.WriteFile(path("file"), []byte("content"), 0o600), os.Mkdir(path("directory"), 0o700),
		os.Symlink("initctl", path("link")), os.Symlink("link to itself", path("link to itself")),
		unix.Mkfifo(path("nobody reads"), 0o600))
	l, lerr := net.ListenUnix("unix", &net.UnixAddr{Name: path("socket")})
	if err = errors.Join(err, lerr); err != nil {
		i.t.Fatal(err)
	}
	i.t.Cleanup(func() { l.Close() })
	return map[string]error{
		"file": ErrNoFIFO, "directory": ErrNoFIFO, "link": ErrNoFIFO, "link to itself": ErrNoFIFO, "socket": ErrNoFIFO,
		"nobody reads": ErrNotHeld, "missing": unix.ENOENT, "file/below": unix.ENOTDIR,
	}
}

// TestTellDecoys writes into nothing but the FIFO that is held open.
func TestTellDecoys(t *testing.T) {
	i := newInbox(t)
	other := i.fifo("of the host", 0o666) // somebody else reads it
	want := decoys(i)
	want["of the host"] = ErrNotHeld
	before := takeCensus()
	for name, want := range want {
		if err := i.tell(name, nil); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	if got := arrived(other) + arrived(i.file); got != "" {
		t.Errorf("%q has arrived", got)
	}
	i.told.Others = []string{"1/fd/nothing", fmt.Sprintf("%d/fd/%d", os.Getpid(), i.file.Fd())}
	if err := i.tell("initctl", nil); !errors.Is(err, ErrElsewhere) || arrived(i.file) != "" {
		t.Errorf("held by others: %v", err)
	}
	i.told.Others = []string{fmt.Sprintf("%d/fd/%d", os.Getpid(), other.Fd())}
	if err := i.tell("initctl", nil); err != nil || arrived(i.file) != "to be read" {
		t.Errorf("others hold another: %v", err)
	}
	if b, err := os.ReadFile(filepath.Join(i.root, "file")); string(b) != "content" || err != nil {
		t.Errorf("the file says %q, %v", b, err)
	}
	// Held, but nobody reads it; and full.
	w, err := os.OpenFile(filepath.Join(i.root, "nobody reads"), os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	i.told.Held = append(i.told.Held, int(w.Fd()))
	for err = nil; err == nil; {
		_, err = unix.Write(int(w.Fd()), make([]byte, 4096))
	}
	if err := i.tell("nobody reads", nil); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("a full one: %v", err)
	}
	i.told.Held = nil
	if err := i.tell("initctl", nil); !errors.Is(err, ErrNotHeld) {
		t.Errorf("of an init that holds nothing: %v", err)
	}
	w.Close()
	before.check(t)
}

// TestTellMutants shows that the comparison is what keeps others' FIFOs from
// being written to, and that the rights of the init are.
func TestTellMutants(t *testing.T) {
	i := newInbox(t)
	other := i.fifo("of the host", 0o600)
	blind := func(p *program) {
		for n := range p.ops {
			if o := &p.ops[n]; o.code == opFail && o.words[0] == num(-int(ErrNotHeld)) {
				o.code, o.words[0] = opAdd, num(0)
			}
		}
	}
	if err := i.tell("of the host", blind); err != nil || arrived(other) != "to be read" {
		t.Errorf("without the comparison: %v", err)
	}
	need(t, os.Geteuid() == 0, "root")
	i.told.Held = append(i.told.Held, int(other.Fd()))
	i.told.UID, i.told.GID = 65534, 65534
	if err := i.tell("of the host", nil); !errors.Is(err, unix.EACCES) || arrived(other) != "" {
		t.Errorf("a FIFO that the init may not write to: %v", err)
	}
	mighty := func(p *program) {
		for n := range p.ops {
			switch o := &p.ops[n]; o.code {
			case unix.SYS_SETFSUID, unix.SYS_CAPSET:
				o.code, o.words[0], o.words[1] = opAdd, num(i.told.UID), num(0)
			}
		}
	}
	if err := i.tell("of the host", mighty); err != nil || arrived(other) != "to be read" {
		t.Errorf("with more rights than the init: %v", err)
	}
}

// TestTellModes sets modes of regular files, of links to them within the root,
// and of nothing else.
func TestTellModes(t *testing.T) {
	i := newInbox(t)
	decoys(i)
	outside := filepath.Join(t.TempDir(), "secret")
	if err := errors.Join(os.WriteFile(outside, nil, 0o600), os.Symlink("/file", filepath.Join(i.root, "to file")),
		os.Symlink(outside, filepath.Join(i.root, "out"))); err != nil {
		t.Fatal(err)
	}
	set := func(modes ...Mode) error {
		told := i.told
		told.Modes, told.Deadline = modes, time.Now().Add(deadline)
		return Tell(context.Background(), &told)
	}
	mode := func(path string) os.FileMode {
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode().Perm()
	}
	file := filepath.Join(i.root, "file")
	for _, c := range []struct {
		modes []Mode
		err   error
		want  os.FileMode // of file
	}{
		{[]Mode{{"file", 0o100}}, nil, 0o100}, {[]Mode{{"missing", 0}, {"to file", 0}}, nil, 0},
		{[]Mode{{"missing", 0o100}, {"file", 0o100}}, unix.ENOENT, 0},
		{[]Mode{{"file", 0o640}, {"initctl", 0o777}, {"file", 0o100}}, ErrNoFIFO, 0o640},
		{[]Mode{{"directory", 0}}, ErrNoFIFO, 0o640}, {[]Mode{{"out", 0o777}}, unix.ENOENT, 0o640}, {[]Mode{{"socket", 0}}, ErrNoFIFO, 0o640},
	} {
		if err := set(c.modes...); !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
			t.Errorf("%v: %v, want %v", c.modes, err, c.err)
		}
		if got := mode(file); got != c.want {
			t.Errorf("%v: the file has %o, want %o", c.modes, got, c.want)
		}
	}
	if a, b := mode(outside), mode(filepath.Join(i.root, "directory")); a != 0o600 || b != 0o700 {
		t.Errorf("other modes are %o and %o", a, b)
	}
	need(t, os.Geteuid() == 0, "root")
	i.told.UID, i.told.GID = 65534, 65534
	if err := set(Mode{"file", 0o777}); !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EPERM) || mode(file) != 0o640 {
		t.Errorf("a file that is not the init's: %v, %o", err, mode(file))
	}
}

// roleBound has a file of the host's mounted over one of its own.
func roleBound() error {
	if err := errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount("none", "/mnt", "tmpfs", 0, "")); err != nil {
		return err
	}
	err := errors.Join(os.WriteFile("/mnt/own", nil, 0o644), os.WriteFile("/mnt/stopit", nil, 0o644),
		unix.Mount("/mnt/own", "/mnt/stopit", "", unix.MS_BIND, ""))
	if err != nil {
		return err
	}
	fmt.Println("ready")
	_, err = os.Stdin.Read(make([]byte, 1))
	return err
}

// TestTellMounted leaves a file alone that is a mount of its own, and a FIFO on a
// file system that does not answer is given up.
func TestTellMounted(t *testing.T) {
	need(t, os.Geteuid() == 0, "root")
	_, err := os.Stat("/dev/fuse")
	need(t, err == nil, "FUSE")
	for role, want := range map[string]error{"bound": ErrMounted, "fuse": ErrAbandoned} {
		t.Run(role, func(t *testing.T) {
			before := takeCensus()
			c := roleCommand(t, role)
			c.SysProcAttr.Cloneflags = syscall.CLONE_NEWNS
			said, err := c.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			in, err := c.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			end := startTied(t, c)
			if lines := bufio.NewScanner(said); !lines.Scan() || lines.Text() != "ready" {
				end()
				t.Fatalf("it says %q", lines.Text())
			}
			dir := fmt.Sprintf("/proc/%d", c.Process.Pid)
			told := &Telling{
				Root: openPath(t, dir+"/root"), Proc: openPath(t, "/proc"), Init: openPath(t, dir), Modes: []Mode{{"mnt/stopit", 0o100}},
				Deadline: time.Now().Add(300 * time.Millisecond),
			}
			if role == "bound" {
				told.Deadline = time.Now().Add(deadline)
			}
			if err := Tell(t.Context(), told); !errors.Is(err, want) {
				t.Errorf("%v, want %v", err, want)
			}
			if role == "bound" {
				told.alter = func(p *program) { // without the look at what it is
					for n := range p.ops {
						if o := &p.ops[n]; o.code == opFail && o.words[0] == num(-int(ErrMounted)) {
							o.code, o.words[0] = opAdd, num(0)
						}
					}
				}
				if err := Tell(t.Context(), told); err != nil {
					t.Errorf("the mutant: %v", err)
				}
			}
			end()
			told.Root.Close()
			told.Proc.Close()
			told.Init.Close()
			said.Close()
			in.Close()
			before.adopt(t)
		})
	}
}

// TestTellFrame keeps what a teller says readable for who reads it.
func TestTellFrame(t *testing.T) {
	var c Content
	b := binary.LittleEndian.AppendUint64(nil, frameEnd)
	b = binary.LittleEndian.AppendUint64(b, uint64(ErrNotHeld))
	if frameLength(b) != len(b) || !takeFrame(b, &c) || !errors.Is(c.Err, ErrNotHeld) {
		t.Errorf("%+v", c)
	}
}
