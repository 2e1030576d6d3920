// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/forkexec"
	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
)

// hostFIFO and hostFile are the host's, in the directory of a listener.
const (
	hostFIFO = "of the host"
	hostFile = "file of the host"
)

// listenJob is an init that reads a FIFO in a directory of the host's, and says
// what it has read. Beside it are the host's FIFO and file, mounted over its own.
func listenJob(args []string) int {
	at := func(name string) string { return filepath.Join(args[0], name) }
	err := errors.Join(
		os.Mkdir(at("own"), 0o755), unix.Mkfifo(at("own/initctl"), 0o600), unix.Mkfifo(at("own/unread"), 0o600),
		os.WriteFile(at("own/decoy"), nil, 0o600), unix.Mount(at(hostFIFO), at("own/decoy"), "", unix.MS_BIND, ""),
		os.WriteFile(at("own/stopit"), nil, 0), os.WriteFile(at("own/bound"), nil, 0o600),
		unix.Mount(at(hostFile), at("own/bound"), "", unix.MS_BIND, ""))
	f, ferr := os.OpenFile(at("own/initctl"), os.O_RDWR, 0)
	if err = errors.Join(err, ferr); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("ready")
	buf := make([]byte, 4096)
	for {
		n, err := f.Read(buf)
		if err != nil {
			return 1
		}
		fmt.Printf("%q\n", buf[:n])
	}
}

// listener is a container with listenJob, and the host's end of what it has of
// the host's.
type listener struct {
	*Target
	dir   string
	fifo  *os.File
	lines *bufio.Reader
}

func listen(t *testing.T, spec throwaway.Spec) *listener {
	t.Helper()
	l := &listener{dir: t.TempDir()}
	for d := l.dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	inbox := filepath.Join(l.dir, hostFIFO)
	err := errors.Join(os.Chmod(l.dir, 0o777), unix.Mkfifo(inbox, 0o666), os.WriteFile(filepath.Join(l.dir, hostFile), nil, 0o644), os.Chmod(inbox, 0o666))
	if err != nil {
		t.Fatal(err)
	}
	if l.fifo, err = os.OpenFile(inbox, os.O_RDWR|unix.O_NONBLOCK, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.fifo.Close() })
	r, w := pipePair(t)
	spec.Tree, spec.Args, spec.Stdout = throwaway.TreeShared, []string{"/proc/self/exe", "__listen", l.dir}, w
	l.Target = enter(t, spec)
	l.lines = bufio.NewReader(r)
	if said := l.hear(t); said != "ready" {
		t.Fatalf("it says %q", said)
	}
	return l
}

// hear is what the init says next.
func (l *listener) hear(t *testing.T) (said string) {
	t.Helper()
	within(t, "a line of the init", func() { said, _ = l.lines.ReadString('\n') })
	return strings.TrimSuffix(said, "\n")
}

func (l *listener) own(name string) string { return filepath.Join(l.dir, "own", name) }

// TestWriteFIFO tells an init something, and nobody else: with its root the
// machine's, and with a user namespace of its own.
func TestWriteFIFO(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	for name, spec := range map[string]throwaway.Spec{"root": {}, "user namespace": {User: true}} {
		t.Run(name, func(t *testing.T) {
			l := listen(t, spec)
			if err := l.WriteFIFO(t.Context(), l.own("initctl"), "six\x00"); err != nil {
				t.Error(err)
			}
			if said := l.hear(t); said != `"six\x00"` {
				t.Errorf("it has read %s", said)
			}
			for _, name := range []string{"decoy", "unread", "stopit", "missing"} {
				if err := l.WriteFIFO(t.Context(), l.own(name), "six"); !errors.Is(err, ErrNotSupported) || !strings.Contains(err.Error(), name) {
					t.Errorf("%s: %v", name, err)
				}
			}
			if n, _ := unix.Read(int(l.fifo.Fd()), make([]byte, 10)); n > 0 {
				t.Errorf("%d bytes have come to the host", n)
			}
			if err := l.WriteFIFO(t.Context(), l.own("initctl"), "end"); err != nil || l.hear(t) != `"end"` {
				t.Errorf("it has read something else meanwhile, or nothing: %v", err)
			}
			if err := l.Signal(unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			await(t, "its end", func() bool { return l.Alive() != nil })
			if err := l.WriteFIFO(t.Context(), l.own("initctl"), "six"); !errors.Is(err, ErrGone) {
				t.Errorf("one that has ended: %v", err)
			}
		})
	}
}

// TestWriteFIFOElsewhere: what somebody outside holds open as well is not written
// to, though the init does: the container has the host's, and opens what it finds.
// Without the look at who else holds it both get the record.
func TestWriteFIFOElsewhere(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	l := listen(t, throwaway.Spec{})
	host, err := os.OpenFile(l.own("initctl"), os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	err = l.WriteFIFO(t.Context(), l.own("initctl"), "six")
	host.Close()
	if !errors.Is(err, ErrNotSupported) || !strings.Contains(err.Error(), "outside of it as well") {
		t.Errorf("%v", err)
	}
	if err := l.WriteFIFO(t.Context(), l.own("initctl"), "end"); err != nil || l.hear(t) != `"end"` {
		t.Errorf("it has read something before, or nothing: %v", err)
	}
}

// TestSetModes sets the modes of an init's own files, and not of the host's that
// are there too.
func TestSetModes(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	l := listen(t, throwaway.Spec{User: true})
	mode := func(path string) os.FileMode {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode().Perm()
	}
	if err := l.SetModes(t.Context(), forkexec.Mode{Path: l.own("missing")}, forkexec.Mode{Path: l.own("stopit"), Mode: 0o100}); err != nil {
		t.Error(err)
	}
	if got := mode(l.own("stopit")); got != 0o100 {
		t.Errorf("mode %o", got)
	}
	host := filepath.Join(l.dir, hostFile)
	for path, want := range map[string]error{
		l.own("bound"): ErrNotSupported, host: fs.ErrPermission, l.own("initctl"): ErrNotSupported, l.own("missing"): ErrNotSupported,
	} {
		err := l.SetModes(t.Context(), forkexec.Mode{Path: path, Mode: 0o777}, forkexec.Mode{Path: l.own("stopit"), Mode: 0o700})
		if !errors.Is(err, want) || mode(l.own("stopit")) != 0o100 {
			t.Errorf("%s: %v; the next has %o", path, err, mode(l.own("stopit")))
		}
	}
	if got := mode(host); got != 0o644 {
		t.Errorf("the host's file has mode %o", got)
	}
}

// TestTellDead gives up a file system that does not answer, in bounded time.
func TestTellDead(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skipf("skipped: needs FUSE: %v", err)
	}
	r, w := pipePair(t)
	spec := hostFiles()
	spec.Args, spec.Stdout = []string{"/proc/self/exe", "__fuse"}, w
	target := enter(t, spec)
	if said, err := bufio.NewReader(r).ReadString('\n'); said != "ready\n" {
		t.Fatalf("%q, %v", said, err)
	}
	started := time.Now()
	within(t, "a FIFO that does not answer", func() {
		err := target.WriteFIFO(t.Context(), deadMount+"/initctl", "six")
		if !errors.Is(err, ErrDeadline) || !strings.Contains(err.Error(), "filesystem not responding") {
			t.Errorf("%v after %v", err, time.Since(started))
		}
	})
	target.abandoned.Store(maxAbandoned)
	within(t, "nothing", func() {
		if err := target.SetModes(t.Context(), forkexec.Mode{Path: "/etc/passwd"}); !errors.Is(err, ErrDeadline) {
			t.Errorf("with enough of them left behind: %v", err)
		}
	})
}
