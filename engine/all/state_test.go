// SPDX-License-Identifier: Apache-2.0

package all_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/engine"
	"github.com/outband/outband/engine/all"
	"github.com/outband/outband/internal/sys"
	"github.com/outband/outband/internal/testutil"
)

func TestMain(m *testing.M) { testutil.Main(m) }

var idA, idB = strings.Repeat("ab", 32), strings.Repeat("cd", 32)

// state is where an engine keeps what it knows: of a container that is well, and
// in a file that gets damaged.
type state struct {
	engine string
	well   map[string]string // files and their content
	name   string            // of the container that they tell of; "" where only a process would show it
	file   string
	dir    string // that is listed; "" where none is
	text   bool   // any content of a regular file will do
}

const (
	docker = "/var/lib/docker/containers/"
	tasks  = "/run/containerd/io.containerd.runtime.v2.task/default/"
	stored = "/var/lib/containers/storage/"
	runc   = `{"id":"well","init_process_pid":1,"init_process_start":1}`
)

// states are those of all adapters.
func states() []state {
	return []state{
		{"docker", map[string]string{docker + idA + "/config.v2.json": `{"ID":"` + idA + `","Name":"/well","State":{}}`},
			"docker:well", docker + idB + "/config.v2.json", docker, false},
		{"podman", map[string]string{stored + "overlay-containers/containers.json": `[{"id":"` + idB + `","names":["well"]}]`},
			"podman:well", stored + "vfs-containers/containers.json", "", false},
		{"containerd", map[string]string{tasks + "well/init.pid": "1", tasks + "well/config.json": "{}"},
			"containerd:default/well", tasks + "ill/init.pid", tasks, false},
		{"containerd", map[string]string{tasks + "well/init.pid": "1", tasks + "well/config.json": "{}", tasks + "ill/init.pid": "1"},
			"containerd:default/well", tasks + "ill/config.json", tasks, false},
		{"lxc", map[string]string{"/var/lib/lxc/well/config": ""}, "lxc:well", "/var/lib/lxc/ill/config", "/var/lib/lxc", true},
		{"nspawn", nil, "", "/run/systemd/machines/ill", "/run/systemd/machines", true},
		{"oci", map[string]string{"/run/runc/well/state.json": runc}, "runc:well", "/run/runc/ill/state.json", "/run/runc", false},
		{"oci", map[string]string{"/run/crun/well/status": `{"pid":1,"bundle":"/b"}`}, "crun:well", "/run/crun/ill/status", "/run/crun", false},
		{"oci", map[string]string{"/run/youki/well/state.json": `{"id":"well","pid":1}`}, "youki:well", "/run/youki/ill/state.json", "/run/youki", false},
	}
}

// damage makes a file, or the directory that is listed, what it should not be.
type damage struct {
	do   func(path string) error
	text bool // it is the content that is damaged
	dir  bool // it is done to the directory
	trap bool // nobody may open it
}

func content(s string) func(string) error {
	return func(file string) error { return os.WriteFile(file, []byte(s), 0o600) }
}

func link(to string) func(string) error {
	return func(file string) error { return os.Symlink(to, file) }
}

func pipe(file string) error { return unix.Mkfifo(file, 0o600) }

func socket(file string) error {
	dir, err := os.Open(filepath.Dir(file)) // its path may be longer than a socket's
	if err != nil {
		return err
	}
	defer dir.Close()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(file))})
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false)
	return l.Close()
}

// damages are what is done to each.
func damages() map[string]damage {
	owned := func(file string) error { return errors.Join(content("{}")(file), os.Chown(file, 1001, 1001)) }
	return map[string]damage{
		"broken": {do: content(`{"ID": nonsense`), text: true}, "empty": {do: content(""), text: true}, "truncated": {do: content(runc[:30]), text: true},
		"of another kind": {do: content(`"a word"`), text: true}, "deep": {do: content(strings.Repeat(`[{"":`, 300000)), text: true},
		"binary": {do: content("\x00\xff\x1b]0;x\a"), text: true},
		"long":   {do: func(f string) error { return errors.Join(content("")(f), os.Truncate(f, 10<<30)) }},
		"pipe":   {do: pipe, trap: true}, "socket": {do: socket},
		"device":           {do: func(f string) error { return unix.Mknod(f, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5))) }, trap: true},
		"link to a pipe":   {do: func(f string) error { return errors.Join(pipe(f+"-"), os.Symlink(filepath.Base(f)+"-", f)) }},
		"link to a device": {do: link("/dev/zero")}, "link to itself": {do: func(f string) error { return os.Symlink(f, f) }},
		"link out":    {do: func(f string) error { return errors.Join(owned(f+"-"), os.Symlink(f+"-", f)) }},
		"a directory": {do: func(f string) error { return os.Mkdir(f, 0o700) }}, "somebody else's": {do: owned},
		"open to all":              {do: func(f string) error { return errors.Join(content("{}")(f), os.Chmod(f, 0o666)) }},
		"directory of another's":   {do: func(f string) error { return os.Chown(f, 1001, 1001) }, dir: true},
		"directory that is a pipe": {do: func(f string) error { return errors.Join(os.RemoveAll(f), pipe(f)) }, dir: true, trap: true},
	}
}

// TestDamagedState: state that belongs to root and is broken, or is somebody
// else's, is told as its engine's error. What else the engine knows is listed, and
// what the others know; and nothing is opened that is no regular file (A13, A20).
func TestDamagedState(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	covered := map[string]bool{engine.Bare: true} // keeps none
	for _, s := range states() {
		covered[s.engine] = true
		for name, d := range damages() {
			if s.text && d.text || s.dir == "" && d.dir {
				continue
			}
			t.Run(s.engine+s.file+"/"+name, func(t *testing.T) { testDamaged(t, s, d) })
		}
	}
	for _, e := range all.Engines() {
		if !covered[e.Name()] {
			t.Errorf("%s is not tested", e.Name())
		}
	}
}

func testDamaged(t *testing.T, s state, d damage) {
	root := t.TempDir()
	var want []string
	for _, other := range states() {
		for file, text := range other.well {
			if other.file != s.file && strings.Contains(file, "/ill/") {
				continue
			}
			put(t, root+file, text)
		}
		lost := d.dir && other.dir == s.dir
		if other.name != "" && !lost && !slices.Contains(want, other.name) {
			want = append(want, other.name)
		}
	}
	if err := os.RemoveAll(root + s.file); err != nil {
		t.Fatal(err)
	}
	put(t, root+filepath.Dir(s.file)+"/.keep", "")
	at := root + s.file
	if d.dir {
		at = root + strings.TrimSuffix(s.dir, "/")
	}
	if err := d.do(at); err != nil {
		t.Fatal(err)
	}
	opened := func() bool { return false }
	if d.trap {
		opened = watch(t, at)
	}
	var list []engine.Container
	var err error
	for range 20 { // a busy machine may need several tries
		if list, err = engine.Recorded(root, nil).List(context.Background(), all.Engines()); !errors.Is(err, engine.ErrDeadline) {
			break
		}
	}
	var names []string
	for i := range list {
		if !strings.HasSuffix(list[i].Name, "ill") { // a task that has lost its configuration
			names = append(names, list[i].FullName())
		}
	}
	slices.Sort(names)
	slices.Sort(want)
	var told *engine.Error
	if !errors.As(err, &told) || told.Engine != s.engine || errors.Is(err, engine.ErrDeadline) {
		t.Errorf("%v, want an error of %s's", err, s.engine)
	}
	if !slices.Equal(names, want) {
		t.Errorf("%q, want %q", names, want)
	}
	if opened() {
		t.Error("it was opened")
	}
}

func put(t *testing.T, file, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// watch tells whether a file has been opened since. Before 6.10 the kernel counts
// O_PATH, too.
func watch(t *testing.T, file string) (opened func() bool) {
	t.Helper()
	if major, minor := sys.Release(); major < 6 || major == 6 && minor < 10 {
		return func() bool { return false }
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err == nil {
		t.Cleanup(func() { unix.Close(fd) })
		_, err = unix.InotifyAddWatch(fd, file, unix.IN_OPEN)
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() bool {
		n, err := unix.Read(fd, make([]byte, 4096))
		return err == nil && n > 0
	}
}

// What opens a trap is seen.
func TestWatch(t *testing.T) {
	testutil.RequireKernel(t, 6, 10, "watches that do not count O_PATH")
	file := filepath.Join(t.TempDir(), "pipe")
	if err := pipe(file); err != nil {
		t.Fatal(err)
	}
	opened := watch(t, file)
	for _, test := range []struct {
		flags int
		want  bool
	}{{unix.O_PATH, false}, {unix.O_RDONLY | unix.O_NONBLOCK, true}} {
		fd, err := unix.Open(file, test.flags|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
		if got := opened(); got != test.want {
			t.Errorf("flags %#x: %v", test.flags, got)
		}
	}
}
