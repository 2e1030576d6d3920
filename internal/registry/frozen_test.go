// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// iced is who froze a container whose init has this number.
func iced(pid int) Frozen {
	login := uint32(1000)
	return Frozen{Init{pid, 77, 4026531836}, "docker:web", time.Now().UTC().Round(0), By{UID: 0, LoginUID: &login, PID: 9, TTY: "pts/3"}}
}

func always(Frozen) bool { return true }
func never(Frozen) bool  { return false }

// TestFrozen: a record is read as it was written, a later one takes the place of
// an earlier, and one that does not hold is gone.
func TestFrozen(t *testing.T) {
	dir := t.TempDir()
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if list, err := r.SweepFrozen(always); err != nil || len(list) > 0 {
		t.Fatalf("before there is any: %v, %v", list, err)
	}
	if _, err := os.Lstat(filepath.Join(dir, frozenName)); !os.IsNotExist(err) {
		t.Errorf("to look has made it: %v", err)
	}
	one, other := iced(5), iced(6)
	for _, f := range []Frozen{iced(5), one, other} {
		if err := r.SetFrozen(f); err != nil {
			t.Fatal(err)
		}
	}
	list, err := r.SweepFrozen(always)
	if err != nil || len(list) != 2 {
		t.Fatalf("%v, %v", list, err)
	}
	if got := FrozenBy(list, one.Init); got == nil || !reflect.DeepEqual(*got, one) {
		t.Errorf("%+v, want %+v", got, one)
	}
	again := one.Init // the same number, another process
	again.Started++
	if got := FrozenBy(list, again); got != nil {
		t.Errorf("another process of that number: %+v", got)
	}
	list, err = r.SweepFrozen(func(f Frozen) bool { return f.Init.PID == 6 })
	if err != nil || len(list) != 1 || list[0].Init != other.Init {
		t.Errorf("%v, %v", list, err)
	}
	if list, err = r.SweepFrozen(always); err != nil || len(list) != 1 {
		t.Errorf("what did not hold is there still: %v, %v", list, err)
	}
}

// TestFrozenPlanted: what somebody put into the place of a record is neither read
// nor followed, and makes room for one. Without O_EXCL and the unlinking before,
// the first two write to what was planted.
func TestFrozenPlanted(t *testing.T) {
	f := iced(5)
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	for name, plant := range map[string]func(path string) error{
		"link": func(path string) error { return os.Symlink(elsewhere, path) },
		"hard": func(path string) error {
			_ = os.Remove(elsewhere)
			return errors.Join(os.WriteFile(elsewhere, nil, 0o600), os.Link(elsewhere, path))
		},
		"fifo": func(path string) error { return unix.Mkfifo(path, 0o600) },
		"torn": func(path string) error { return os.WriteFile(path, []byte(`{"init":{"pid":5`), 0o600) },
		"name": func(path string) error { // of another container
			return os.WriteFile(path, []byte(`{"init":{"pid":1,"started":1,"pidns":1}}`+"\n"), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			r, err := Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			path := filepath.Join(dir, frozenName, f.Init.file())
			if err := errors.Join(os.Mkdir(filepath.Dir(path), 0o700), plant(path)); err != nil {
				t.Fatal(err)
			}
			if list, err := r.SweepFrozen(always); err != nil || len(list) > 0 {
				t.Errorf("read: %v, %v", list, err)
			}
			if _, err := os.Lstat(path); !os.IsNotExist(err) {
				t.Errorf("not swept: %v", err)
			}
			if err := plant(path); err != nil {
				t.Fatal(err)
			}
			if err := r.SetFrozen(f); err != nil {
				t.Fatal(err)
			}
			if list, err := r.SweepFrozen(always); err != nil || len(list) != 1 {
				t.Errorf("%v, %v", list, err)
			}
			if b, err := os.ReadFile(elsewhere); len(b) > 0 {
				t.Errorf("written elsewhere: %q, %v", b, err)
			}
		})
	}
}

// TestFrozenRace: who freezes while sweepers look is on record afterwards: they
// hold the lock from before they look until what they saw is gone. Without that
// lock in SweepFrozen records go missing.
func TestFrozenRace(t *testing.T) {
	r, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.SetFrozen(iced(1)); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex // the kernel's idea of who is frozen
	frozen := map[int]bool{}
	holds := func(f Frozen) bool { mu.Lock(); defer mu.Unlock(); return frozen[f.Init.PID] }
	stop := make(chan struct{})
	var sweepers sync.WaitGroup
	sweepers.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_, _ = r.SweepFrozen(func(f Frozen) bool {
					held := holds(f)
					time.Sleep(100 * time.Microsecond)
					return held
				})
			}
		}
	})
	for i := range 100 {
		f := iced(7)
		mu.Lock()
		frozen[7] = true
		mu.Unlock()
		if err := r.SetFrozen(f); err != nil {
			t.Fatal(err)
		}
		if list, err := r.SweepFrozen(holds); err != nil || FrozenBy(list, f.Init) == nil {
			t.Errorf("%d: not on record: %v, %v", i, list, err)
			break
		}
		mu.Lock()
		frozen[7] = false // and somebody else thaws it
		mu.Unlock()
	}
	close(stop)
	sweepers.Wait()
	if list, err := r.SweepFrozen(never); err != nil || len(list) > 0 {
		t.Errorf("%v, %v", list, err)
	}
}
