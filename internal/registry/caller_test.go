// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func childCaller([]string) error {
	return json.NewEncoder(os.Stdout).Encode(Caller(os.Getenv))
}

// A process with a terminal, but none of it among its streams.
func TestCaller(t *testing.T) {
	name := openPty(t)
	tty, err := os.OpenFile("/dev/"+name, os.O_RDWR|unix.O_NOCTTY, 0)
	need(t, err == nil, "a /dev/pts that belongs to /dev/ptmx")
	defer tty.Close()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(tempDir(t), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	cmd := child(t, "caller")
	cmd.Dir = dir
	cmd.Env = append(cmd.Env, "SSH_CONNECTION=192.0.2.1 5 192.0.2.2 22", "PWD="+link)
	cmd.ExtraFiles = []*os.File{tty}
	cmd.SysProcAttr.Setsid, cmd.SysProcAttr.Setctty, cmd.SysProcAttr.Ctty = true, true, 3
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var got By
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	var login *uint32
	if b, err := os.ReadFile("/proc/self/loginuid"); err == nil {
		login = parseLoginUID(string(b))
	}
	want := By{UID: os.Getuid(), LoginUID: login, PID: cmd.Process.Pid, TTY: name, Cwd: dir, SSH: "192.0.2.1 5 192.0.2.2 22"}
	if fmt.Sprint(deref(got)) != fmt.Sprint(deref(want)) {
		t.Errorf("got %s, want %+v", out, want)
	}
}

// deref makes two By comparable.
func deref(by By) (By, int64) {
	login := int64(-1)
	if by.LoginUID != nil {
		login = int64(*by.LoginUID)
	}
	by.LoginUID = nil
	return by, login
}

// openPty makes a terminal, which lasts as long as the test, and returns its name.
func openPty(t *testing.T) string {
	t.Helper()
	ptmx, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	need(t, err == nil, "/dev/ptmx")
	t.Cleanup(func() { ptmx.Close() })
	if err := unix.IoctlSetPointerInt(int(ptmx.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(ptmx.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("pts/%d", n)
}

// A process without one.
func TestCallerAlone(t *testing.T) {
	cmd := child(t, "caller")
	cmd.SysProcAttr.Setsid = true
	cmd.Env = append(cmd.Env, "SSH_CONNECTION=")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if s := string(out); strings.Contains(s, "tty") || strings.Contains(s, "ssh") {
		t.Errorf("got %s", out)
	}
}

func TestParseTTY(t *testing.T) {
	tests := []struct {
		name, stat   string
		major, minor uint32
	}{
		{"none", "1 (init) S 0 1 1 0 -1 4194560", 0, 0},
		{"pts/3", "9 (sh) S 1 9 9 34819 9", 136, 3},
		{"pts/300", "9 (sh) S 1 9 9 1083436 9", 136, 300},
		{"tty1", "9 (sh) S 1 9 9 1025 9", 4, 1},
		{"comm that looks like fields", "9 (a) S 1 9 9 1025) R 1 9 9 34816 9", 136, 0},
		{"negative", "9 (sh) S 1 9 9 -2147448832 9", 136, 0x80000},
		{"short", "9 (sh) S 1", 0, 0},
		{"nothing", "", 0, 0},
		{"no number", "9 (sh) S 1 9 9 x 9", 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if major, minor := parseTTY(tt.stat); major != tt.major || minor != tt.minor {
				t.Errorf("got %d:%d, want %d:%d", major, minor, tt.major, tt.minor)
			}
		})
	}
}

func TestTTYName(t *testing.T) {
	for want, dev := range map[string][2]uint32{"": {0, 0}, "pts/7": {ptsMajor, 7}, "null": {1, 3}} {
		if got := ttyName(dev[0], dev[1]); got != want {
			t.Errorf("%v is %q, want %q", dev, got, want)
		}
	}
	if got := ttyName(4095, 1); got != "" {
		t.Errorf("no device is %q", got)
	}
}

func TestParseLoginUID(t *testing.T) {
	for in, want := range map[string]int64{
		"0": 0, "1000": 1000, "1000\n": 1000, "4294967294": 4294967294,
		"4294967295": -1, "": -1, "-1": -1, "x": -1, "4294967296": -1,
	} {
		if _, got := deref(By{LoginUID: parseLoginUID(in)}); got != want {
			t.Errorf("%q is %d, want %d", in, got, want)
		}
	}
}
