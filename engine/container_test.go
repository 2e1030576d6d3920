// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
)

// fake is an engine that says what it is told to.
type fake struct {
	name string
	list []Container
	err  error
	hang chan struct{}
}

func (f fake) Name() string { return f.name }

func (f fake) List(context.Context, *Host) ([]Container, error) {
	if f.hang != nil {
		<-f.hang
	}
	return f.list, f.err
}

var (
	idA = strings.Repeat("ab12", 16)
	idB = strings.Repeat("ab34", 16)
)

// running is a container with an init of this number.
func running(engine, name, id string, pid int) Container {
	return Container{Engine: engine, Name: name, ID: id, State: Running, Init: Init{PID: pid, Start: 1}}
}

// Doubles are one container, which the outermost engine names.
func TestMerge(t *testing.T) {
	all := merge([][]Container{
		{running("docker", "web", idA, 10), {Engine: "docker", Name: "old", ID: idB, State: Stopped}},
		{running("containerd", "moby/"+idA, idA, 10), running("containerd", "default/c1", "c1", 11), {Engine: "containerd", Name: idB, ID: idB, State: Stopped}},
		{running("runc", idA, idA, 10)},
		{running(Bare, "pid:10", "7", 10), running(Bare, "pid:12", "8", 12)},
	})
	var names []string
	for i := range all {
		names = append(names, fmt.Sprintf("%s %d", all[i].FullName(), len(all[i].Also)))
	}
	if want := []string{"docker:web 2", "docker:old 0", "containerd:default/c1 0", "pid:12 0"}; !slices.Equal(names, want) {
		t.Errorf("%q, want %q", names, want)
	}
}

// TestMatch: which container a name means.
func TestMatch(t *testing.T) {
	pod := running("containerd", "shop/cart/app", idB, 20)
	sandbox, ended := running("containerd", "shop/cart/POD", strings.Repeat("2a", 32), 22), running("containerd", "shop/done/app", strings.Repeat("2b", 32), 0)
	holder := running("containerd", "shop/done/POD", strings.Repeat("2c", 32), 23) // of a pod whose container has ended
	for _, c := range []*Container{&pod, &sandbox, &ended, &holder} {
		c.Pod = true
	}
	rootless := running("podman", "web", strings.Repeat("cd", 32), 21)
	rootless.User = "ann"
	stopped := Container{Engine: "docker", Name: "db", ID: strings.Repeat("ef", 32), State: Stopped}
	all := merge([][]Container{
		{running("docker", "web", idA, 10), stopped}, {running("podman", "db", strings.Repeat("01", 32), 11), rootless}, {sandbox, pod, holder, ended},
		{running("containerd", "moby/"+idA, idA, 10)}, {running("runc", "c1", "c1", 12)}, {running("crun", "c1", "c1", 13)}, {running(Bare, "pid:14", "4026532000", 14)},
	})
	tests := []struct {
		name string
		want []int
	}{
		{"web", []int{10}}, {"docker:web", []int{10}}, {"podman:web", nil}, {"podman@ann:web", []int{21}}, {"podman@bob:web", nil},
		{"docker:db", []int{0}}, {"db", []int{11}}, // the one that runs
		{"ab12", []int{10}}, {"ab34", []int{20}}, {"ab", []int{10, 20}}, {"docker:ab", []int{10}}, {"cd", nil}, {"podman@ann:cdcd", []int{21}},
		{"containerd:moby/" + idA, []int{10}}, {"containerd:ab12", []int{10}}, {"c1", []int{12, 13}}, {"runc:c1", []int{12}}, {"c", nil},
		{"pod:shop/cart/app", []int{20}}, {"pod:shop/cart", []int{20}}, {"pod:shop/cart/POD", []int{22}}, {"pod:shop/done", []int{0}}, {"pod:shop", nil}, {"pod:shop/car", nil}, {"shop/cart/app", []int{20}},
		{"pid", nil}, {"4026532000", nil}, {"bare:pid:14", nil},
	}
	for _, test := range tests {
		prefix, rest, ok := strings.Cut(test.name, ":")
		if !ok {
			prefix, rest = "", test.name
		}
		var got []int
		for _, c := range match(all, prefix, rest) {
			got = append(got, c.Init.PID)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

// Names lead to processes, or to an error that says which.
func TestResolveNames(t *testing.T) {
	testutil.NoLeaks(t)
	proc := openProc(t)
	a, b := testutil.Throwaway(t, throwaway.Spec{}), testutil.Throwaway(t, throwaway.Spec{})
	list := func(c *throwaway.Container, engine, name string) Container {
		tasks := proc.Rescan(t.Context(), true, c.Pid())
		return Container{Engine: engine, Name: name, ID: name, State: Running, Init: initFrom(tasks[0])}
	}
	reused := list(b, "docker", "reused")
	reused.Init.Start--
	engines := []Engine{
		fake{name: "docker", list: []Container{list(a, "docker", "web"), reused, {Engine: "docker", Name: "off", State: Stopped}}},
		fake{name: "podman", list: []Container{list(b, "podman", "web"), list(b, "podman", "one")}},
		fake{name: "broken", err: errors.New("it is broken")},
	}
	tests := []struct {
		name string
		want int
		err  error
		says string
	}{
		{"docker:web", a.Pid(), nil, ""}, {"podman:web", b.Pid(), nil, ""}, {"one", b.Pid(), nil, ""},
		{"web", 0, ErrAmbiguous, "more than one container: web: docker:web, podman:web"},
		{"off", 0, ErrNotRunning, "not running: container docker:off"}, {"reused", 0, ErrNotFound, "it has ended"},
		{"docker:nope", 0, ErrNotFound, "no such container: container docker:nope"}, {"nope", 0, ErrNotFound, "broken: list containers: it is broken"},
		{"lxc:web", 0, ErrInvalid, `there is no engine called "lxc"`}, {"docker:", 0, ErrNotFound, ""},
	}
	for _, test := range tests {
		p, err := Resolve(context.Background(), proc, test.name, "", engines...)
		if !errors.Is(err, test.err) || err != nil && !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v, want %v, %q", test.name, err, test.err, test.says)
		}
		if err == nil {
			if p.PID != test.want {
				t.Errorf("%s: %d, want %d", test.name, p.PID, test.want)
			}
			p.Close()
		}
	}
}

// Numbers are looked up without any engine, which could only take time.
func TestPidAsksNobody(t *testing.T) {
	testutil.NoLeaks(t)
	proc := openProc(t)
	c := testutil.Throwaway(t, throwaway.Spec{})
	asked := fake{name: "docker", hang: make(chan struct{})}
	close(asked.hang)
	asked.err = errors.New("it was asked")
	for _, name := range []string{fmt.Sprint(c.Pid()), fmt.Sprintf("pid:%d", c.Pid()), fmt.Sprintf("/proc/%d/ns/pid", c.Pid())} {
		p, err := Resolve(context.Background(), proc, name, "", panics{})
		if err != nil {
			t.Fatal(err)
		}
		p.Close()
	}
}

// panics is an engine that must not be asked.
type panics struct{ Engine }

func (panics) Name() string { return "panics" }

// An engine that hangs is told, and keeps nobody else from answering (A27).
func TestHangingEngine(t *testing.T) {
	testutil.NoLeaks(t)
	hang := make(chan struct{})
	defer close(hang)
	engines := []Engine{fake{name: "dead", hang: hang}, fake{name: "docker", list: []Container{{Engine: "docker", Name: "off", State: Stopped}}}}
	all, err := List(context.Background(), engines)
	var told *Error
	if len(all) != 1 || !errors.Is(err, ErrDeadline) || !errors.As(err, &told) || told.Engine != "dead" {
		t.Errorf("%v, %v", all, err)
	}
}

// TestFacts: a number in an engine's state counts only with what else it says.
func TestFacts(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "proc/10"), 0o755); err != nil {
		t.Fatal(err)
	}
	groups := "1:pids:/docker/" + idA + "\n0::/system.slice/docker-" + idB + ".scope\n"
	if err := os.WriteFile(filepath.Join(root, "proc/10/cgroup"), []byte(groups), 0o600); err != nil {
		t.Fatal(err)
	}
	h := Recorded(root, []procfs.Task{{PID: 10, Parent: 3, Start: 77, NSpid: []int{10, 1}}, {PID: 11, Parent: 3, Start: 78, NSpid: []int{11, 1}}})
	for _, test := range []struct {
		facts Facts
		ok    bool
	}{
		{Facts{PID: 10, Start: 77}, true}, {Facts{PID: 10, Start: 76}, false}, {Facts{PID: 12, Start: 77}, false}, {Facts{PID: 10}, false},
		{Facts{PID: 10, Cgroup: idA}, true}, {Facts{PID: 10, Cgroup: idB}, true}, {Facts{PID: 10, Cgroup: idA[:63]}, false}, {Facts{PID: 10, Cgroup: "docker"}, true},
		{Facts{PID: 11, Cgroup: idA}, false}, {Facts{PID: 10, Parent: 3}, true}, {Facts{PID: 10, Parent: 4}, false},
		{Facts{PID: 0, Start: 77}, false}, {Facts{PID: -1, Start: 77}, false}, {Facts{PID: 10, Start: 77, Cgroup: "nope"}, false},
	} {
		if init, err := h.Init(test.facts); (err == nil) != test.ok || test.ok && init.PID != test.facts.PID {
			t.Errorf("%+v: %+v, %v", test.facts, init, err)
		}
	}
}

// What a user's engine says of a process in somebody else's user namespace does
// not count (A20).
func TestFactsOwner(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	c := testutil.Throwaway(t, throwaway.Spec{})
	h := NewHost(openProc(t), nil)
	tasks, err := h.Tasks(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(tasks, func(t procfs.Task) bool { return t.PID == c.Pid() })
	if _, err := h.Init(Facts{PID: c.Pid(), Start: tasks[i].Start}); err != nil {
		t.Errorf("root's: %v", err)
	}
	if _, err := h.Init(Facts{PID: c.Pid(), Start: tasks[i].Start, Owner: 1000}); err == nil {
		t.Error("root's container is taken for user 1000's")
	}
}

// TestTrust: which files are an engine's state.
func TestTrust(t *testing.T) {
	testutil.RequireRoot(t)
	dir := t.TempDir()
	file := func(name string, uid int, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, []byte("x"), 0o600), os.Chown(path, uid, 0), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	fifo := filepath.Join(dir, "fifo")
	link := filepath.Join(dir, "link")
	if err := errors.Join(unix.Mkfifo(fifo, 0o600), os.Symlink(file("another's", 1001, 0o600), link)); err != nil {
		t.Fatal(err)
	}
	h := NewHost(nil, []procfs.Task{})
	for _, test := range []struct {
		path  string
		owner uint32
		ok    bool
	}{
		{file("root's", 0, 0o644), 0, true}, {file("root's, for a user", 0, 0o644), 1000, true}, {file("the user's", 1000, 0o600), 1000, true},
		{file("a user's for root", 1000, 0o600), 0, false}, {file("open to the group", 0, 0o664), 0, false}, {file("open to all", 0, 0o646), 0, false},
		{link, 1000, false}, {fifo, 0, false}, {dir, 0, false}, {"/dev/zero", 0, false}, {filepath.Join(dir, "none"), 0, false},
	} {
		if _, err := h.ReadFile(test.path, test.owner); (err == nil) != test.ok {
			t.Errorf("%s: %v", filepath.Base(test.path), err)
		}
	}
	if _, err := h.ReadFile(fifo, 0); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("a pipe: %v", err)
	}
	if names, err := h.ReadDir(dir, 0); err != nil || !slices.Contains(names, "root's") {
		t.Errorf("%q, %v", names, err)
	}
}

func TestParsePasswd(t *testing.T) {
	got := parsePasswd("root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\nann2:x:1000:1000::/:/\n-x:x:1001:1:::\nbad\n" +
		"b\x1bd:x:1002:1::/:\nx:x:-1:1::/:\nrel:x:1003:1::home:\n")
	want := map[uint32]account{0: {"root", "/root"}, 1000: {"ann", "/home/ann"}, 1003: {"rel", ""}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func FuzzParsePasswd(f *testing.F) {
	f.Add("root:x:0:0:root:/root:/bin/sh\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, a := range parsePasswd(text) {
			if !plain(a.name) || a.home != "" && !filepath.IsAbs(a.home) {
				t.Errorf("%+v", a)
			}
		}
	})
}

// A20: what a user's engine says does not hide root's container with the same id.
func TestDropEndedOfOthers(t *testing.T) {
	id := strings.Repeat("a", 64)
	theirs := Container{Engine: "docker", User: "mallory", Name: "x", ID: id, State: Stopped}
	roots := Container{Engine: "podman", Name: "db", ID: id, State: Stopped}
	inner := Container{Engine: "crun", Name: id, ID: id, State: Stopped}
	all := merge([][]Container{{theirs}, {roots}, {inner}})
	if len(all) != 2 || all[0].Name != "x" || all[1].Name != "db" {
		t.Errorf("%+v", all)
	}
}
