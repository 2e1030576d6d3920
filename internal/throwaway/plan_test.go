// SPDX-License-Identifier: Apache-2.0

package throwaway

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCompileDefaults(t *testing.T) {
	p, err := compile(Spec{})
	if err != nil {
		t.Fatal(err)
	}
	want := &plan{Spec: Spec{
		Args: []string{"init"}, Env: []string{"PATH=/bin", "HOME=/root"}, Namespaces: Default, Umask: 0o022,
	}}
	if !reflect.DeepEqual(p, want) {
		t.Errorf("got  %+v\nwant %+v", p, want)
	}
	if p, err = compile(Spec{User: true, Env: []string{}}); err != nil || p.Namespaces != Default|unix.CLONE_NEWUSER || len(p.Env) != 0 {
		t.Errorf("with a user namespace: %+v, %v", p, err)
	}
	if p, err = compile(Spec{Namespaces: Default | unix.CLONE_NEWUSER}); err != nil || !p.User {
		t.Errorf("with CLONE_NEWUSER: %+v, %v", p, err)
	}
}

// TestCompileDepth checks which level gets what.
func TestCompileDepth(t *testing.T) {
	p, err := compile(Spec{
		Name: "web", Depth: 3, User: true, ReadOnly: true, UID: 7, Args: []string{"sleep", "1"}, Stdout: os.Stdout,
		UIDMap: []IDMap{{ContainerID: 7, HostID: 1000, Size: 1}}, Cgroups: []string{"/c"},
		Inner: []Spec{{Name: "job", Stdout: os.Stdout}},
	})
	if err != nil {
		t.Fatal(err)
	}
	const kept = unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUSER
	var got []string
	for q := p; q != nil; {
		got = append(got, fmt.Sprintf("%d %s %v tree=%d ro=%v uid=%d std=%v map=%d cgroups=%d own=%v",
			q.ID, q.Name, q.Args, q.Tree, q.ReadOnly, q.UID, q.Std[1], len(q.UIDMap), len(q.Cgroups),
			q.Namespaces != kept))
		if len(q.Inner) == 0 {
			break
		}
		q = q.Inner[0]
	}
	want := []string{
		"0 web [init] tree=0 ro=true uid=0 std=false map=1 cgroups=1 own=true",
		"1 web [init] tree=1 ro=false uid=0 std=false map=0 cgroups=0 own=false",
		"2 web [sleep 1] tree=1 ro=false uid=7 std=true map=0 cgroups=0 own=false",
		"3 job [init] tree=0 ro=false uid=0 std=false map=0 cgroups=0 own=true",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if !p.keeps(1) || p.keeps(0) {
		t.Error("the outer levels do not pass on what the innermost one keeps")
	}
}

// TestPlanTravels sends a plan the way that stages get it.
func TestPlanTravels(t *testing.T) {
	p, err := compile(Spec{
		Depth: 2, Env: []string{}, Rlimits: map[int]unix.Rlimit{unix.RLIMIT_CORE: {Cur: 1, Max: 2}},
		DropCaps: 1 << 63, Workers: [][]string{{"sleep", "1"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var got plan
	if err := json.Unmarshal(data, &got); err != nil || !reflect.DeepEqual(&got, p) {
		t.Errorf("got  %+v\nwant %+v, %v", got, p, err)
	}
}

func TestCompileRefuses(t *testing.T) {
	one := []IDMap{{ContainerID: 0, HostID: 0, Size: 1}}
	for _, test := range []struct {
		want string
		spec Spec
	}{
		{"64 bytes", Spec{Name: strings.Repeat("x", 65)}},
		{"NUL", Spec{Name: "a\x00b"}},
		{"depth -1", Spec{Depth: -1}},
		{"depth 1000", Spec{Depth: 1000}},
		{"pid namespace", Spec{Depth: 2, Namespaces: unix.CLONE_NEWNS}},
		{"/proc of their own", Spec{Depth: 2, User: true, Tree: TreeHost}},
		{"mount namespace", Spec{Namespaces: unix.CLONE_NEWPID}},
		{"tree of its own", Spec{Tree: TreeHost, ReadOnly: true}},
		{"tree of its own", Spec{Tree: TreeShared, NoDevpts: true}},
		{"tree of its own", Spec{Tree: TreeShared, Chroot: true}},
		{"no mount", Spec{Chroot: true, ReadOnly: true}},
		{"user namespace", Spec{UIDMap: one}},
		{"user namespace", Spec{DenySetgroups: true}},
		{"no command", Spec{Workers: [][]string{{}}}},
		{"no command", Spec{Inner: []Spec{{Workers: [][]string{{}}}}}},
	} {
		if p, err := compile(test.spec); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: got %+v, %v", test.want, p, err)
		}
	}
}

// TestCompileLeavesSpec checks that a Spec can be used again.
func TestCompileLeavesSpec(t *testing.T) {
	spec := Spec{Depth: 2, Inner: []Spec{{Stdout: os.Stdout}}}
	if _, err := compile(spec); err != nil {
		t.Fatal(err)
	}
	if spec.Inner[0].Stdout == nil || spec.Args != nil {
		t.Errorf("compile has changed the spec: %+v", spec)
	}
}

func TestIDMaps(t *testing.T) {
	for _, test := range []struct {
		text  string
		first int
		inner string // what a container inside gets of it; "" is an error
	}{
		{"         0     100000      65536\n", 0, "[{0 0 65536}]"},
		{"1000 0 1\n", 1000, "[{1000 1000 1}]"},
		{"5 0 1\n0 70000 3\n", 0, "[{5 5 1} {0 0 3}]"},
		{"", 0, "[]"},
		{"1 2\n", 0, ""},
		{"x 0 1\n", 0, ""},
	} {
		ids, err := parseIDMap(test.text)
		if got := fmt.Sprint(identity(ids)); (err != nil) != (test.inner == "") || err == nil && got != test.inner {
			t.Errorf("%q: got %s, %v", test.text, got, err)
		}
		if got := firstID(ids); err == nil && got != test.first {
			t.Errorf("%q: first is %d", test.text, got)
		}
	}
}
