// SPDX-License-Identifier: Apache-2.0

package cve

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/test/cve/rig"
)

// TestA20 has containers that make themselves look like another one: host name,
// process name, arguments, the last part of the cgroup's path, a file where names
// are kept. The one that is named is entered, or none.
func TestA20(t *testing.T) {
	begin(t)
	top := sessionGroup(t, true)
	dir := func(parts ...string) string {
		d := filepath.Join(append([]string{top}, parts...)...)
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
		return d
	}
	web := throwaway.Spec{Name: "web", Args: []string{"sleep", "infinity"}}
	real, false1, false2 := web, web, web
	real.Cgroups, false1.Cgroups, false2.Cgroups = []string{dir("web")}, []string{dir("evil", "web")}, []string{dir("evil", "twin")}
	b, a, c := testutil.Throwaway(t, real), testutil.Throwaway(t, false1), testutil.Throwaway(t, false2)
	for _, p := range []int{a.Pid(), b.Pid(), c.Pid()} { // each tells who it is
		if err := os.WriteFile(rootPath(p, "/etc/who"), fmt.Append(nil, p), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	planted := errors.Join(os.MkdirAll(rootPath(a.Pid(), "/run/outband"), 0o755), os.WriteFile(rootPath(a.Pid(), "/run/outband/web"), fmt.Append(nil, a.Pid()), 0o644))
	if planted != nil {
		t.Fatal(planted)
	}
	tool := rig.Build(t)
	path := "cgroup:" + unifiedPath(t, b.Pid())
	mutant := rig.Build(t, rig.Change{File: "engine/bare.go", Old: `in = in || strings.TrimRight(g.Path, "/") == path ||`,
		New: `in = in || strings.HasSuffix(g.Path, path[strings.LastIndexByte(path, '/'):]) ||`})
	if r := tool.Run("enter", "-n", path, "cat", "/etc/who"); r.Code != 0 || r.Out != fmt.Sprint(b.Pid()) {
		t.Errorf("%s: %+v, want %d", path, r, b.Pid())
	}
	if r := mutant.Run("enter", "-n", path, "cat", "/etc/who"); r.Out == fmt.Sprint(b.Pid()) {
		t.Errorf("the mutant knows them apart: %+v", r)
	}
	if r := tool.Run("inspect", "cgroup:"+filepath.Dir(unifiedPath(t, a.Pid()))); r.Code != 3 || !strings.Contains(r.Err, "more than one") {
		t.Errorf("two that fit: %+v", r)
	}
	for _, name := range []string{"web", "demo", "sleep", "demo:web"} { // none was announced by anybody who may
		if r := tool.Run("enter", name, "true"); r.Code != 125 || !strings.Contains(r.Err, "no such container") {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// unifiedPath is where a process is in the unified hierarchy.
func unifiedPath(t *testing.T, pid int) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, path, _ := strings.Cut("\n"+string(text), "\n0::")
	path, _, _ = strings.Cut(path, "\n")
	return path
}
