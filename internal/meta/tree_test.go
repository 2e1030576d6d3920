// SPDX-License-Identifier: Apache-2.0

package meta

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/outband/outband/internal/testutil"
)

const (
	root   = "../.."
	module = "github.com/outband/outband"
)

// walk calls visit with every file of the repository, by its path from the
// root, but for what is built, recorded or fixed input.
func walk(t *testing.T, visit func(path string)) {
	t.Helper()
	skip := map[string]bool{".git": true, "bin": true, "testdata": true, "vendor": true}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // another program's temporary file
			return nil
		case err != nil:
			return err
		case d.IsDir() && skip[d.Name()]:
			return filepath.SkipDir
		case !d.IsDir():
			name, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			visit(name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// source is a parsed Go file.
type source struct {
	path string // from the root
	file *ast.File
}

// pkg is the package's path in the module, "." for the root.
func (s source) pkg() string { return filepath.ToSlash(filepath.Dir(s.path)) }

func (s source) isTest() bool { return strings.HasSuffix(s.path, "_test.go") }

func parse(t *testing.T, path, content string) source {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, content, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	return source{path, file}
}

// sources parses every Go file of the module, whatever it is built for.
func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	walk(t, func(path string) {
		if strings.HasSuffix(path, ".go") {
			all = append(all, parse(t, path, read(t, path)))
		}
	})
	return all
}

// pkg is what go list tells of a package.
type pkg struct {
	ImportPath   string
	Standard     bool
	Module       *struct{ Path string }
	Imports      []string
	TestImports  []string
	XTestImports []string
	Deps         []string
	Error        *struct{ Err string }
}

// list asks go list about the packages of the module and all they depend on,
// without cgo, as the program is built.
func list(t *testing.T) map[string]pkg {
	t.Helper()
	tool := testutil.RequireCommand(t, "go", "golang")
	cmd := exec.CommandContext(t.Context(), tool, "list", "-e", "-deps",
		"-json=ImportPath,Standard,Module,Imports,TestImports,XTestImports,Deps,Error", "./...")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]pkg{}
	decoder := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if p.Error != nil {
			t.Errorf("%s: %s", p.ImportPath, p.Error.Err)
		}
		all[p.ImportPath] = p
	}
}

// local is the path in the module, "." for the root; ok is false for packages
// of others.
func local(importPath string) (path string, ok bool) {
	if importPath == module {
		return ".", true
	}
	return strings.CutPrefix(importPath, module+"/")
}
