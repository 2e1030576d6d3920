// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/outband/outband/engine"
)

// TestEnds: of a container that has ended, how is told; of one that runs, nothing of
// its earlier lives.
func TestEnds(t *testing.T) {
	all, err := kubelet(t).List(context.Background(), []engine.Engine{Engine{}})
	if err != nil || len(all) != 4 {
		t.Fatalf("%+v, %v", all, err)
	}
	for _, c := range all {
		switch ended := c.FullName() == "pod:lab/pod-old/old"; {
		case !ended && c.Exit != nil:
			t.Errorf("%s: %+v", c.FullName(), c.Exit)
		case ended && (c.Exit == nil || c.Exit.Code != 137 || c.Exit.OOM || c.Exit.At.UnixNano() != 1795985517604369842):
			t.Errorf("%s: %+v", c.FullName(), c.Exit)
		}
	}
}

// TestAddEnds: what is no status is told, with whose it is; and an id that is a path
// leads to no file.
func TestAddEnds(t *testing.T) {
	root := t.TempDir()
	put(t, filepath.Join(root, "data", lives, "broken/status"), []byte("["))
	put(t, filepath.Join(root, "data", "status"), []byte("["))
	put(t, filepath.Join(root, "data", lives, "status"), []byte("["))
	h := engine.Recorded(root, nil)
	for id, want := range map[string]string{"broken": "n/p/c: " + ErrFormat.Error(), "../..": "", ".": "", "a/../broken": "", "gone": ""} {
		all := []engine.Container{{Name: "n/p/c", ID: id, Pod: true, State: engine.Stopped}}
		err := addEnds(t.Context(), h, "/data", all)
		if (err == nil) != (want == "") || err != nil && !strings.HasPrefix(err.Error(), want) || all[0].Exit != nil {
			t.Errorf("%s: %v, %+v, want %q", id, err, all[0].Exit, want)
		}
	}
	for _, c := range []engine.Container{{ID: "broken", State: engine.Stopped}, {ID: "broken", Pod: true, State: engine.Running}} {
		if err := addEnds(t.Context(), h, "/data", []engine.Container{c}); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestParseStatus(t *testing.T) {
	e, err := ParseStatus([]byte(`{"Version":"v1","FinishedAt":5,"ExitCode":137,"Reason":"OOMKilled"}`))
	if err != nil || e == nil || !e.OOM || e.Code != 137 || e.At.UnixNano() != 5 {
		t.Errorf("%+v, %v", e, err)
	}
	if e, err := ParseStatus([]byte(`{"Version":"v1","ExitCode":1}`)); e != nil || err != nil {
		t.Errorf("not ended: %+v, %v", e, err)
	}
	for _, text := range []string{"", "[", `{"Version":"v2","FinishedAt":5}`, `{"Version":"v1","FinishedAt":"x"}`} {
		if e, err := ParseStatus([]byte(text)); !errors.Is(err, ErrFormat) || e != nil {
			t.Errorf("%q: %+v, %v", text, e, err)
		}
	}
}

func FuzzParseStatus(f *testing.F) {
	f.Add([]byte(`{"Version":"v1","FinishedAt":5}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, err := ParseStatus(b); e != nil && err != nil {
			t.Errorf("%+v and %v", e, err)
		}
	})
}
