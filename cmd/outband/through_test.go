// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/outband/outband/power"
)

// sh is a command that no engine has: what through does with a command is the
// same for all.
func sh(script string) power.Command { return power.Command{Args: []string{"sh", "-c", script}} }

// TestThrough: what it says comes back in one line, and how it failed.
func TestThrough(t *testing.T) {
	says, err := through(t.Context(), sh("echo one; echo two >&2"), 0)
	if says != "one two" || err != nil {
		t.Errorf("%q, %v", says, err)
	}
	_, err = through(t.Context(), sh("printf 'no such\\033[2J\\n'; exit 3"), 0)
	if !errors.Is(err, errEngine) || !strings.Contains(err.Error(), `exit status 3: no such\x1b[2J`) {
		t.Errorf("%v", err)
	}
	if _, err := through(t.Context(), power.Command{Args: []string{"no-such-engine"}}, 0); !errors.Is(err, errEngine) {
		t.Errorf("%v", err)
	}
}

// TestThroughAlone: it gets no terminal, no input and nothing of
// the environment that is not for it.
func TestThroughAlone(t *testing.T) {
	t.Setenv("SECRET", "hunter2")
	t.Setenv("LD_PRELOAD", "")
	t.Setenv("DOCKER_HOST", "unix:///run/d.sock")
	says, err := through(t.Context(), sh("env; cat; readlink /proc/self/fd/0; (: </dev/tty) 2>/dev/null || pwd"), 0)
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(says)
	if strings.Contains(says, "hunter2") || strings.Contains(says, "LD_PRELOAD") || !slices.Contains(words, "DOCKER_HOST=unix:///run/d.sock") {
		t.Errorf("its environment: %s", says)
	}
	if !strings.HasSuffix(says, " /dev/null /") {
		t.Errorf("input, terminal, directory: %s", says)
	}
}

// TestThroughDeadline: one that hangs is given up, with whatever holds its output.
func TestThroughDeadline(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := through(ctx, sh("exec sleep 20"), 0)
	if !errors.Is(err, context.DeadlineExceeded) || codeOf(err) != codeTimeout {
		t.Errorf("%v", err)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestThroughFlood: what is kept of what it says has an end.
func TestThroughFlood(t *testing.T) {
	says, err := through(t.Context(), sh("head -c 1000000 /dev/zero | tr '\\0' x; echo end"), 0)
	if err != nil || len(says) > engineSays || !strings.HasSuffix(says, "end") {
		t.Errorf("%d bytes, %v", len(says), err)
	}
}

// TestThroughUser: an engine of another user's runs as that user alone.
func TestThroughUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	t.Setenv("HOME", "/root")
	c := sh("id -u; id -g; echo $HOME $XDG_RUNTIME_DIR; grep CapEff /proc/self/status")
	for _, name := range []string{"nobody", "65534"} {
		c.User = name
		says, err := through(t.Context(), c, 0)
		if err != nil || !strings.HasPrefix(says, "65534 65534 /nonexistent /run/user/65534 CapEff: 0000000000000000") {
			t.Errorf("%s: %q, %v", name, says, err)
		}
	}
	for _, name := range []string{"no-such-user", "0x1", "-1", "4294967295"} {
		c.User = name
		if _, err := through(t.Context(), c, 0); !errors.Is(err, errEngine) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
