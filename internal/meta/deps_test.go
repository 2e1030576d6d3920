// SPDX-License-Identifier: Apache-2.0

package meta

import (
	"context"
	"errors"
	"go/ast"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// madeUp are files that ask for what nobody has.
var madeUp = map[string]bool{"internal/testutil/testutil_test.go": true, "test/lab/lab_test.go": true}

// TestPackages keeps the packages that tests require among those that make deps
// installs. Go itself comes first, from wherever its user has it; dash is part of
// every Debian.
func TestPackages(t *testing.T) {
	installed := []string{"golang", "dash"}
	for _, line := range regexp.MustCompile(`(?m)^need ([^#\n]+)`).FindAllStringSubmatch(read(t, "hack/deps"), -1) {
		installed = append(installed, strings.Fields(line[1])...)
	}
	if !slices.Contains(installed, "runc") {
		t.Fatalf("the list of hack/deps is not understood: %q", installed)
	}
	for _, s := range sources(t) {
		for _, name := range required(s) {
			if !slices.Contains(installed, name) && !madeUp[s.path] {
				t.Errorf("%s requires package %s, which hack/deps does not install", s.path, name)
			}
		}
	}
}

// TestDependencies keeps the modules that each go.mod asks for among those that were
// agreed on, in that version.
func TestDependencies(t *testing.T) {
	const decision = "docs/adr/0003-dependencies.md"
	agreed := read(t, decision)
	for _, file := range []string{"go.mod", "test/cri/go.mod"} {
		lines := regexp.MustCompile(`(?m)^\t(\S+) (v\S+)$`).FindAllStringSubmatch(read(t, file), -1)
		if len(lines) == 0 {
			t.Errorf("%s is not understood", file)
		}
		for _, line := range lines {
			if !strings.Contains(agreed, "| `"+line[1]+"` | "+line[2]+" |") {
				t.Errorf("%s has no line for %s %s", decision, line[1], line[2])
			}
		}
	}
}

// required are the packages that a file's calls of RequireCommand name, and its
// values of type Program, which test/lab has for what an engine needs.
func required(s source) (packages []string) {
	add := func(e ast.Expr) {
		if literal, ok := e.(*ast.BasicLit); ok {
			if p, err := strconv.Unquote(literal.Value); err == nil {
				packages = append(packages, p)
			}
		}
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			if len(n.Args) == 3 && nameOf(n.Fun) == "RequireCommand" {
				add(n.Args[2])
			}
		case *ast.CompositeLit:
			if list, ok := n.Type.(*ast.ArrayType); ok && nameOf(list.Elt) == "Program" {
				for _, e := range n.Elts {
					if p, ok := e.(*ast.CompositeLit); ok && len(p.Elts) == 2 {
						add(p.Elts[1])
					}
				}
			}
			if nameOf(n.Type) == "Program" && len(n.Elts) == 2 {
				add(n.Elts[1])
			}
		}
		return true
	})
	return packages
}

// nameOf is the last part of an identifier, "" of anything else.
func nameOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

// TestRequired shows that each way to name a package is seen.
func TestRequired(t *testing.T) {
	got := required(parse(t, "x.go", `package x
		var a = Program{"a", "one"}
		var b = []Program{{"b", "two"}, {"c", "three"}}
		var c = testutil.RequireCommand(t, "d", "four")`))
	if want := []string{"one", "two", "three", "four"}; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

// What stands in for the system's own tools while hack/deps runs: nothing is
// installed, root is asking, and apt-get tells what the policy said meanwhile.
var stubs = map[string]string{
	"dpkg-query": "exit 1",
	"id":         "echo 0",
	"apt-get": `case "$*" in *" update") exit 0;; esac
"$POLICY_RC_D" any start; echo "policy $?" >>"$LOG"
[ "$APT" = signal ] && kill -TERM "$PPID"
[ "$APT" = ok ]`,
}

// TestDepsPolicy shows that hack/deps lets no daemon start and leaves the
// policy as it was, whatever happens.
func TestDepsPolicy(t *testing.T) {
	const deny, allow = "#!/bin/sh\nexit 101\n", "#!/bin/sh\nexit 0\n"
	const ours = "#!/bin/sh\n# outband: make deps is at work\nexit 101\n"
	for _, c := range []struct {
		name, before, saved string // contents of the policy and of the one set aside, "" for none
		apt                 string
		after               string
	}{
		{"none before", "", "", "ok", ""},
		{"none before, apt fails", "", "", "fail", ""},
		{"none before, terminated", "", "", "signal", ""},
		{"one that denies", deny, "", "ok", deny},
		{"one that allows", allow, "", "ok", allow},
		{"one that allows, apt fails", allow, "", "fail", allow},
		{"one that allows, terminated", allow, "", "signal", allow},
		{"an earlier run was killed", ours, "", "ok", ""},
		{"an earlier run was killed over another", ours, allow, "ok", allow},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			policy, log := filepath.Join(dir, "policy-rc.d"), filepath.Join(dir, "log")
			write(t, policy, c.before)
			write(t, policy+".outband-saved", c.saved)
			for name, body := range stubs {
				write(t, filepath.Join(dir, "bin", name), "#!/bin/sh\n"+body+"\n")
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			cmd := exec.CommandContext(ctx, filepath.Join(root, "hack/deps"))
			cmd.Env = []string{"PATH=" + filepath.Join(dir, "bin") + ":/usr/sbin:/usr/bin:/sbin:/bin",
				"POLICY_RC_D=" + policy, "LOG=" + log, "APT=" + c.apt}
			out, err := cmd.CombinedOutput()
			if (err == nil) != (c.apt == "ok") {
				t.Errorf("%v\n%s", err, out)
			}
			if got := content(t, log); got != "policy 101\n" {
				t.Errorf("while packages were installed: %q", got)
			}
			if got := content(t, policy); got != c.after {
				t.Errorf("the policy afterwards is %q, not %q", got, c.after)
			}
			if left := content(t, policy+".outband-saved"); left != "" {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

// write makes an executable file, none where there is no content.
func write(t *testing.T, path, content string) {
	t.Helper()
	if content == "" {
		return
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o755)); err != nil {
		t.Fatal(err)
	}
}

// content returns a file's content, "" where there is no file.
func content(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(data)
}
