// SPDX-License-Identifier: Apache-2.0

package meta

import (
	"fmt"
	"go/ast"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const threatModel = "docs/threat-model.md"

var (
	linkPattern    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	codePattern    = regexp.MustCompile("(?s)```.*?```|`[^`\n]+`")
	headingPattern = regexp.MustCompile(`(?m)^#+ (.+)$`)
	classPattern   = regexp.MustCompile(`\bA[1-9][0-9]?\b`)
	classHeading   = regexp.MustCompile(`(?m)^### (A[1-9][0-9]?) · `)
	wherePattern   = regexp.MustCompile("`([\\w/]+\\.go)` \\((\\w+(?:, \\w+)*)\\)")
	testPattern    = regexp.MustCompile(`\b(?:Test|Fuzz|Benchmark)[A-Z]\w*`)
	makePattern    = regexp.MustCompile(`\bmake ([a-z][a-z-]*(?: [a-z][a-z-]*)*)`)
	targetPattern  = regexp.MustCompile(`(?m)^([a-z][a-z-]*):`)
	pathPattern    = regexp.MustCompile(`^(?:\.ci|cmd|docs|engine|hack|internal|ns|pidtree|test)/[\w./*-]*$|^[A-Za-z][\w-]*\.(?:go|md)$`)
)

// documents are the paths of all *.md files.
func documents(t *testing.T) []string {
	t.Helper()
	var docs []string
	walk(t, func(path string) {
		if strings.HasSuffix(path, ".md") {
			docs = append(docs, path)
		}
	})
	return docs
}

// slug is the anchor that a heading has on the usual forges.
func slug(heading string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(heading) {
		switch {
		case r == ' ' || r == '-':
			b.WriteByte('-')
		case r == '_' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			b.WriteRune(r)
		}
	}
	return b.String()
}

// linkFaults says which links of a document lead nowhere. read returns another
// document's text, ok is false where there is no such file.
func linkFaults(path, text string, read func(path string) (text string, ok bool)) (faults []string) {
	for _, m := range linkPattern.FindAllStringSubmatch(codePattern.ReplaceAllString(text, ""), -1) {
		if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
			continue
		}
		file, anchor, _ := strings.Cut(m[1], "#")
		target := text
		if file != "" {
			var ok bool
			if target, ok = read(filepath.Join(filepath.Dir(path), file)); !ok || strings.HasPrefix(file, "/") {
				faults = append(faults, fmt.Sprintf("%s: link to %s, which is not there", path, m[1]))
				continue
			}
		}
		found := anchor == ""
		for _, h := range headingPattern.FindAllStringSubmatch(target, -1) {
			found = found || slug(h[1]) == anchor
		}
		if !found {
			faults = append(faults, fmt.Sprintf("%s: link to %s: no such heading", path, m[1]))
		}
	}
	return faults
}

// TestLinks keeps the links of documents leading somewhere.
func TestLinks(t *testing.T) {
	exists := func(path string) (string, bool) {
		info, err := os.Stat(filepath.Join(root, path))
		if err != nil || info.IsDir() {
			return "", err == nil
		}
		return read(t, path), true
	}
	for _, path := range documents(t) {
		for _, fault := range linkFaults(path, read(t, path), exists) {
			t.Error(fault)
		}
	}
}

// classes are those that the threat model has.
func classes(text string) map[string]bool {
	all := map[string]bool{}
	for _, m := range classHeading.FindAllStringSubmatch(text, -1) {
		all[m[1]] = true
	}
	return all
}

// TestClasses keeps the classes that code and documents name explained, and
// each explanation complete.
func TestClasses(t *testing.T) {
	text := read(t, threatModel)
	known := classes(text)
	check := func(path, text string) {
		for _, id := range classPattern.FindAllString(text, -1) {
			if !known[id] {
				t.Errorf("%s: class %s is not in %s", path, id, threatModel)
			}
		}
	}
	for _, s := range sources(t) {
		check(s.path, comments(s.file))
	}
	for _, path := range documents(t) {
		check(path, read(t, path))
	}
	for _, section := range classHeading.Split(text, -1)[1:] {
		for _, part := range []string{"- Attack: ", "- Defence: ", "- Where: `", "- Test: "} {
			if !strings.Contains(section, "\n"+part) {
				title, _, _ := strings.Cut(section, "\n")
				t.Errorf("%s: %q has no line %q", threatModel, title, part)
			}
		}
	}
	for _, fault := range untoldTests(text, testNames(sources(t))) {
		t.Error(fault)
	}
	if len(known) == 0 {
		t.Errorf("%s has no classes", threatModel)
	}
}

// untoldTests says which tests that are called after a class are not named in
// that class's section.
func untoldTests(text string, tests map[string]bool) (faults []string) {
	ids := classHeading.FindAllStringSubmatch(text, -1)
	for i, section := range classHeading.Split(text, -1)[1:] {
		for _, name := range slices.Sorted(maps.Keys(tests)) {
			rest, ok := strings.CutPrefix(name, "Test"+ids[i][1])
			if ok && !(rest != "" && rest[0] >= '0' && rest[0] <= '9') && !strings.Contains(section, "`"+name+"`") {
				faults = append(faults, fmt.Sprintf("%s: class %s does not name %s", threatModel, ids[i][1], name))
			}
		}
	}
	return faults
}

// TestWhere keeps the functions that the threat model names where it says.
func TestWhere(t *testing.T) {
	functions := map[string]bool{}
	for _, s := range sources(t) {
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				functions[s.path+" "+f.Name.Name] = true
			}
		}
	}
	found := wherePattern.FindAllStringSubmatch(read(t, threatModel), -1)
	for _, m := range found {
		for name := range strings.SplitSeq(m[2], ", ") {
			if !functions[m[1]+" "+name] {
				t.Errorf("%s: %s has no function %s", threatModel, m[1], name)
			}
		}
	}
	if len(found) == 0 {
		t.Errorf("%s names no function", threatModel)
	}
}

// testNames are the tests, fuzz tests and benchmarks of the module.
func testNames(all []source) map[string]bool {
	names := map[string]bool{}
	for _, s := range all {
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && s.isTest() && f.Recv == nil {
				names[f.Name.Name] = true
			}
		}
	}
	return names
}

// nameFaults says what a document names in code that is not there: a test, a
// target of the Makefile, a file.
func nameFaults(path, text string, tests, targets map[string]bool, exists func(path string) bool) (faults []string) {
	fault := func(what, name string) {
		faults = append(faults, fmt.Sprintf("%s: %s %s is not there", path, what, name))
	}
	for _, span := range codePattern.FindAllString(text, -1) {
		for _, name := range testPattern.FindAllString(span, -1) {
			if !tests[name] {
				fault("test", name)
			}
		}
		for _, m := range makePattern.FindAllStringSubmatch(span, -1) {
			for target := range strings.SplitSeq(m[1], " ") {
				if !targets[target] {
					fault("make target", target)
				}
			}
		}
		if name := strings.Trim(span, "`"); pathPattern.MatchString(name) && !exists(name) {
			fault("file", name)
		}
	}
	return faults
}

// TestNames keeps documents to tests, targets and files that exist.
func TestNames(t *testing.T) {
	names := testNames(sources(t))
	targets := map[string]bool{}
	for _, m := range targetPattern.FindAllStringSubmatch(read(t, "Makefile"), -1) {
		targets[m[1]] = true
	}
	exists := func(path string) bool {
		found, err := filepath.Glob(filepath.Join(root, path))
		return err == nil && len(found) > 0
	}
	for _, path := range documents(t) {
		for _, fault := range nameFaults(path, read(t, path), names, targets, exists) {
			t.Error(fault)
		}
	}
}

// TestLayersAreDescribed keeps the table of ARCHITECTURE.md complete.
func TestLayersAreDescribed(t *testing.T) {
	text := read(t, "ARCHITECTURE.md")
	for _, path := range slices.Sorted(maps.Keys(layers)) {
		if path != "." && !strings.Contains(text, "`"+path+"/`") {
			t.Errorf("ARCHITECTURE.md does not say what %s is", path)
		}
	}
}

// TestDocumentRulesBite shows that each rule finds what it is for.
func TestDocumentRulesBite(t *testing.T) {
	page := func(path string) (string, bool) { return "# One · two\n", path == "docs/there.md" }
	for text, bad := range map[string]bool{
		"[a](there.md)": false, "[a](gone.md)": true, "[a](/there.md)": true, "[a](https://example.org/x)": false,
		"[a](there.md#one--two)": false, "[a](there.md#three)": true, "`[a](gone.md)`": false,
		"# Here\n[a](#here)": false, "# Here\n[a](#there)": true,
	} {
		if faults := linkFaults("docs/x.md", text, page); len(faults) > 0 != bad {
			t.Errorf("%q: found %q", text, faults)
		}
	}
	there := map[string]bool{"TestA": true, "build": true}
	for text, bad := range map[string]bool{
		"`TestA/sub`": false, "`TestB`": true, "TestB": false, "`make build`": false, "`make build tea`": true, "`make build-tea`": true,
		"`make build X=1`": false, "```\nmake tea   # for two\n```": true, "`internal/gone`": true, "`gone.go`": true,
		"`internal/there`": false, "we make tea": false,
	} {
		exists := func(path string) bool { return path == "internal/there" }
		if faults := nameFaults("x.md", text, there, there, exists); len(faults) > 0 != bad {
			t.Errorf("%q: found %q", text, faults)
		}
	}
	untold := untoldTests("### A1 · x\n`TestA1`\n### A14 · y\n", map[string]bool{"TestA1": true, "TestA14": true, "TestA1Lurker": true})
	if len(untold) != 2 {
		t.Errorf("tests without a place: %q", untold)
	}
	if got := classes("### A1 · x\n### A43 · y\n## A2 · z\n"); len(got) != 2 || !got["A43"] {
		t.Errorf("classes: %v", got)
	}
}
