// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
)

func TestAnnounce(t *testing.T) {
	testutil.NoLeaks(t)
	proc := openProc(t)
	run := filepath.Join(t.TempDir(), "run")
	c := testutil.Throwaway(t, throwaway.Spec{})
	forget, err := Announce(run, "web", c.Pid())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"web", "demo:web"} {
		if got, err := resolve(t, proc, name, run); err != nil || got != c.Pid() {
			t.Errorf("%s: %d, %v, want %d", name, got, err, c.Pid())
		}
	}
	for _, dir := range []string{"", t.TempDir()} {
		if got, err := resolve(t, proc, "web", dir); !errors.Is(err, ErrNotFound) {
			t.Errorf("in %q: %d, %v, want ErrNotFound", dir, got, err)
		}
	}
	// Nobody else may say what is a container.
	for path, want := range map[string]os.FileMode{filepath.Dir(demoFile(run, "web")): 0o700, demoFile(run, "web"): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want %v", path, info.Mode(), err, want)
		}
	}
	forget()
	if got, err := resolve(t, proc, "web", run); !errors.Is(err, ErrNotFound) {
		t.Errorf("once it is forgotten: %d, %v, want ErrNotFound", got, err)
	}
}

func TestAnnounceWhatIsNot(t *testing.T) {
	testutil.NoLeaks(t)
	if _, err := Announce(t.TempDir(), "web", 1<<30); err == nil {
		t.Error("a process that is none was announced")
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Announce(file, "web", os.Getpid()); err == nil {
		t.Error("announced below a file")
	}
}

// An announcement is of one process, not of whoever has its number: the start
// time tells (A19).
func TestAnnouncementOfAnother(t *testing.T) {
	testutil.NoLeaks(t)
	proc := openProc(t)
	run := t.TempDir()
	c := testutil.Throwaway(t, throwaway.Spec{})
	dir, err := proc.Process(c.Pid())
	if err != nil {
		t.Fatal(err)
	}
	start, err := startOf(dir)
	dir.Close()
	if err != nil {
		t.Fatal(err)
	}
	forget, err := Announce(run, "web", c.Pid())
	if err != nil {
		t.Fatal(err)
	}
	defer forget()
	tests := []struct {
		content string
		found   bool
	}{
		{fmt.Sprintf(`{"pid":%d,"start":%d}`, c.Pid(), start), true},
		{fmt.Sprintf(`{"pid":%d,"start":%d}`, c.Pid(), start-1), false},
		{fmt.Sprintf(`{"pid":%d}`, c.Pid()), false},
		{`{"pid":0,"start":0}`, false}, {`{"pid":-1}`, false}, {`{"pid":1073741824,"start":1}`, false},
		{`{"pid":"1"}`, false}, {``, false}, {`null`, false}, {`[]`, false}, {"\x00", false},
	}
	for _, test := range tests {
		if err := os.WriteFile(demoFile(run, "web"), []byte(test.content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := resolve(t, proc, "web", run)
		if test.found && (err != nil || got != c.Pid()) || !test.found && !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %d, %v", test.content, got, err)
		}
	}
	if err := os.WriteFile(demoFile(run, "web"), []byte(tests[0].content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := resolve(t, proc, "web", run); !errors.Is(err, ErrNotFound) {
		t.Errorf("when it has ended: %d, %v, want ErrNotFound", got, err)
	}
}
