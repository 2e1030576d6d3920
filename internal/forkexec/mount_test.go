// SPDX-License-Identifier: Apache-2.0

package forkexec

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// ask asks file systems below root, after a file was read.
func ask(t *testing.T, root string, points ...string) []Content {
	t.Helper()
	dir, proc := openPath(t, root), openPath(t, "/proc")
	defer dir.Close()
	defer proc.Close()
	cs, err := Read(context.Background(), &Reading{
		Root: dir, Proc: proc, Paths: []string{"etc/hostname"}, Mounts: points, Deadline: time.Now().Add(deadline),
	})
	if err != nil || len(cs) != len(points)+1 {
		t.Fatalf("%d of %d mounts: %v", len(cs), len(points), err)
	}
	return cs[1:]
}

// TestMount compares what file systems say through a reader with what they say to
// this process.
func TestMount(t *testing.T) {
	before := takeCensus()
	points := []string{"/", "/proc", "/dev", "/sys"}
	for i, c := range ask(t, "/", points...) {
		m, err := c.Mount()
		var want unix.Statfs_t
		var stat unix.Statx_t
		if err := errors.Join(unix.Statfs(points[i], &want), unix.Statx(unix.AT_FDCWD, points[i], 0, unix.STATX_MNT_ID, &stat)); err != nil {
			t.Fatal(err)
		}
		// What is free of it changes at any time.
		if err != nil || m.BlockSize != uint64(want.Frsize) || m.Blocks != want.Blocks || m.Inodes != want.Files || m.ID != stat.Mnt_id {
			t.Errorf("%s: %+v, %v; want %+v, mount %d", points[i], m, err, want, stat.Mnt_id)
		}
		if m.Available > m.Free || m.Free > m.Blocks || m.FreeInodes > m.Inodes {
			t.Errorf("%s: %+v", points[i], m)
		}
	}
	before.check(t)
}

// TestMountRefused asks what is no mount, or leads elsewhere: the next one is
// asked all the same.
func TestMountRefused(t *testing.T) {
	root := t.TempDir()
	err := errors.Join(os.Symlink("/proc", filepath.Join(root, "link")), os.Mkdir(filepath.Join(root, "dir"), 0o755),
		os.Symlink("dir", filepath.Join(root, "near")))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range map[int]error{0: unix.ELOOP, 1: unix.ENOENT, 2: nil, 3: unix.ELOOP, 4: nil} {
		c := ask(t, root, "/link", "/gone", "/dir", "/near/../near", "/../../dir")[i]
		if _, err := c.Mount(); !errors.Is(err, want) {
			t.Errorf("%d: %v, want %v", i, err, want)
		}
	}
	if _, err := (Content{Data: make([]byte, mountSize-1)}).Mount(); !errors.Is(err, unix.EINVAL) {
		t.Errorf("cut off: %v", err)
	}
	if m, err := (Content{Data: make([]byte, mountSize)}).Mount(); err != nil || m != (Mount{}) {
		t.Errorf("nothing known: %+v, %v", m, err)
	}
}

// TestMountDead asks a file system that never answers: what was asked before it
// is known, it is over soon after its deadline, and nobody waits any longer.
func TestMountDead(t *testing.T) {
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
	if line, _ := bufio.NewReader(said).ReadString('\n'); strings.TrimSpace(line) != "ready" {
		end()
		t.Fatalf("the file system says %q", line)
	}
	r := &Reading{
		Root: openPath(t, fmt.Sprintf("/proc/%d/root", c.Process.Pid)), Proc: openPath(t, "/proc"),
		Mounts: []string{"/proc", "/mnt", "/dev"}, Deadline: time.Now().Add(200 * time.Millisecond),
	}
	cs, err := Read(context.Background(), r)
	if !errors.Is(err, ErrDeadline) || len(cs) != 1 {
		t.Errorf("%d answers, %v", len(cs), err)
	} else if m, err := cs[0].Mount(); err != nil || m.BlockSize == 0 {
		t.Errorf("%+v, %v", m, err)
	}
	end()
	said.Close()
	r.Root.Close()
	r.Proc.Close()
	before.adopt(t)
}
