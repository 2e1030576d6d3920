// SPDX-License-Identifier: Apache-2.0

package cve

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/outband/outband"
	"github.com/outband/outband/engine"
	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/test/cve/rig"
)

// badNames are options, shell text, lines and paths. Those that can be a file's
// name are also announced as a container's, so that a lookup would find them.
var badNames = []string{
	"-oProxyCommand=x", "--", "--help", "$(id)", "`id`", "a\nb", "a b", "a;b", "a|b", "\x1b[2J", "\x7f", ".", "..",
	"../x", "a/b", "x\xff", "", strings.Repeat("a", 4096),
}

// TestA22 enters by these names.
func TestA22(t *testing.T) {
	begin(t)
	c := testutil.Throwaway(t, throwaway.Spec{})
	tool := rig.Build(t)
	announceAll(t, tool, c.Pid())
	for _, name := range badNames {
		r := tool.Run("enter", "-n", "--", name, "echo", "evil")
		if r.Code != 125 || r.Out != "" || r.Hung || strings.Count(r.Err, "\n") > 2 || strings.ContainsAny(r.Err, "\x1b\x7f\xff") {
			t.Errorf("%.20q: %+v", name, r)
		}
	}
	if _, err := outband.Open(t.Context(), "a\x00b"); !errors.Is(err, outband.ErrInvalid) {
		t.Errorf("NUL: %v", err)
	}
	mutant := rig.Build(t, rig.Change{File: "engine/engine.go", Old: "if err := check(name); err != nil {", New: "if err := error(nil); err != nil {"})
	announceAll(t, mutant, c.Pid())
	for _, name := range []string{"-oProxyCommand=x", "--help", "$(id)", "a\nb", "\x1b[2J"} {
		if r := mutant.Run("enter", "-n", "--", name, "echo", "evil"); r.Out != "evil\n" {
			t.Errorf("the mutant does not look up %q either: %+v", name, r)
		}
	}
}

// announceAll makes a container known by all bad names that the file system
// has.
func announceAll(t *testing.T, tool *rig.Tool, pid int) {
	t.Helper()
	for _, name := range badNames {
		if name == "" || len(name) > 200 || strings.ContainsRune(name, '/') {
			continue
		}
		forget, err := engine.Announce(tool.RunDir, name, pid)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(forget)
	}
}

// TestA22Words passes such text on as arguments, which it reaches the command
// as.
func TestA22Words(t *testing.T) {
	begin(t)
	c := testutil.Throwaway(t, throwaway.Spec{})
	r := rig.Build(t).Run(append([]string{"enter", "-n", fmt.Sprint(c.Pid()), "echo"}, badNames...)...)
	if want := strings.Join(badNames, " ") + "\n"; r.Code != 0 || r.Out != want {
		t.Errorf("got %q, %+v", r.Out, r)
	}
}

// TestA22NUL has an environment file in which a NUL would end an entry early.
func TestA22NUL(t *testing.T) {
	begin(t)
	c := testutil.Throwaway(t, throwaway.Spec{})
	file := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(file, []byte("WORD=a\x00b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := rig.Build(t).Run("enter", "-n", fmt.Sprint(c.Pid()), "--env-file", file, "env"); r.Code != 125 || r.Out != "" {
		t.Errorf("%+v", r)
	}
	mutant := rig.Build(t, rig.Change{File: "plan.go", Old: "if strings.ContainsRune(s, 0) {", New: "if false {"})
	if r := mutant.Run("enter", "-n", fmt.Sprint(c.Pid()), "--env-file", file, "env"); !strings.Contains(r.Out, "WORD=a\n") {
		t.Errorf("the mutant does not cut it either: %+v", r)
	}
}
