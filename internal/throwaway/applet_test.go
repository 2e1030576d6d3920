// SPDX-License-Identifier: Apache-2.0

package throwaway

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// run calls an applet in this process.
func run(in string, args ...string) (code int, out, errOut string) {
	var o, e bytes.Buffer
	code = applets()[args[0]](&call{args, strings.NewReader(in), &o, &e})
	return code, o.String(), e.String()
}

func TestApplet(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("OUTBAND_TEST_APPLET", "1")
	self := fmt.Sprintf("\n%5d %5d ", os.Getpid(), os.Getppid())
	for _, test := range []struct {
		args string
		in   string
		code int
		out  string // a part of it
		err  string
	}{
		{"true", "", 0, "", ""},
		{"false", "", 1, "", ""},
		{"exit", "", 0, "", ""},
		{"exit 7", "", 7, "", ""},
		{"exit 256", "", 1, "", "exit: "},
		{"exit -1", "", 1, "", "exit: "},
		{"sleep 0", "", 0, "", ""},
		{"sleep", "", 1, "", "sleep: "},
		{"sleep x", "", 1, "", "sleep: "},
		{"echo a b", "", 0, "a b\n", ""},
		{"echo", "", 0, "\n", ""},
		{"cat", "typed", 0, "typed", ""},
		{"cat " + file + " " + file, "", 0, "texttext", ""},
		{"cat /no/such/file", "", 1, "", "cat: open /no/such/file: "},
		{"env", "", 0, "OUTBAND_TEST_APPLET=1\n", ""},
		{"pwd", "", 0, dir + "\n", ""},
		{"id", "", 0, fmt.Sprintf("uid=%d gid=%d groups=", os.Geteuid(), os.Getegid()), ""},
		{"ps", "", 0, self, ""},
		{"status", "", 0, fmt.Sprintf("\nPid:\t%d\n", os.Getpid()), ""},
	} {
		code, out, errOut := run(test.in, strings.Fields(test.args)...)
		if code != test.code || !strings.Contains(out, test.out) || test.out == "" && out != "" ||
			!strings.HasPrefix(errOut, test.err) || test.err == "" && errOut != "" {
			t.Errorf("%s: exit %d, %q, %q", test.args, code, out, errOut)
		}
	}
}

// limited is a reader that goes away, as that of a pipe does.
type limited struct{ left int }

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left < 0 {
		return 0, errors.New("broken pipe")
	}
	return len(p), nil
}

func TestYesEnds(t *testing.T) {
	var errOut bytes.Buffer
	l := &limited{1 << 20}
	if code := runYes(&call{[]string{"yes"}, nil, l, &errOut}); code != 1 || l.left >= 0 || errOut.Len() == 0 {
		t.Errorf("exit %d, %d bytes left, %q", code, l.left, errOut.String())
	}
}

// TestPrintable checks that ps gives no control of the terminal away (A17).
func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{
		"plain ümlaut": "plain ümlaut", "a\x1b]52;c\x07": "a?]52;c?", "a\nb\rc\td": "a?b?c?d",
		"\u202eright-to-left": "?right-to-left", "\u200bwide": "?wide", "\x9b1m": "\ufffd1m", "\u009b1m": "?1m",
	} {
		if got := printable(text); got != want {
			t.Errorf("%q became %q", text, got)
		}
	}
}
