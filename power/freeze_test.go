// SPDX-License-Identifier: Apache-2.0

package power

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband"
	"github.com/outband/outband/engine"
	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
)

// A freezer is a hierarchy that freezes, and what it is told.
type freezer struct {
	name, root     string
	file, on, off  string
	thawsByItself  bool // power does it without being asked for
	killsWhileIced bool
}

var freezers = []freezer{
	{"v2", "/sys/fs/cgroup/unified", "cgroup.freeze", "1", "0", true, true},
	{"v2 alone", "/sys/fs/cgroup", "cgroup.freeze", "1", "0", true, true},
	{"v1", "/sys/fs/cgroup/freezer", "freezer.state", "FROZEN", "THAWED", false, false},
}

// eachFreezer runs a test in a group of each hierarchy that there is. The group is
// thawed and removed in the end, after what was made in it.
func eachFreezer(t *testing.T, test func(t *testing.T, f freezer, dir string)) {
	testutil.NoLeaks(t)
	testutil.RequireRoot(t)
	for _, f := range freezers {
		t.Run(f.name, func(t *testing.T) {
			dir := filepath.Join(f.root, fmt.Sprintf("test-outband-%d-power", os.Getpid()))
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Skipf("skipped: needs %s: %v", f.root, err)
			}
			t.Cleanup(func() {
				for until := time.Now().Add(patience); os.Remove(dir) != nil && time.Now().Before(until); time.Sleep(time.Millisecond) {
				}
			})
			if _, err := os.Stat(filepath.Join(dir, f.file)); err != nil {
				t.Skipf("skipped: needs %s: %v", f.root, err)
			}
			test(t, f, dir)
		})
	}
}

// iced puts a container into a group below dir; it is thawed before it is ended.
func iced(t *testing.T, f freezer, dir, script string) (*outband.Target, *throwaway.Container) {
	t.Helper()
	spec := shell(script)
	spec.Cgroups = []string{dir}
	target, c := hold(t, spec)
	reap(t, c)
	t.Cleanup(func() { _ = os.WriteFile(filepath.Join(dir, f.file), []byte(f.off), 0) })
	for until := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if status, _ := target.Process().Dir.ReadFile("status"); trapped(string(status)) {
			return target, c
		}
		if time.Now().After(until) {
			t.Fatal("its init never gets ready")
		}
	}
}

// TestPause freezes a container, tells it, and lets it go; each of them twice.
func TestPause(t *testing.T) {
	eachFreezer(t, func(t *testing.T, f freezer, dir string) {
		target, c := iced(t, f, dir, obedient)
		s := New(target, Options{})
		state := func() engine.State {
			st, err := s.Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if want := map[bool]Action{true: Resume, false: Pause}[st.State == engine.Paused]; !slices.Contains(st.Can, want) {
				t.Errorf("%s: it can %v", st.State, st.Can)
			}
			return st.State
		}
		for _, step := range []struct {
			a    Action
			want engine.State
		}{{Resume, engine.Running}, {Pause, engine.Paused}, {Pause, engine.Paused}, {Resume, engine.Running}, {Pause, engine.Paused}, {Resume, engine.Running}} {
			if r, err := s.Do(t.Context(), step.a); err != nil || !r.Done {
				t.Fatalf("%s: %+v, %v", step.a, r, err)
			}
			if got := state(); got != step.want {
				t.Errorf("after %s: %s", step.a, got)
			}
		}
		if err := c.Signal(0); err != nil {
			t.Error(err)
		}
	})
}

// TestPauseBusy: processes that come and go do not make a group one that is shared.
// Without the look at who is on its way out one in fifty is (version 1).
func TestPauseBusy(t *testing.T) {
	eachFreezer(t, func(t *testing.T, f freezer, dir string) {
		target, _ := iced(t, f, dir, `trap 'exit 7' TERM; for i in 1 2 3; do (while :; do (:); done) & done; echo > /tmp/ready; while :; do (:); done`)
		m := &machine{t: target}
		for i := range 100 {
			if g, err := m.whole(t.Context()); err != nil || !strings.HasSuffix(dir, g.Path) {
				t.Fatalf("look %d: %+v, %v", i, g, err)
			}
		}
	})
}

// TestPauseShared: a group that others are in is not frozen, be it that of the
// test itself.
func TestPauseShared(t *testing.T) {
	eachFreezer(t, func(t *testing.T, f freezer, dir string) {
		target, _ := iced(t, f, dir, obedient)
		other := testutil.Throwaway(t, throwaway.Spec{User: true, Cgroups: []string{dir}})
		_, err := New(target, Options{}).Pause(t.Context())
		if !errors.Is(err, ErrShared) {
			t.Errorf("%d is in it as well: %v", other.Pid(), err)
		}
		if text, _ := os.ReadFile(filepath.Join(dir, f.file)); string(text) == f.on+"\n" {
			t.Error("it is frozen")
		}
	})
	t.Run("one's own", func(t *testing.T) {
		target, _ := boot(t, obedient)
		if _, err := New(target, Options{Thaw: true}).Pause(t.Context()); !errors.Is(err, ErrShared) {
			t.Errorf("%v", err)
		}
	})
}

// TestOffFrozen: a frozen container is thawed and asked; where that has to be said
// it is refused, and nothing changed. By force nobody has to hear anything.
func TestOffFrozen(t *testing.T) {
	for _, o := range []Options{{}, {Force: true}, {Thaw: true}} {
		eachFreezer(t, func(t *testing.T, f freezer, dir string) {
			target, _ := iced(t, f, dir, obedient)
			if _, err := New(target, Options{}).Pause(t.Context()); err != nil {
				t.Fatal(err)
			}
			var l log
			o.Look, o.Event = -1, l.add
			r, err := New(target, o).Off(t.Context())
			refused := !f.thawsByItself && !o.Thaw
			switch {
			case refused && (!errors.Is(err, outband.ErrFrozen) || outband.Hint(err) == "" || target.Alive() != nil):
				t.Errorf("%+v: %v", o, err)
			case refused:
				if text, _ := os.ReadFile(filepath.Join(dir, f.file)); string(text) != f.on+"\n" {
					t.Errorf("it was thawed: %q", text)
				}
			case err != nil || !r.Done:
				t.Errorf("%+v: %+v, %v: %v", o, r, err, l.events)
			case o.Force && l.taken() != "press" || !o.Force && l.taken() != "thaw ask":
				t.Errorf("%+v: %v", o, l.events)
			}
		})
	}
}

// TestOffFrozenAbove: what is frozen by a group that holds others as well stays so
// unless that is asked for.
func TestOffFrozenAbove(t *testing.T) {
	eachFreezer(t, func(t *testing.T, f freezer, dir string) {
		inner, beside := filepath.Join(dir, "inner"), filepath.Join(dir, "beside")
		for _, d := range []string{inner, beside} {
			if err := os.Mkdir(d, 0o755); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				for until := time.Now().Add(patience); os.Remove(d) != nil && time.Now().Before(until); time.Sleep(time.Millisecond) {
				}
			})
		}
		target, _ := iced(t, f, inner, obedient)
		other := testutil.Throwaway(t, throwaway.Spec{User: true, Cgroups: []string{beside}})
		thaw := func() { _ = os.WriteFile(filepath.Join(dir, f.file), []byte(f.off), 0) }
		t.Cleanup(thaw)
		if err := os.WriteFile(filepath.Join(dir, f.file), []byte(f.on), 0); err != nil {
			t.Fatal(err)
		}
		for _, a := range []Action{Off, Resume} {
			if _, err := New(target, Options{Look: -1}).Do(t.Context(), a); !errors.Is(err, outband.ErrFrozen) || outband.Hint(err) == "" {
				t.Errorf("%s: %v", a, err)
			}
		}
		if r, err := New(target, Options{Look: -1, Thaw: true}).Off(t.Context()); err != nil || !r.Done {
			t.Errorf("%+v, %v", r, err)
		}
		if err := other.Signal(unix.Signal(0)); err != nil {
			t.Error(err)
		}
	})
}
