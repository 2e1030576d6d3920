// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
)

// pipePair is a pipe of a test.
func pipePair(t testing.TB) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// fileWith is a file with some content, read from its start.
func fileWith(t testing.TB, content string) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// onlyReader and onlyWriter hide that something is a file.
type (
	onlyReader struct{ io.Reader }
	onlyWriter struct{ io.Writer }
)

// Whatever the streams are, what goes in at one end comes out at the other.
func TestStreams(t *testing.T) {
	testutil.NoLeaks(t)
	both(t, func(t *testing.T) {
		target := enter(t, hostFiles())
		text := strings.Repeat("line of text\n", 20000) + "\x00\xff without an end"
		inputs := map[string]func(*testing.T) io.Reader{
			"nothing": func(*testing.T) io.Reader { return nil },
			"reader":  func(*testing.T) io.Reader { return strings.NewReader(text) },
			"file":    func(t *testing.T) io.Reader { return fileWith(t, text) },
			"pipe": func(t *testing.T) io.Reader {
				r, w := pipePair(t)
				go func() { _, _ = io.WriteString(w, text); w.Close() }()
				return r
			},
			"proc": func(t *testing.T) io.Reader { // does not splice
				f, err := os.Open("/proc/self/mountinfo")
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { f.Close() })
				return f
			},
		}
		for name, input := range inputs {
			t.Run(name, func(t *testing.T) {
				want := text
				if name == "nothing" {
					want = ""
				}
				if name == "proc" {
					b, err := os.ReadFile("/proc/self/mountinfo")
					if err != nil {
						t.Fatal(err)
					}
					want = string(b)
				}
				for kind, got := range throughCat(t, target, func() io.Reader { return input(t) }) {
					if got != want {
						t.Errorf("to a %s: %d bytes, want %d", kind, len(got), len(want))
					}
				}
			})
		}
	})
}

// throughCat sends an input through cat to each kind of output.
func throughCat(t *testing.T, target *Target, input func() io.Reader) map[string]string {
	t.Helper()
	got := map[string]string{}
	var buffer bytes.Buffer
	file := fileWith(t, "")
	appended, err := os.OpenFile(fileWith(t, "").Name(), os.O_WRONLY|os.O_APPEND, 0) // does not splice
	if err != nil {
		t.Fatal(err)
	}
	defer appended.Close()
	r, w := pipePair(t)
	piped := make(chan string)
	go func() {
		b, _ := io.ReadAll(r)
		piped <- string(b)
	}()
	for _, out := range []io.Writer{&buffer, file, appended, w} {
		c := target.Command("cat")
		c.Stdin, c.Stdout = input(), out
		if err := c.Run(); err != nil {
			t.Error(err)
		}
	}
	w.Close()
	for kind, f := range map[string]*os.File{"file": file, "appended file": appended} {
		b, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		got[kind] = string(b)
	}
	got["buffer"], got["pipe"] = buffer.String(), <-piped
	return got
}

// The output that both streams share keeps its order; others are kept apart.
func TestSharedOutput(t *testing.T) {
	testutil.NoLeaks(t)
	target := enter(t, hostFiles())
	script := `i=0; while [ $i -lt 500 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done`
	var want strings.Builder
	for i := range 500 {
		fmt.Fprintf(&want, "out %d\nerr %d\n", i, i)
	}
	if out, err := sh(target, script).CombinedOutput(); err != nil || string(out) != want.String() {
		t.Errorf("%v, %d bytes in another order", err, len(out))
	}
	file := fileWith(t, "")
	c := sh(target, script)
	c.Stdout, c.Stderr = file, file
	if err := c.Run(); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(file.Name()); err != nil || string(b) != want.String() {
		t.Errorf("to a file: %v, %d bytes in another order", err, len(b))
	}
	var stdout, stderr bytes.Buffer
	c = sh(target, "echo out; echo err >&2; echo again >/dev/stderr")
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Run(); err != nil || stdout.String() != "out\n" || stderr.String() != "err\nagain\n" {
		t.Errorf("%q, %q, %v", stdout.String(), stderr.String(), err)
	}
	// Writers that cannot be compared are two.
	type list struct {
		io.Writer
		_ []int
	}
	c = sh(target, "echo out; echo err >&2")
	c.Stdout, c.Stderr = list{Writer: &stdout}, list{Writer: &stderr}
	if err := c.Run(); err != nil || !strings.HasSuffix(stdout.String(), "out\n") || !strings.HasSuffix(stderr.String(), "err\n") {
		t.Errorf("%q, %q, %v", stdout.String(), stderr.String(), err)
	}
}

// What holds something that cannot be compared, behind an interface, is no
// reason to panic.
func TestSame(t *testing.T) {
	type holder struct{ any }
	var b bytes.Buffer
	a := onlyWriter{&b}
	inner := struct {
		io.Writer
		holder
	}{&b, holder{[]int{1}}}
	tests := []struct {
		name string
		a, b io.Writer
		want bool
	}{
		{"nothing", nil, nil, false}, {"one", &b, nil, false}, {"equal", &b, &b, true}, {"equal values", a, onlyWriter{&b}, true},
		{"others", &b, &bytes.Buffer{}, false}, {"of two types", a, &b, false}, {"not comparable at run time", inner, inner, false},
	}
	for _, test := range tests {
		if got := same(test.a, test.b); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

// The descriptors inside are pipes of the user who runs there, and no others.
func TestStreamsInside(t *testing.T) {
	testutil.NoLeaks(t)
	both(t, func(t *testing.T) {
		spec := throwaway.Spec{}
		if os.Geteuid() == 0 {
			spec = throwaway.Spec{User: true, UID: 1001, GID: 1002}
		}
		target := enter(t, spec)
		c, pid := sleeper(t, target, func(c *Cmd) { c.Stdin, c.Stdout, c.Stderr = os.Stdin, &bytes.Buffer{}, onlyWriter{os.Stderr} })
		var own unix.Stat_t
		for fd := range 3 {
			var st unix.Stat_t
			if err := unix.Stat(fmt.Sprintf("/proc/%d/fd/%d", pid, fd), &st); err != nil {
				t.Fatal(err)
			}
			if st.Mode&unix.S_IFMT != unix.S_IFIFO || st.Uid != c.plan.outside[0] || st.Gid != c.plan.outside[1] {
				t.Errorf("descriptor %d: mode %o of %d:%d, want a pipe of %v", fd, st.Mode, st.Uid, st.Gid, c.plan.outside)
			}
			if err := unix.Fstat(fd, &own); err == nil && own.Ino == st.Ino && own.Dev == st.Dev {
				t.Errorf("descriptor %d is the caller's", fd)
			}
		}
		// The command itself opens a file for a moment when it starts.
		await(t, "three descriptors and no more", func() bool {
			names, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
			return err == nil && len(names) == 3
		})
	})
}

// With PassStreams it is the caller's own.
func TestPassStreams(t *testing.T) {
	testutil.NoLeaks(t)
	target := enter(t, throwaway.Spec{})
	in, out := fileWith(t, "input"), fileWith(t, "")
	c := target.Command("cat")
	c.PassStreams, c.Stdin, c.Stdout, c.Stderr = true, in, out, out
	if err := c.Run(); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(out.Name()); err != nil || string(b) != "input" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := out.Stat(); err != nil {
		t.Errorf("the caller's file is closed: %v", err)
	}
}

// shellLoop runs a loop of the shell whose body is a command in the target, and
// returns what the loop reads.
func shellLoop(t *testing.T, target *Target, list *os.File, body string) string {
	t.Helper()
	loop := exec.Command("/bin/sh", "-c", fmt.Sprintf(`while read h; do "$0" __enter %d %s; echo "$h"; done`, target.PID(), body), self(t))
	loop.Stdin = list
	loop.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := loop.CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
	return string(out)
}

// while read h; do outband enter …; done < list: a command that does not read
// its input takes none of the list away; one that reads a part takes that.
func TestLoop(t *testing.T) {
	testutil.RequireRoot(t) // the test binary is in a directory of its own
	testutil.NoLeaks(t)
	target := enter(t, hostFiles())
	list := "one\ntwo\nthree\nfour\n"
	if got := shellLoop(t, target, fileWith(t, list), "true"); got != list {
		t.Errorf("the loop reads %q of %q", got, list)
	}
	if got := shellLoop(t, target, fileWith(t, list), "sh -c 'read x; echo $x'"); got != "two\none\nfour\nthree\n" {
		t.Errorf("with read the loop reads %q", got)
	}
	if got := shellLoop(t, target, fileWith(t, list), "cat"); got != "two\nthree\nfour\none\n" {
		t.Errorf("with cat the loop reads %q", got)
	}
	var long strings.Builder
	for i := range 5000 { // more than a pipe holds at first
		fmt.Fprintf(&long, "%032d\n", i)
	}
	f := fileWith(t, long.String())
	for want := range 3 {
		c := target.Command("head", "-c", "33")
		c.Stdin = f
		if out := run(t, c); out != fmt.Sprintf("%032d\n", want) {
			t.Errorf("%q, want %d", out, want)
		}
	}
}

// A reader that blocks for ever does not hold the end of the command.
func TestReaderThatBlocks(t *testing.T) {
	testutil.NoLeaks(t)
	target := enter(t, throwaway.Spec{})
	r, w := pipePair(t)
	for name, input := range map[string]io.Reader{"reader": onlyReader{r}, "pipe": r} {
		within(t, "a command with a "+name+" that blocks", func() {
			c := target.Command("true")
			c.Stdin = input
			if err := c.Run(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	w.Close() // the goroutine of the first ends
}

// brokenReader fails after some bytes.
type brokenReader struct{ io.Reader }

var errBroken = errors.New("broken")

func (b *brokenReader) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		err = errBroken
	}
	return n, err
}

// brokenWriter takes some bytes.
type brokenWriter struct{ left int }

func (b *brokenWriter) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, errBroken
	}
	return len(p), nil
}

// A stream that fails is told, unless the command itself has failed.
func TestBrokenStreams(t *testing.T) {
	testutil.NoLeaks(t)
	target := enter(t, hostFiles())
	c := target.Command("cat")
	c.Stdin = &brokenReader{strings.NewReader("some")}
	if out, err := c.Output(); !errors.Is(err, errBroken) || string(out) != "some" {
		t.Errorf("input: %q, %v, want %v", out, err, errBroken)
	}
	c = sh(target, "trap '' PIPE; i=0; while [ $i -lt 2000 ]; do echo 0123456789; i=$((i+1)); done 2>/dev/null; exit 0")
	c.Stdout = &brokenWriter{100}
	if err := c.Run(); !errors.Is(err, errBroken) {
		t.Errorf("output: %v, want %v", err, errBroken)
	}
	c = sh(target, "exit 3")
	c.Stdin = &brokenReader{strings.NewReader("")}
	var exit *ExitError
	if err := c.Run(); !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Errorf("the command's own failure: %v", err)
	}
	// A command that reads no more is no failure of the input.
	c = target.Command("true")
	c.Stdin = onlyReader{strings.NewReader(strings.Repeat("x", 1<<20))}
	if err := c.Run(); err != nil {
		t.Errorf("input that is not read: %v", err)
	}
}

// Half-close: the end of the input reaches the command, whose output goes on.
func TestHalfClose(t *testing.T) {
	testutil.NoLeaks(t)
	target := enter(t, hostFiles())
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"file": func(r io.Reader) io.Reader { return r }, "reader": func(r io.Reader) io.Reader { return onlyReader{r} },
	} {
		r, w := pipePair(t)
		c := sh(target, "cat; echo end of input; sleep 0.05; echo the rest")
		c.Stdin = wrap(r)
		var out bytes.Buffer
		c.Stdout = &out
		start(t, c)
		if _, err := io.WriteString(w, "text\n"); err != nil {
			t.Fatal(err)
		}
		w.Close()
		if err := c.Wait(); err != nil || out.String() != "text\nend of input\nthe rest\n" {
			t.Errorf("%s: %q, %v", name, out.String(), err)
		}
	}
}
