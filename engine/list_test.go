// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"
)

// refusing is an engine of which several things cannot be read.
type refusing struct{ name string }

func (r refusing) Name() string { return r.name }

func (r refusing) List(context.Context, *Host) ([]Container, error) {
	return nil, errors.Join(&fs.PathError{Op: "open", Path: "/a", Err: fs.ErrPermission}, &fs.PathError{Op: "open", Path: "/b", Err: fs.ErrExist})
}

// What cannot be asked is told in a line for each engine, in one line where a name
// is not found, and can be told apart.
func TestRefusing(t *testing.T) {
	engines := []Engine{refusing{"x"}, refusing{"y"}}
	h := Recorded(t.TempDir(), nil)
	_, err := h.List(t.Context(), engines)
	want := "x: list containers: open /a: permission denied; open /b: file already exists"
	if lines := strings.Split(err.Error(), "\n"); len(lines) != 2 || lines[0] != want {
		t.Errorf("%q, want %q", lines, want)
	}
	_, named := h.initNamed(t.Context(), engines, "", "web", "web")
	for _, err := range []error{err, named} {
		var asked *Error
		if !errors.As(err, &asked) || asked.Engine != "x" || !errors.Is(err, fs.ErrPermission) || !errors.Is(err, fs.ErrExist) {
			t.Errorf("%v", err)
		}
	}
	if !errors.Is(named, ErrNotFound) || strings.Contains(named.Error(), "\n") || !strings.Contains(named.Error(), want+"; y: ") {
		t.Errorf("%v", named)
	}
}

// A file that may be looked up and not read is told by the path that people know:
// this setting can only be written, even by root.
func TestUnreadable(t *testing.T) {
	const path = "/proc/sys/vm/compact_memory"
	_, err := Recorded("", nil).ReadFile(path, 0)
	if !errors.Is(err, fs.ErrPermission) || !strings.HasPrefix(err.Error(), "open "+path+":") {
		t.Errorf("%v", err)
	}
}
