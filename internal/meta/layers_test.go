// SPDX-License-Identifier: Apache-2.0

package meta

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// A layer may import what is below it. ARCHITECTURE.md says what each is for.
type layer int

const (
	pure      layer = iota // 0: nothing but the standard library
	kernel                 // 1: system calls, no decisions
	knowledge              // 2
	core                   // 3a
	verbs                  // 3b: do not know each other
	programs               // 4: imported by nobody
	beside                 // for the demo and for tests: on layer 1, below programs
	tests                  // for tests alone
)

// layers is where each package belongs. One that is not here fails the test.
var layers = map[string]layer{
	"internal/safetext": pure,
	"internal/bolt":     pure,
	"internal/hint":     pure,
	"internal/share":    pure,

	"internal/sys":      kernel,
	"internal/forkexec": kernel,

	"ns":                knowledge,
	"engine":            knowledge,
	"engine/all":        knowledge,
	"engine/bare":       knowledge,
	"engine/containerd": knowledge,
	"engine/docker":     knowledge,
	"engine/lxc":        knowledge,
	"engine/nspawn":     knowledge,
	"engine/podman":     knowledge,
	"engine/oci":        knowledge,
	"internal/passwd":   knowledge,
	"internal/procfs":   knowledge,
	"internal/inits":    knowledge,
	"internal/confine":  knowledge,
	"internal/cgroup":   knowledge,
	"internal/feature":  knowledge,
	"internal/registry": knowledge,
	"internal/pty":      knowledge,

	".":       core,
	"pidtree": core,

	"doctor": verbs,
	"power":  verbs,

	"cmd/outband": programs,

	"internal/throwaway": beside,
	"internal/testutil":  tests,
	"internal/meta":      tests,
}

// sideways are the imports within a layer.
var sideways = map[string][]string{
	"internal/forkexec": {"internal/sys"},
	"engine":            {"ns", "internal/procfs"},
	"engine/all":        {"engine", "engine/bare", "engine/containerd", "engine/docker", "engine/lxc", "engine/nspawn", "engine/oci", "engine/podman"},
	"engine/bare":       {"engine", "internal/procfs"},
	"engine/containerd": {"engine", "internal/procfs"},
	"engine/docker":     {"engine", "internal/procfs"},
	"engine/lxc":        {"engine", "internal/procfs"},
	"engine/nspawn":     {"engine", "internal/procfs"},
	"engine/podman":     {"engine", "internal/procfs"},
	"engine/oci":        {"engine", "internal/procfs"},
	"internal/confine":  {"internal/procfs"},
	"internal/inits":    {"internal/procfs"},
	"internal/cgroup":   {"internal/procfs"},
}

// external are the modules of others that are linked, and who may import them.
var external = map[string][]string{
	"golang.org/x/sys": {
		".", "ns", "engine", "pidtree", "power", "internal/sys", "internal/forkexec", "internal/procfs", "internal/confine", "internal/cgroup",
		"internal/inits", "internal/registry", "internal/pty", "internal/throwaway", "internal/testutil", "cmd/outband",
		"doctor",
	},
	"github.com/spf13/cobra": {"cmd/outband"},
	"github.com/spf13/pflag": {"cmd/outband"},
}

// onlyTests is the part of the tree that holds nothing but tests.
const onlyTests = "test/"

func layerOf(path string) (layer, bool) {
	if strings.HasPrefix(path, onlyTests) {
		return tests, true
	}
	l, ok := layers[path]
	return l, ok
}

// mayImport tells whether package from may import package to, both by their
// paths in the module, in files that are no tests.
func mayImport(from, to string) bool {
	above, known := layerOf(from)
	below, also := layerOf(to)
	switch {
	case !known || !also:
		return false
	case above == tests:
		return true
	case above == beside:
		return below <= kernel
	case below == beside:
		return above == programs
	case above == below:
		return slices.Contains(sideways[from], to)
	}
	return below < above
}

// testMayImport is mayImport for test files, which may use what is beside the
// layers.
func testMayImport(from, to string) bool {
	l, ok := layerOf(to)
	return from == to || mayImport(from, to) || ok && l >= beside
}

// layerFaults says what is wrong with the imports of one package.
func layerFaults(path string, p pkg) (faults []string) {
	if _, ok := layerOf(path); !ok {
		return []string{path + " has no layer: give it one in internal/meta/layers_test.go and ARCHITECTURE.md"}
	}
	check := func(imports []string, may func(from, to string) bool, what string) {
		for _, i := range imports {
			if to, ok := local(i); ok && !may(path, to) {
				faults = append(faults, fmt.Sprintf("%s%s imports %s, which is not below it", path, what, to))
			}
		}
	}
	check(p.Imports, mayImport, "")
	check(p.TestImports, testMayImport, " (test)")
	check(p.XTestImports, testMayImport, " (test)")
	return faults
}

// TestLayers keeps imports pointing down.
func TestLayers(t *testing.T) {
	all := list(t)
	for _, path := range slices.Sorted(maps.Keys(all)) {
		name, ok := local(path)
		if !ok {
			continue
		}
		for _, fault := range layerFaults(name, all[path]) {
			t.Error(fault)
		}
	}
}

// TestModules keeps others' modules to those who may use them.
func TestModules(t *testing.T) {
	all := list(t)
	for path, p := range all {
		name, ok := local(path)
		if l, _ := layerOf(name); !ok || l == tests {
			continue
		}
		for _, i := range p.Imports {
			m := all[i].Module
			if m == nil || m.Path == module {
				continue
			}
			if !slices.Contains(external[m.Path], name) {
				t.Errorf("%s imports %s: not agreed on, see docs/adr/0003-dependencies.md", name, i)
			}
		}
	}
}

// notInLibrary is what an importer of the library must not get with it, at any
// depth.
var notInLibrary = map[string]string{
	"os/user":     "reads tables of whatever root it is in (A6)",
	"net":         "reads tables of whatever root it is in (A6)",
	"runtime/cgo": "loads code of whatever root it is in (A6)",
	"plugin":      "loads code of whatever root it is in (A6)",
	"os/exec":     "nothing is executed but through internal/forkexec",
	"log":         "a library does not print",
	"flag":        "a library reads no command line",
	"testing":     "it is for tests",
}

// notInProgram is the same for the program. (cobra brings net, without cgo.)
var notInProgram = map[string]string{
	"os/user":     notInLibrary["os/user"],
	"runtime/cgo": notInLibrary["runtime/cgo"],
	"plugin":      notInLibrary["plugin"],
	"testing":     notInLibrary["testing"],
	"net/http":    "its initialization runs at each start",
	"crypto/tls":  "its initialization runs at each start",
}

// closureFaults says what package p depends on that it must not.
func closureFaults(p pkg, banned map[string]string, modules []string, all map[string]pkg) (faults []string) {
	for _, dep := range p.Deps {
		if reason, ok := banned[dep]; ok {
			faults = append(faults, fmt.Sprintf("%s depends on %s, which %s", p.ImportPath, dep, reason))
		}
		if m := all[dep].Module; m != nil && m.Path != module && !slices.Contains(modules, m.Path) {
			faults = append(faults, fmt.Sprintf("%s depends on module %s", p.ImportPath, m.Path))
		}
	}
	return faults
}

// TestClosure keeps what is linked small and free of what reads or loads files
// by itself.
func TestClosure(t *testing.T) {
	all := list(t)
	for path, p := range all {
		name, ok := local(path)
		l, known := layerOf(name)
		if !ok || !known {
			continue
		}
		var faults []string
		switch {
		case l <= verbs:
			faults = closureFaults(p, notInLibrary, []string{"golang.org/x/sys"}, all)
		case l == programs:
			modules := []string{"golang.org/x/sys", "github.com/spf13/cobra", "github.com/spf13/pflag"}
			faults = closureFaults(p, notInProgram, modules, all)
		}
		for _, fault := range faults {
			t.Error(fault)
		}
	}
}

// TestLayerRulesBite shows that each rule refuses what it is for.
func TestLayerRulesBite(t *testing.T) {
	for _, c := range [][2]string{
		{"internal/sys", "internal/procfs"}, {"internal/safetext", "internal/sys"}, {"engine", "."}, {".", "pidtree"},
		{".", "cmd/outband"}, {"ns", "engine"}, {".", "internal/throwaway"}, {"cmd/outband", "internal/testutil"},
		{"internal/throwaway", "internal/procfs"}, {"new", "ns"}, {"ns", "new"},
	} {
		if faults := layerFaults(c[0], pkg{Imports: []string{module + "/" + c[1], "os"}}); (c[1] != ".") && len(faults) == 0 {
			t.Errorf("%s may import %s", c[0], c[1])
		}
		if mayImport(c[0], c[1]) {
			t.Errorf("%s may import %s", c[0], c[1])
		}
	}
	if !testMayImport("engine", "internal/testutil") || testMayImport("engine", "cmd/outband") {
		t.Error("tests may import the wrong things")
	}
	all := map[string]pkg{"x/y": {Module: &struct{ Path string }{"x"}}}
	if len(closureFaults(pkg{Deps: []string{"os/user", "x/y", "os"}}, notInLibrary, nil, all)) != 2 {
		t.Error("a dependency that is not allowed is not found")
	}
}
