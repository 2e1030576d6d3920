// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
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

// However much is not well, some of it is told, and none of it put into words twice.
func TestManyErrors(t *testing.T) {
	var err error
	words := 0
	for range 30000 {
		err = errors.Join(err, spoken{&words})
	}
	told := fmt.Errorf("ann: %w", oneLine{errors.Join(err, ErrDeadline)})
	got := (&Error{"x", "list containers", errors.Join(fs.ErrExist, told, fmt.Errorf("%w: %w", fs.ErrClosed, fs.ErrInvalid))}).Error()
	want := "x: list containers: file already exists; ann: 1; 2; 3; 4; 5; 6; 7; 8; 9; 10; and 29991 more; file already closed: invalid argument"
	if got != want || words != maxTold || !errors.Is(told, ErrDeadline) {
		t.Errorf("%.300s, %d times, want %s", got, words, want)
	}
}

// spoken is an error that counts how often it is asked for words.
type spoken struct{ n *int }

func (s spoken) Error() string { *s.n++; return fmt.Sprint(*s.n) }

// A file that may be looked up and not read is told by the path that people know:
// this setting can only be written, even by root.
func TestUnreadable(t *testing.T) {
	const path = "/proc/sys/vm/compact_memory"
	_, err := Recorded("", nil).ReadFile(path, 0)
	if !errors.Is(err, fs.ErrPermission) || !strings.HasPrefix(err.Error(), "open "+path+":") {
		t.Errorf("%v", err)
	}
}

// crowd is an engine of which one user has more than can be read in any time, and
// another something that never answers.
type crowd struct{ hang chan struct{} }

func (crowd) Name() string { return "crowd" }

func (c crowd) List(ctx context.Context, _ *Host) ([]Container, error) {
	places := []Place{{}, {UID: 1000, User: "ann"}, {UID: 1001, User: "bob"}, {UID: 1002, User: "carl"}}
	return EachPlace(ctx, places, func(p Place) (all []Container, err error) {
		for i := 0; i < 1 || p.User == "ann"; i++ {
			if late := Late(ctx); late != nil {
				return all[:min(i, 1)], late
			}
			if p.User == "bob" {
				<-c.hang
			}
			all = append(all[:min(i, 1)], Container{Engine: "crowd", User: p.User, Name: "web", State: Stopped})
		}
		return all, nil
	})
}

// A user's containers, however many, hide neither root's nor those of other users,
// and who was not read to the end is told.
func TestCrowd(t *testing.T) {
	hang := make(chan struct{})
	defer close(hang)
	all, err := Recorded(t.TempDir(), nil).List(t.Context(), []Engine{crowd{hang}})
	var names []string
	for i := range all {
		names = append(names, all[i].FullName())
	}
	want := "crowd: list containers: ann: no answer in time; bob: no answer in time"
	if !slices.Equal(names, []string{"crowd:web", "crowd@ann:web", "crowd@carl:web"}) || err == nil || err.Error() != want {
		t.Errorf("%q, %v, want %s", names, err, want)
	}
}
