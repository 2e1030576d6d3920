// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The test binary is also the processes that the tests kill, starve or start
// as somebody else. childEnv says which, and its arguments follow.
const childEnv = "OUTBAND_REGISTRY_CHILD"

func TestMain(m *testing.M) {
	args := strings.Split(os.Getenv(childEnv), " ")
	roles := map[string]func(args []string) error{
		"hold": childHold, "loop": childLoop, "crowd": childCrowd, "wait": childWait,
		"user": childUser, "full": childFull, "readonly": childReadOnly, "caller": childCaller,
	}
	role, ok := roles[args[0]]
	if !ok {
		os.Exit(m.Run())
	}
	if err := role(args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, args[0]+":", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// child returns a command that runs the test binary in a role. It dies with
// the test, or after a minute.
func child(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Env = append(os.Environ(), childEnv+"="+strings.Join(args, " "))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// start starts cmd and returns what it prints. It is killed at the end of the
// test, by its handle, unless it has ended.
func start(t *testing.T, cmd *exec.Cmd) *bufio.Reader {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		kill(cmd)
	})
	return bufio.NewReader(out)
}

// kill ends a child with SIGKILL and reaps it.
func kill(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // "signal: killed", or that it was waited for
}

// childWait lives until its input ends. Whatever it inherited, it holds.
func childWait([]string) error {
	fmt.Println("ready")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// need skips a test for want of something, or fails it where nothing may be
// left out.
func need(t *testing.T, ok bool, what string) {
	t.Helper()
	if ok {
		return
	}
	if os.Getenv("OUTBAND_REQUIRE") == "all" {
		t.Fatalf("%s required", what)
	}
	t.Skipf("%s required", what)
}

func needRoot(t *testing.T) {
	t.Helper()
	need(t, os.Geteuid() == 0, "root")
}

// tempDir returns a new directory in memory where there is such a place: what
// /run is. Some file systems take a millisecond for a new file.
func tempDir(t testing.TB) string {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs("/dev/shm", &st); err != nil || st.Type != unix.TMPFS_MAGIC {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp("/dev/shm", "outband-registry-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// open opens a registry, by default in a new directory.
func open(t testing.TB, dir string) *Registry {
	t.Helper()
	if dir == "" {
		dir = filepath.Join(tempDir(t), "outband")
	}
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func begin(t testing.TB, r *Registry, rec Record) *Entry {
	t.Helper()
	e, err := r.Begin(rec)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// line is what a program finds in the log.
type line struct {
	ID, Target, How, Error string
	Started, Ended         time.Time
}

// logLines reads a log, each of whose lines has to be an object.
func logLines(t testing.TB, path string) []line {
	t.Helper()
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var lines []line
	for _, text := range bytes.SplitAfter(data, []byte("\n")) {
		if len(text) == 0 {
			continue
		}
		var l line
		if err := json.Unmarshal(text, &l); err != nil || text[len(text)-1] != '\n' {
			t.Errorf("%s: %.200q: %v", path, text, err)
		}
		lines = append(lines, l)
	}
	return lines
}

func auditLines(t testing.TB, r *Registry) []line {
	t.Helper()
	return append(logLines(t, filepath.Join(r.path, auditOldName)), logLines(t, filepath.Join(r.path, auditName))...)
}

// records returns the names in the directory of sessions.
func records(t testing.TB, r *Registry) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(r.path, sessionsName))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func checkMode(t testing.TB, path string, want os.FileMode) {
	t.Helper()
	fi, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if fi.Mode() != want {
		t.Errorf("%s has mode %v, want %v", path, fi.Mode(), want)
	}
}

// setUmask sets the umask of the process until the test ends.
func setUmask(t *testing.T, mask int) {
	old := unix.Umask(mask)
	t.Cleanup(func() { unix.Umask(old) })
}

// become gives up root for good, all threads.
func become(uid string) error {
	n, err := strconv.Atoi(uid)
	if err != nil {
		return err
	}
	return errors.Join(syscall.Setgroups(nil), syscall.Setresgid(n, n, n), syscall.Setresuid(n, n, n))
}
