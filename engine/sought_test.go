// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/outband/outband/internal/procfs"
)

// Only the places are asked in which what is sought can be.
func TestPlacesSought(t *testing.T) {
	root := t.TempDir()
	passwd := "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\nbob:x:1001:1001::/home/bob:/bin/sh\n" +
		"carl:x:1002:1002::/home/carl:/bin/sh\nwww:x:33:33::/var/www:/bin/sh\nnobody:x:65534:65534::/nonexistent:/bin/sh\nnohome:x:1003:1003:::/bin/sh\n"
	for path, text := range map[string]string{"etc/passwd": passwd, "run/user/1000/x": "", "run/user/1001/x": "", "run/user/40/x": ""} {
		path = filepath.Join(root, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name, user string
		want       []string
	}{{"", "", []string{"", "ann", "bob", "40", "carl"}}, {"web", "", []string{""}}, {"web", "ann", []string{"ann"}}, {"web", "carl", []string{"carl"}}, {"web", "eve", nil}} {
		var got []string
		for _, p := range Recorded(root, nil).Seek(test.name, test.user).Places() {
			got = append(got, p.User)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%+v: %q", test, got)
		}
	}
}

// A process that lets its readers wait takes no other's place, and is told once.
func TestIncomplete(t *testing.T) {
	h := NewHost(openProc(t), nil)
	h.scan = func(ctx context.Context) ([]procfs.Task, error) {
		<-ctx.Done()
		return []procfs.Task{{PID: 1 << 22, NSpid: []int{1 << 22, 1}, Start: 1, State: 'R'}}, procfs.ErrIncomplete
	}
	var got string
	var brief, narrow bool
	all, err := h.List(t.Context(), []Engine{fussy{&got, &brief, &narrow}, scanner{}, scanner{}})
	if len(all) != 1 || !errors.Is(err, procfs.ErrIncomplete) || strings.Count(err.Error(), "\n") != 0 {
		t.Errorf("%+v, %v", all, err)
	}
}

// Engines are not given the time that it takes to read all processes.
func TestSlowProcesses(t *testing.T) {
	h := NewHost(openProc(t), nil)
	h.scan = func(ctx context.Context) ([]procfs.Task, error) {
		select {
		case <-ctx.Done():
			return nil, procfs.ErrIncomplete
		case <-time.After(askTime + askTime/3):
			return []procfs.Task{{PID: 1 << 22, NSpid: []int{1 << 22, 1}, Start: 1, State: 'R'}}, nil
		}
	}
	if all, err := h.List(t.Context(), []Engine{scanner{}}); len(all) != 1 || err != nil {
		t.Errorf("%+v, %v", all, err)
	}
}

// A container whose first process may be among those that were not read is not said
// to have ended.
func TestIncompleteStopped(t *testing.T) {
	for _, failed := range []error{nil, procfs.ErrIncomplete} {
		h := NewHost(openProc(t), nil)
		h.scan = func(context.Context) ([]procfs.Task, error) {
			return []procfs.Task{{PID: 1 << 22, NSpid: []int{1 << 22}, Start: 1}}, failed
		}
		_, err := h.initNamed(t.Context(), []Engine{keeper{}}, "", "web", "web")
		if errors.Is(err, ErrNotRunning) != (failed == nil) || errors.Is(err, procfs.ErrIncomplete) != (failed != nil) || !strings.Contains(err.Error(), "keeper:web") {
			t.Errorf("%v: %v", failed, err)
		}
	}
}

// keeper is an engine whose container has no first process that is seen.
type keeper struct{ quiet }

func (keeper) List(ctx context.Context, h *Host) ([]Container, error) {
	_, err := h.Tasks(ctx)
	return []Container{{Engine: "keeper", Name: "web", ID: "web", State: Stopped}}, err
}

// scanner is an engine whose containers are all first processes.
type scanner struct{ quiet }

func (scanner) List(ctx context.Context, h *Host) (all []Container, err error) {
	tasks, err := h.Tasks(ctx)
	for _, t := range tasks {
		if len(t.NSpid) > 1 {
			all = append(all, Container{Engine: "scanner", Name: "x", Init: initFrom(t)})
		}
	}
	return all, err
}

// fussy is an engine that tells what it was asked for.
type fussy struct {
	sought *string
	brief  *bool
	narrow *bool
}

func (fussy) Name() string { return "fussy" }

func (f fussy) List(ctx context.Context, h *Host) ([]Container, error) {
	*f.sought, *f.brief = h.Sought(), h.Brief()
	_, err := h.Daemons(ctx, "fussyd", 0)
	h.mu.Lock()
	*f.narrow = h.tasks == nil
	h.mu.Unlock()
	return nil, err
}

// TestSought: what a name needs is asked, and no more.
func TestSought(t *testing.T) {
	var got string
	var brief, narrow bool
	f := fussy{&got, &brief, &narrow}
	proc := openProc(t)
	ask := func(name string, engines ...Engine) {
		if _, err := Resolve(t.Context(), proc, name, "", engines...); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if ask("fussy:web", f, quiet{}); got != "web" || !brief || !narrow {
		t.Errorf("one engine: %q, %v, %v", got, brief, narrow)
	}
	if ask("web", f, quiet{}); got != "web" || !brief || narrow {
		t.Errorf("all: %q, %v, %v", got, brief, narrow)
	}
	if _, err := Names(t.Context(), []Engine{f}); err != nil || got != "" || !brief {
		t.Errorf("names: %q, %v, %v", got, brief, err)
	}
	if _, err := List(t.Context(), []Engine{f}); err != nil || got != "" || brief {
		t.Errorf("list: %q, %v, %v", got, brief, err)
	}
}

// quiet is an engine without containers.
type quiet struct{}

func (quiet) Name() string { return "quiet" }

func (quiet) List(context.Context, *Host) ([]Container, error) { return nil, nil }
