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
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/sys"
	"github.com/outband/outband/internal/testutil"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == tiedArg {
		cmd := exec.Command("sleep", "1000")
		_ = tied(cmd, func() error {
			if err := cmd.Start(); err != nil {
				return err
			}
			if err := os.WriteFile(os.Args[2], []byte(fmt.Sprint(cmd.Process.Pid)), 0o600); err != nil {
				return err
			}
			return cmd.Wait()
		})
		return
	}
	testutil.Main(m)
}

// tiedArg makes the test binary run a tied command, whose number it writes to a
// file.
const tiedArg = "__tied"

// fake is a machine whose qemu is a script: descriptors 3, 4 and 5 are console,
// results and files.
func fake(t *testing.T, script string) (machine, *bytes.Buffer) {
	t.Helper()
	dir := t.TempDir()
	qemu := filepath.Join(dir, "qemu")
	text := "#!/bin/sh\necho $$ >>" + dir + "/pids\nup='echo == up 1.0 6.1.0-test'\n" + script
	if err := os.WriteFile(qemu, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	return machine{
		qemu: qemu, image: &image{dir: dir}, payload: "none", dir: dir, lines: &said,
		limits: deadlines{boot: 20 * time.Second, silence: 20 * time.Second, all: 20 * time.Second},
	}, &said
}

// gone checks that nothing runs of what a fake has started, and counts its starts.
func (m machine) gone(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(m.dir, "pids"))
	if err != nil {
		t.Fatal(err)
	}
	pids := strings.Fields(string(b))
	for _, pid := range pids {
		if line, err := os.ReadFile("/proc/" + pid + "/cmdline"); err == nil && bytes.Contains(line, []byte(m.qemu)) {
			t.Errorf("process %s runs", pid)
		}
	}
	return len(pids)
}

// TestRun is a run as it should be, with a failure among its tests.
func TestRun(t *testing.T) {
	testutil.NoLeaks(t)
	m, said := fake(t, `echo booting >&3
mkdir -p $(dirname $0)/tree/cover; echo covered >$(dirname $0)/tree/cover/c
{ $up; echo "== begin ./a root"; echo "=== RUN TestA"; echo "--- PASS: TestA (0.00s)"; echo "    --- FAIL: TestA/b (0.1s)"
echo "--- SKIP: TestC (0.00s)"; echo "== end 1"; tar -C $(dirname $0)/tree -cf - . >&5; echo "== done"; } >&4`)
	r, err := m.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	j := r.jobs[0]
	if !r.done || r.kernel != "6.1.0-test" || len(r.jobs) != 1 || j.code != 1 || j.count("PASS") != 1 || j.count("FAIL") != 1 || j.count("SKIP") != 1 {
		t.Errorf("%+v %+v", r, j)
	}
	if got := strings.Join(r.failures(), "; "); got != "./a (root): TestA/b; ./a (root): exit code 1" {
		t.Errorf("failures: %s", got)
	}
	for name, want := range map[string]string{"console.log": "booting\n", "out/cover/c": "covered\n"} {
		if b, err := os.ReadFile(filepath.Join(m.dir, name)); string(b) != want {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	if !strings.Contains(said.String(), "=== RUN TestA\n") || m.gone(t) != 1 {
		t.Errorf("said %q", said)
	}
}

// TestRunFails has what can go wrong with a host. Nothing of it runs afterwards.
func TestRunFails(t *testing.T) {
	for name, test := range map[string]struct {
		script string
		limit  func(*deadlines)
		want   string
		starts int
	}{
		"does not boot":        {"echo panic >&3; exec sleep 1000", func(d *deadlines) { d.boot = time.Second }, "no line from the host in 1s", 1},
		"dies on the way up":   {"echo panic >&3", nil, errDied.Error(), boots},
		"falls silent":         {"$up >&4; exec sleep 1000", func(d *deadlines) { d.silence = time.Second }, "no line from the host for 1s", 1},
		"takes too long":       {"$up >&4; while sleep 0.1; do echo x >&4; done", func(d *deadlines) { d.all = time.Second }, "deadline exceeded", 1},
		"ends early":           {"$up >&4; echo == begin ./a root >&4", nil, "before its jobs were done", 1},
		"qemu refuses":         {"echo no such drive >&2; exit 1", nil, "no such drive", 1},
		"a line without end":   {"$up >&4; head -c 300000 /dev/zero >&4; echo >&4", nil, "before its jobs were done", 1},
		"files are no archive": {"{ $up; echo == done; } >&4; head -c 2000 /dev/urandom >&5", nil, "files from the host", 1},
		"a pipe is held":       {"$up >&4; sleep 3 2>/dev/null & exit 0", nil, "before its jobs were done", 1},
	} {
		t.Run(name, func(t *testing.T) {
			m, _ := fake(t, test.script)
			if test.limit != nil {
				test.limit(&m.limits)
			}
			_, err := m.run(t.Context())
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
			if n := m.gone(t); n != test.starts {
				t.Errorf("%d starts, want %d", n, test.starts)
			}
		})
	}
}

// TestRunIsCancelled ends a host with its caller's context.
func TestRunIsCancelled(t *testing.T) {
	testutil.NoLeaks(t)
	m, _ := fake(t, "$up >&4; exec sleep 1000")
	ctx, cancel := context.WithCancel(t.Context())
	m.lines = writerFunc(func(p []byte) (int, error) { cancel(); return len(p), nil })
	if _, err := m.run(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	m.gone(t)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestUnpackStaysBelow gets an archive whose names lead elsewhere.
func TestUnpackStaysBelow(t *testing.T) {
	dir := t.TempDir()
	archive := filepath.Join(dir, "a.tar")
	if err := os.WriteFile(filepath.Join(dir, "x"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("tar", "-C", dir, "-P", "--transform", "s,x,../../y,", "-cf", archive, "x").CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unpack(f, filepath.Join(dir, "deep/out")); err == nil || exists(filepath.Join(dir, "y")) {
		t.Errorf("it got out: %v", err)
	}
}

// TestTied kills a program that has started another: that one ends too.
func TestTied(t *testing.T) {
	testutil.NoLeaks(t)
	file := filepath.Join(t.TempDir(), "pid")
	cmd := exec.Command("/proc/self/exe", tiedArg, file)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var child *os.File
	for until := time.Now().Add(10 * time.Second); child == nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("it has started nothing")
		}
		var pid int
		if b, err := os.ReadFile(file); err != nil || len(b) == 0 {
			continue
		} else if _, err := fmt.Sscan(string(b), &pid); err != nil {
			t.Fatal(err)
		}
		if f, err := sys.OpenPid(pid); err == nil {
			child = f
		}
	}
	defer child.Close()
	_ = cmd.Process.Kill()
	if !sys.Await(time.Now().Add(10*time.Second), child, nil) {
		_ = sys.Signal(child, unix.SIGKILL, false)
		t.Error("its child outlives it")
	}
	// The test adopts it once all threads of its parent are gone.
	_ = cmd.Wait()
	var pid int
	if b, err := os.ReadFile(file); err == nil {
		_, _ = fmt.Sscan(string(b), &pid)
	}
	for err := unix.EINTR; pid > 0 && err == unix.EINTR; {
		_, werr := unix.Wait4(pid, nil, 0, nil)
		err, _ = werr.(unix.Errno)
	}
}
