// SPDX-License-Identifier: Apache-2.0

package meta

import (
	"fmt"
	"go/ast"
	"path"
	"slices"
	"strings"
	"testing"
)

// unsafeElsewhere are files outside of layer 1 that may use unsafe, each with
// the reason.
var unsafeElsewhere = map[string]string{}

// A ban is a set of names that some packages must not use.
type ban struct {
	names  []string // "package.Name"; a final * stands for the rest
	free   func(path string) bool
	reason string
}

func bans() []ban {
	inLayer := func(ls ...layer) func(string) bool {
		return func(p string) bool { l, ok := layerOf(p); return ok && slices.Contains(ls, l) }
	}
	nobody := func(string) bool { return false }
	return []ban{
		{[]string{"unix.Syscall*", "unix.RawSyscall*", "syscall.Syscall*", "syscall.RawSyscall*", "syscall.AllThreadsSyscall*"},
			inLayer(kernel, tests), "raw system calls are layer 1's"},
		{[]string{"unix.Kill", "unix.Tgkill", "syscall.Kill", "os.FindProcess"},
			nobody, "a number may be another process's by now: signals go through pidfds (A19)"},
		{[]string{"os.Exit", "os.Args", "os.Getenv", "os.LookupEnv", "os.Environ", "os.Stdin", "os.Stdout", "os.Stderr", "fmt.Print*"},
			inLayer(programs, beside, tests), "a library neither prints nor reads the command line and the environment"},
	}
}

// rawStreams are the functions of the program that may touch its standard
// streams other than through internal/safetext (A17), each with the reason.
var rawStreams = map[string]string{
	"cmd/outband/main.go run":        "makes the sink",
	"cmd/outband/style.go canvas":    "drawings have colours of our own; their pieces pass row.add",
	"cmd/outband/progress.go follow": "the line is erased by sequences of our own; its text passes row.add",
	"cmd/outband/enter.go apply":     "they are the command's own, relayed byte by byte",

	"cmd/outband/terminal.go wantsTerminal": "asks whether they are a terminal",
	"cmd/outband/terminal.go useTerminal":   "asks whether they are a terminal",
	"cmd/outband/terminal.go windowSize":    "asks how large they are",
	"cmd/outband/demo.go atTerminal":        "asks whether they are a terminal",
}

// streamFaults says where the program prints past its sink.
func streamFaults(s source) (faults []string) {
	if layers[s.pkg()] != programs {
		return nil
	}
	for _, d := range s.file.Decls {
		f, _ := d.(*ast.FuncDecl)
		ast.Inspect(d, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, _ := sel.X.(*ast.Ident)
			if x == nil {
				return true
			}
			name := x.Name + "." + sel.Sel.Name
			printed := strings.HasPrefix(name, "fmt.Print") || name == "syscall.Write" || name == "unix.Write"
			raw := name == "os.Stdout" || name == "os.Stderr"
			if printed || raw && (f == nil || rawStreams[s.path+" "+f.Name.Name] == "") {
				faults = append(faults, s.path+": "+name+": what is printed passes internal/safetext (A17)")
			}
			return true
		})
	}
	return faults
}

// planFiles are those that make a plan, which performs no system call.
var planFiles = []string{"plan.go", "identity.go"}

// sourceFaults says what is wrong with one file that is no test.
func sourceFaults(s source) (faults []string) {
	fault := func(format string, args ...any) {
		faults = append(faults, s.path+": "+fmt.Sprintf(format, args...))
	}
	imports := map[string]string{} // name in the file to last part of the path
	for _, i := range s.file.Imports {
		p := strings.Trim(i.Path.Value, `"`)
		name := path.Base(p)
		if i.Name != nil {
			name = i.Name.Name
		}
		imports[name] = path.Base(p)
		if p == "C" {
			fault("cgo: the program is static (A6)")
		}
		if p == "unsafe" && !mayBeUnsafe(s) {
			fault("unsafe is for files of layer 1 called …_unsafe.go")
		}
	}
	if !mayBeUnsafe(s) && strings.Contains(comments(s.file), "go:linkname") {
		fault("linkname is for files of layer 1 called …_unsafe.go")
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Name.Name == "init" && n.Recv == nil {
				fault("there are no init functions")
			}
		case *ast.SelectorExpr:
			if reason := banned(s, imports, n); reason != "" {
				fault("%s: %s", n.Sel.Name, reason)
			}
		case *ast.CallExpr:
			if name, ok := called(imports, n); ok && slices.Contains(planFiles, s.path) && !strings.HasPrefix(name, "unix.E") {
				fault("calls %s: a plan performs no system call", name)
			}
		}
		return true
	})
	return faults
}

func mayBeUnsafe(s source) bool {
	if _, ok := unsafeElsewhere[s.path]; ok {
		return true
	}
	return layers[s.pkg()] == kernel && strings.HasSuffix(s.path, "_unsafe.go")
}

// comments returns a file's comments, directives included.
func comments(f *ast.File) string {
	var b strings.Builder
	for _, group := range f.Comments {
		for _, c := range group.List {
			b.WriteString(c.Text + "\n")
		}
	}
	return b.String()
}

// banned returns why the file must not use a name, or "".
func banned(s source, imports map[string]string, n *ast.SelectorExpr) string {
	x, ok := n.X.(*ast.Ident)
	if !ok || imports[x.Name] == "" {
		return ""
	}
	name := imports[x.Name] + "." + n.Sel.Name
	for _, b := range bans() {
		if b.free(s.pkg()) {
			continue
		}
		for _, pattern := range b.names {
			prefix, open := strings.CutSuffix(pattern, "*")
			if name == pattern || open && strings.HasPrefix(name, prefix) {
				return b.reason
			}
		}
	}
	return ""
}

// called returns the name of a function of a package that asks the kernel.
func called(imports map[string]string, n *ast.CallExpr) (name string, ok bool) {
	f, ok := n.Fun.(*ast.SelectorExpr)
	if !ok {
		return "", false
	}
	x, ok := f.X.(*ast.Ident)
	if !ok || !slices.Contains([]string{"unix", "syscall", "os", "sys"}, imports[x.Name]) {
		return "", false
	}
	return imports[x.Name] + "." + f.Sel.Name, true
}

// TestSources keeps the rules of ARCHITECTURE.md that a file can break alone.
func TestSources(t *testing.T) {
	for _, s := range sources(t) {
		first, _, _ := strings.Cut(read(t, s.path), "\n")
		if first != "// SPDX-License-Identifier: Apache-2.0" {
			t.Errorf("%s: the first line is not the licence's", s.path)
		}
		if s.isTest() {
			continue
		}
		for _, fault := range append(sourceFaults(s), streamFaults(s)...) {
			t.Error(fault)
		}
	}
	for path, reason := range unsafeElsewhere {
		if read(t, path); reason == "" {
			t.Errorf("%s: no reason", path)
		}
	}
}

// TestSourceRulesBite shows that each rule refuses what it is for, and no more.
func TestSourceRulesBite(t *testing.T) {
	for _, c := range []struct {
		path, code string
		bad        bool
	}{
		{"engine/x.go", `import "unsafe"; var _ unsafe.Pointer`, true},
		{"engine/x_unsafe.go", `import "unsafe"; var _ unsafe.Pointer`, true},
		{"internal/sys/x.go", `import "unsafe"; var _ unsafe.Pointer`, true},
		{"internal/sys/x_unsafe.go", `import "unsafe"; var _ unsafe.Pointer`, false},
		{"internal/sys/x.go", "import _ \"os\"\n//go:linkname a b\nfunc a()", true},
		{"ns/x.go", `import "C"`, true},
		{"ns/x.go", `import "golang.org/x/sys/unix"; var _ = unix.RawSyscall6`, true},
		{"ns/x.go", `import u "golang.org/x/sys/unix"; var _ = u.Syscall`, true},
		{"internal/sys/x.go", `import "golang.org/x/sys/unix"; var _ = unix.RawSyscall6`, false},
		{"cmd/outband/x.go", `import "golang.org/x/sys/unix"; var _ = unix.Kill`, true},
		{"cmd/outband/x.go", `import "os"; var _ = os.FindProcess`, true},
		{"cmd/outband/x.go", `import "os"; var _ = os.Exit`, false},
		{"cmd/outband/x.go", `import "os"; var _ = os.Stdout`, true},
		{"cmd/outband/x.go", `import ("fmt"; "os"); func f() { fmt.Fprintln(os.Stderr) }`, true},
		{"cmd/outband/x.go", `import "fmt"; func f() { fmt.Println() }`, true},
		{"cmd/outband/main.go", `import "os"; func run() { _ = os.Stdout }`, false},
		{"cmd/outband/main.go", `import "os"; func walk() { _ = os.Stdout }`, true},
		{"cmd/outband/x.go", `import ("fmt"; "io"); func f(w io.Writer) { fmt.Fprintln(w) }`, false},
		{"test/x/x.go", `import "fmt"; func f() { fmt.Println() }`, false},
		{"engine/x.go", `import "os"; var _ = os.Getenv`, true},
		{"engine/x.go", `import "fmt"; var _ = fmt.Println`, true},
		{"engine/x.go", `import "fmt"; var _ = fmt.Sprint`, false},
		{"engine/x.go", `func init() {}`, true},
		{"engine/x.go", `type t int; func (t) init() {}`, false},
		{"plan.go", `import "golang.org/x/sys/unix"; var _ = unix.Getpid()`, true},
		{"plan.go", `import "golang.org/x/sys/unix"; var _ = unix.CAP_SETUID`, false},
		{"plan.go", `import "os"; var _, _ = os.Open("x")`, true},
	} {
		s := parse(t, c.path, "package x\n"+c.code)
		faults := append(sourceFaults(s), streamFaults(s)...)
		if len(faults) > 0 != c.bad {
			t.Errorf("%s: %s: found %q", c.path, c.code, faults)
		}
	}
}
