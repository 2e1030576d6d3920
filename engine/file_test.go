// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/testutil"
)

// mounted is a host whose mounts are the machine's and those that are named.
func mounted(more ...procfs.Mount) *Host {
	h := Recorded("", []procfs.Task{})
	_, _ = h.mountOf("/")
	h.mounts = append(h.mounts, more...)
	return h
}

// TestMountOf: nothing on the way to a file may be somebody else's.
func TestMountOf(t *testing.T) {
	h := Recorded("", []procfs.Task{})
	h.looked.Do(func() {})
	for i, line := range strings.Split("/:nfs4 /run:tmpfs /run/user/1000:tmpfs /run/user/1000/doc:fuse.portal /home:ext4 /home/ann:nfs4 "+
		"/home/ann/scratch:xfs /srv:ext4 /srv:9p /mnt:autofs /a:ext4 /a:xfs", " ") {
		point, kind, _ := strings.Cut(line, ":")
		h.mounts = append(h.mounts, procfs.Mount{ID: i, Point: point, Type: kind})
	}
	for path, want := range map[string]string{
		"/": "/ nfs4", "/etc/passwd": "/ nfs4", "/run": "/run tmpfs", "/runc": "/ nfs4", "/run/user/1000/crun": "/run/user/1000 tmpfs",
		"/run/user/1000/doc/x": "fuse.portal", "/run/user/1000/docs": "/run/user/1000 tmpfs", "/home/bob": "/home ext4", "/home/ann": "nfs4",
		"/home/ann/.local": "nfs4", "/home/ann/scratch/x": "nfs4", "/srv/x": "9p", "/mnt/x": "autofs", "/a/x": "/a xfs",
	} {
		h.remote.Clear()
		m, err := h.mountOf(path)
		var remote *RemoteError
		got := m.Point + " " + m.Type
		if errors.As(err, &remote) {
			got = remote.Kind
		}
		if got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

// TestFind: links lead from mount to mount, but to no file system that may never
// answer (A27); that is told once.
func TestFind(t *testing.T) {
	dir, shm := t.TempDir(), "/dev/shm/outband-test-"+fmt.Sprint(os.Getpid())
	remote := filepath.Join(dir, "remote")
	t.Cleanup(func() { _ = os.RemoveAll(shm) })
	file := func(path string) error {
		return errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(path), 0o600))
	}
	link := func(to, path string) error { return os.Symlink(to, filepath.Join(dir, path)) }
	if err := errors.Join(file(dir+"/own/file"), file(remote+"/file"), file(shm+"/file"), link(shm, "out"), link("out", "twice"),
		link("own", "in"), link("remote", "far"), link("../"+filepath.Base(dir)+"/remote/file", "over"), link("loop", "loop"),
		link("loop", "a"), link("/proc/self/root", "magic"), link(dir+"/far", "far2")); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"own/file": "own/file", "in/file": "own/file", "out/file": shm + "/file", "twice/file": shm + "/file", "in/../own/./file": "own/file",
		"remote/file": "*", "far/file": "remote/file", "none/file": "", "loop": "", "a/file": "", "own/file/x": "", "magic" + dir + "/own/file": "",
	} {
		h := mounted(procfs.Mount{ID: -1, Point: remote, Type: "fuse.dead"})
		if strings.HasPrefix(want, "own") || strings.HasPrefix(want, "remote") {
			want = filepath.Join(dir, want)
		}
		b, err := h.ReadFile(filepath.Join(dir, path), 0)
		var left *RemoteError
		switch {
		case want == "*" && !errors.As(err, &left):
			t.Errorf("%s: %q, %v, want a RemoteError", path, b, err)
		case want == "" && (err == nil || errors.As(err, &left)), want != "" && want != "*" && string(b) != want:
			t.Errorf("%s: %q, %v, want %q", path, b, err, want)
		}
		if want == "*" {
			if _, err = h.ReadFile(filepath.Join(dir, path), 0); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s, again: %v", path, err)
			}
		}
	}
}

// TestKnown: a mount that was not there when the mounts were read is not entered,
// whatever it is.
func TestKnown(t *testing.T) {
	h := mounted()
	fd, err := unix.Open("/proc", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if !h.known(fd) {
		t.Error("/proc is not known")
	}
	for i := range h.mounts {
		if h.mounts[i].Point == "/proc" {
			h.mounts[i].ID = -1
		}
	}
	var left *RemoteError
	if _, err := h.ReadFile("/proc/version", 0); h.known(fd) || !errors.As(err, &left) || left.Kind != "mounted just now" {
		t.Errorf("it is known under another number: %v", err)
	}
	if h.known(-1) {
		t.Error("nothing is known")
	}
}

// TestBounds: what is too long is not read, or told.
func TestBounds(t *testing.T) {
	h, dir := mounted(), t.TempDir()
	sparse := filepath.Join(dir, "sparse")
	if err := errors.Join(os.WriteFile(sparse, nil, 0o600), os.Truncate(sparse, 10<<30)); err != nil {
		t.Fatal(err)
	}
	if b, err := h.ReadFile(sparse, 0); !errors.Is(err, unix.EFBIG) || b != nil {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if err := os.Truncate(sparse, maxState); err != nil {
		t.Fatal(err)
	}
	if b, err := h.ReadFile(sparse, 0); err != nil || len(b) != maxState {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	for i := range maxEntries {
		if err := os.Mkdir(filepath.Join(dir, fmt.Sprint(i)), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if names, err := h.ReadDir(dir, 0); !errors.Is(err, unix.EFBIG) || len(names) != maxEntries {
		t.Errorf("%d names, %v", len(names), err)
	}
}

// A13: a link of a user's does not lead into the kernel's own file systems.
func TestOpenKernels(t *testing.T) {
	testutil.RequireRoot(t)
	link := filepath.Join(t.TempDir(), "link")
	for _, to := range []string{"/proc/kmsg", "/proc/self/status", "/sys/kernel/uevent_seqnum"} {
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
		if f, err := NewHost(nil, nil).Open(link, 1000); err == nil {
			f.Close()
			t.Errorf("%s was opened", to)
		}
		if err := os.Remove(link); err != nil {
			t.Fatal(err)
		}
	}
}
