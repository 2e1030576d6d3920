// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/outband/outband/internal/procfs"
)

// TestNamed: stopped containers have names too, running ones come first.
func TestNamed(t *testing.T) {
	stopped := func(engine, name, id string) Container {
		return Container{Engine: engine, Name: name, ID: id, State: Stopped}
	}
	idC, idD := strings.Repeat("cd12", 16), strings.Repeat("cd34", 16)
	all := []Container{
		running("docker", "web", idA, 10), stopped("podman", "web", idB),
		stopped("docker", "db", idC), stopped("docker", "old", idD), stopped("podman", "old", strings.Repeat("ef", 32)),
		stopped("lxc", "twin", "twin"), stopped("lxc", "twin", "twin"),
	}
	for name, want := range map[string]string{
		"web": "docker:web", "podman:web": "podman:web", "db": "docker:db", "cd12": "docker:db", "docker:old": "docker:old",
	} {
		if c, err := Named(all, name); err != nil || c.FullName() != want {
			t.Errorf("%s: %v, %v; want %s", name, c, err, want)
		}
	}
	for name, want := range map[string]error{
		"nope": ErrNotFound, "pid:10": ErrNotFound, "10": ErrNotFound, "/proc/10/ns/pid": ErrNotFound, "nspawn:web": ErrNotFound,
		"cd": ErrAmbiguous, "old": ErrAmbiguous, "twin": ErrAmbiguous, "": ErrInvalid, "-a": ErrInvalid, "a/b": ErrNotFound, "../b": ErrInvalid,
	} {
		if c, err := Named(all, name); !errors.Is(err, want) {
			t.Errorf("%q: %v, %v; want %v", name, c, err, want)
		}
	}
	if _, err := Named(all, "old"); !strings.Contains(err.Error(), "docker:old, podman:old") {
		t.Errorf("without the choices: %v", err)
	}
}

// fixed is an engine whose containers are these.
type fixed []Container

func (fixed) Name() string { return "docker" }

func (f fixed) List(context.Context, *Host) ([]Container, error) { return f, nil }

// TestNamesLikeOthers: namespace/name is a name, and digits are a process; where
// there is none, the container that is called so is told.
func TestNamesLikeOthers(t *testing.T) {
	proc := openProc(t)
	self, ok := NewHost(proc, nil).task(os.Getpid())
	if !ok {
		t.Fatal("the test is no process")
	}
	const number = "1073741824" // no process has it
	known := fixed{{Engine: "docker", Name: "default/cache", Init: initFrom(self)}, {Engine: "docker", Name: number, State: Stopped}}
	p, err := Resolve(t.Context(), proc, "default/cache", "", known)
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	_, err = Resolve(t.Context(), proc, number, "", known)
	var way interface{ Hint() string }
	if !errors.Is(err, ErrNotFound) || !errors.As(err, &way) || !strings.Contains(way.Hint(), "docker:"+number) {
		t.Errorf("%v", err)
	}
}

// late is an engine that does not answer.
type late struct{ quiet }

func (late) List(ctx context.Context, _ *Host) ([]Container, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestNotFoundOut: that there is no such container is said where all were asked.
func TestNotFoundOut(t *testing.T) {
	proc := openProc(t)
	_, err := Resolve(t.Context(), proc, "nope", "", late{}, quiet{})
	if !errors.Is(err, ErrDeadline) || errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "could not be found out") {
		t.Errorf("an engine that does not answer: %v", err)
	}
	h := NewHost(proc, nil)
	h.scan = func(context.Context) ([]procfs.Task, error) {
		return []procfs.Task{{PID: 1 << 22, NSpid: []int{1 << 22}, Start: 1}}, procfs.ErrIncomplete
	}
	if _, err := h.initNamed(t.Context(), []Engine{scanner{}}, "", "nope", "nope"); !errors.Is(err, procfs.ErrIncomplete) || errors.Is(err, ErrNotFound) {
		t.Errorf("processes that do not answer: %v", err)
	}
}
