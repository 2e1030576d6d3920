// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/throwaway"
)

// lab is what the contests take place in.
type lab struct {
	dir     string               // of files that are removed at the end
	state   string               // outband's --run-dir, so that nothing is on record for ever
	outband string               // the binary, stripped as it is shipped
	root    string               // a root file system of a static busybox
	box     *throwaway.Container // of namespaces alone, in no cgroup of its own
	runc    *oci                 // nil: there is none here
	crun    *oci
	nsenter string // ""
	notes   []string
	closers []func() error
}

// applets are what is executed of busybox.
var applets = [...]string{"true", "cat", "sleep"}

// openLab builds outband and makes the containers.
func openLab(ctx context.Context) (*lab, error) {
	l := &lab{}
	var err error
	for _, step := range []func(context.Context) error{l.adopt, l.makeDirs, l.build, l.makeRoot, l.makeBox, l.makeOCI, l.findTools} {
		if err = step(ctx); err != nil {
			return nil, errors.Join(err, l.close())
		}
	}
	return l, nil
}

// close takes everything down, the last made first.
func (l *lab) close() error {
	var err error
	for _, f := range slices.Backward(l.closers) {
		err = errors.Join(err, f())
	}
	return err
}

func (l *lab) atClose(f func() error) { l.closers = append(l.closers, f) }

// missing notes what could not take part.
func (l *lab) missing(format string, args ...any) {
	l.notes = append(l.notes, fmt.Sprintf(format, args...))
}

// adopt makes orphans this process's children, so that none is left to a
// machine's init that takes its time.
func (l *lab) adopt(context.Context) error {
	l.atClose(reapOrphans)
	return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
}

// makeDirs makes two directories. Sessions are kept below /run, where
// outband's own are, since its file system is what they cost.
func (l *lab) makeDirs(context.Context) (err error) {
	if l.dir, err = os.MkdirTemp("", "outband-bench-"); err != nil {
		return err
	}
	l.atClose(func() error { return os.RemoveAll(l.dir) })
	top, err := os.MkdirTemp("/run", "outband-bench-")
	if err != nil {
		return err
	}
	l.state = filepath.Join(top, "outband")
	l.atClose(func() error { return os.RemoveAll(top) })
	return os.Chmod(l.dir, 0o755)
}

// build builds outband as it is shipped, and installs it as make install does: what
// the linker has written through a mapping lies in memory page by page, and each
// start of it takes half a millisecond more than that of what was written in
// order, as all that it is compared with was.
func (l *lab) build(ctx context.Context) error {
	built := filepath.Join(l.dir, "built")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", built,
		"github.com/outband/outband/cmd/outband")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if err := output(cmd); err != nil {
		return err
	}
	l.outband = filepath.Join(l.dir, "outband")
	return output(exec.CommandContext(ctx, "install", "-m", "0755", built, l.outband))
}

// output runs a command and puts what it says into the error.
func output(cmd *exec.Cmd) error {
	said, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(said))
	}
	return nil
}

// makeRoot makes the root file system of the OCI containers.
func (l *lab) makeRoot(context.Context) error {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return errors.New("needs a static busybox to run inside: apt-get install busybox-static")
	}
	data, err := os.ReadFile(busybox)
	if err != nil {
		return err
	}
	if bytes.Contains(data, []byte("/ld-linux")) {
		return errors.New("busybox is not static: apt-get install busybox-static")
	}
	l.root = filepath.Join(l.dir, "root")
	for _, dir := range []string{"bin", "dev", "etc", "proc", "sys", "tmp"} {
		err = errors.Join(err, os.MkdirAll(filepath.Join(l.root, dir), 0o755))
	}
	return errors.Join(err, putBusybox(filepath.Join(l.root, "bin"), data))
}

// putBusybox writes busybox and links for its applets into dir.
func putBusybox(dir string, data []byte) error {
	err := os.WriteFile(filepath.Join(dir, "busybox"), data, 0o755)
	for _, name := range applets {
		link := filepath.Join(dir, name)
		if rerr := os.Remove(link); rerr != nil && !errors.Is(rerr, os.ErrNotExist) {
			return rerr
		}
		err = errors.Join(err, os.Symlink("busybox", link))
	}
	return err
}

// makeBox makes the container of namespaces alone. It has a tmpfs of its own,
// into which the same busybox is copied from outside.
func (l *lab) makeBox(ctx context.Context) error {
	box, err := throwaway.Start(ctx, throwaway.Spec{Name: "bench"})
	if err != nil {
		return err
	}
	l.atClose(box.Close)
	l.box = box
	data, err := os.ReadFile(filepath.Join(l.root, "bin/busybox"))
	if err != nil {
		return err
	}
	// The number is that of a child that this process has not reaped.
	return putBusybox(fmt.Sprintf("/proc/%d/root/bin", box.Pid()), data)
}

// makeOCI makes one container under each runtime that is there.
func (l *lab) makeOCI(ctx context.Context) error {
	for name, to := range map[string]**oci{"runc": &l.runc, "crun": &l.crun} {
		runtime, err := exec.LookPath(name)
		if err != nil {
			l.missing("%s is not installed: no comparison with it.", name)
			continue
		}
		c := &oci{runtime: runtime, dir: filepath.Join(l.dir, name), root: l.root, id: idPrefix + strconv.Itoa(os.Getpid()) + "-" + name}
		l.atClose(c.remove)
		if err := c.start(ctx); err != nil {
			return err
		}
		*to = c
	}
	return nil
}

// findTools looks for what is compared with.
func (l *lab) findTools(context.Context) error {
	var err error
	if l.nsenter, err = exec.LookPath("nsenter"); err != nil {
		l.missing("nsenter is not installed: no comparison with it.")
	}
	return nil
}

// versions asks the tools that are compared for theirs.
func (l *lab) versions(ctx context.Context) []string {
	var all []string
	for _, tool := range []string{"nsenter", "runc", "crun", "busybox"} {
		said, _ := exec.CommandContext(ctx, tool, "--version").Output() // busybox fails and says it all the same
		if line, _, _ := strings.Cut(string(said), "\n"); line != "" {
			all = append(all, line)
		}
	}
	return all
}

// machine says what it was measured on, and how busy that was with other work.
func machine() string {
	var u unix.Utsname
	_ = unix.Uname(&u) // fails for no valid pointer
	load := "unknown"
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		load, _, _ = strings.Cut(string(text), " ")
	}
	return fmt.Sprintf("Linux %s, %s, %d CPUs, load average %s when it began, %s", unix.ByteSliceToString(u.Release[:]),
		runtime.GOARCH, runtime.NumCPU(), load, runtime.Version())
}

// scale is how much is measured.
type scale struct {
	rounds int           // of contests without pauses
	paused int           // of those with
	pause  time.Duration // machines are idle between two entries
	batch  int           // entries of a loop that make one turn
	heap   int           // MiB
	volume int64         // bytes through a relay
	held   int           // sessions that are open at once
	spaces int           // pid namespaces for the tree
	trees  int           // rounds of that
	crowd  int           // processes of a container that is ended
	ends   int           // rounds of that
}

func scaleOf(o options) scale {
	if o.quick {
		return scale{rounds: 3, paused: 1, pause: 20 * time.Millisecond, batch: 3, heap: 64, volume: 32 << 20, held: 4, spaces: 20, trees: 2, crowd: 20, ends: 2}
	}
	return scale{rounds: max(o.rounds, 1), paused: max(o.rounds/10, 1), pause: 300 * time.Millisecond,
		batch: 20, heap: 1024, volume: 1 << 30, held: 32, spaces: 500, trees: max(o.rounds/6, 1), crowd: 1000, ends: max(o.rounds/15, 1)}
}
