// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/outband/outband"
	"github.com/outband/outband/engine"
	"github.com/outband/outband/internal/hint"
	"github.com/outband/outband/internal/procfs"
)

// TestExitCodes: what verbs other than enter exit with, what they say, and the way
// out (ruling 27).
func TestExitCodes(t *testing.T) {
	for _, row := range []struct {
		args string // with dots for spaces within a word
		full bool   // nothing can be written to standard output
		code int
		says string
		hint string
	}{
		{"sessions end nope", false, codeNotFound, "session nope: no such session", "outband sessions lists them"},
		{"pid /proc/99999999/ns/pid 1", false, codeNotFound, "no such container", "outband ls "},
		{"pid /nonexistent 1", false, codeNotFound, "no such container", "outband ls "},
		{"pid nope 1", false, codeNotFound, "no such container", "outband ls "},
		{"pid default/nope 1", false, codeNotFound, "no such container", "outband ls "},
		{"pid /etc/passwd 1", false, codeMisuse, "/etc/passwd is no namespace", ""},
		{"pid /dev/null 1", false, codeMisuse, "/dev/null is no namespace", ""},
		{"pid / 1", false, codeMisuse, "/ is no namespace", ""},
		{"pid a\nb 1", false, codeMisuse, `pid a\nb: not the name of a container: "a\nb": `, ""},
		{"pid web a\nb", false, codeMisuse, `"a\nb" is no process number`, ""},
		{"version", true, codeFailed, "no space left", ""},
		{"version -o json", true, codeFailed, "no space left", ""},
		{"completion bash", true, codeFailed, "no space left", ""},
		{"version -o xml", false, codeMisuse, "no output format", "outband version --help"},
		{"completion nosuch", false, codeMisuse, `unknown command "nosuch"`, "outband --help"},
		{"help nosuch", false, codeMisuse, `there is no verb "nosuch"`, "outband --help"},
		{"help ls nosuch", false, codeMisuse, `there is no verb "ls nosuch"`, "outband ls --help"},
		{"help ls", false, 0, "", ""},
		{"help", false, 0, "", ""},
		{"completion", false, 0, "", ""},
		{"nope", false, codeMisuse, "unknown command", "outband --help"},
		{"--version", false, codeMisuse, "unknown flag", "outband --help"},
	} {
		cmd := exec.Command(os.Args[0], append([]string{"--run-dir", t.TempDir()}, strings.Split(row.args, " ")...)...)
		cmd.Args[0] = "outband"
		var errs strings.Builder
		cmd.Stderr = &errs
		if row.full {
			full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer full.Close()
			cmd.Stdout = full
		}
		_ = cmd.Run()
		_, hint, _ := strings.Cut(errs.String(), "\nhint: ")
		if cmd.ProcessState.ExitCode() != row.code || !strings.Contains(errs.String(), row.says) || (hint != "") != (row.hint != "") || !strings.HasPrefix(hint, row.hint) {
			t.Errorf("%q: %v: %s", row.args, cmd.ProcessState, errs.String())
		}
	}
}

// TestFailure: errors that come from elsewhere have the code and the way out that
// they have in every verb.
func TestFailure(t *testing.T) {
	stopped := func(kind, name string) error {
		return &engine.NotRunningError{Container: engine.Container{Engine: kind, Name: name}}
	}
	for _, row := range []struct {
		err  error
		code int
		hint string
	}{
		{fmt.Errorf("docker: %w", engine.ErrDeadline), codeTimeout, ""},
		{fmt.Errorf("host: %w", procfs.ErrIncomplete), codeTimeout, ""},
		{stopped("docker", "db"), codeNotFound, "outband power docker:db on"},
		{stopped("docker", "x; id #"), codeNotFound, "outband power 'docker:x; id #' on"}, // A22
		{stopped("containerd", "db"), codeNotFound, ""},
		{fmt.Errorf("%w: x", engine.ErrNotFound), codeNotFound, "outband ls shows what there is, with -a also what does not run"},
		{hint.With(engine.ErrNotFound, "its own"), codeNotFound, "its own"},
		{asOwner(os.ErrPermission), codeFailed, "a container belongs to root or to the user who started it: try as that user, or as root"},
		{fmt.Errorf("%w: something", errNotEnded), codeTimeout, ""},
		{errors.New("else"), codeFailed, ""},
	} {
		err := failure("verb x", row.err)
		var failed *verbError
		if !errors.As(err, &failed) || failed.code != row.code || outband.Hint(err) != row.hint {
			t.Errorf("%v: %+v, %q", row.err, failed, outband.Hint(err))
		}
	}
}
