// SPDX-License-Identifier: Apache-2.0

package throwaway_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
)

// TestRefused asks for what cannot be; nothing may be left of the attempt.
func TestRefused(t *testing.T) {
	begin(t)
	for _, test := range []struct {
		name        string
		spec        throwaway.Spec
		is          error
		step        string
		unsupported bool
	}{
		{"no such command", throwaway.Spec{Args: []string{"/no/such"}}, unix.ENOENT, "execute /no/such", false},
		{"no such worker", throwaway.Spec{Workers: [][]string{{"/no/such"}}}, unix.ENOENT, "start workers", false},
		{"no such inner command", throwaway.Spec{Inner: []throwaway.Spec{{Name: "job", Args: []string{"/no/such"}}}}, unix.ENOENT, "make container job: execute /no/such", false},
		{"unmapped id", throwaway.Spec{User: true, UIDMap: only(0), UID: 5}, unix.EINVAL, "set ids", false},
		{"too deep", throwaway.Spec{Depth: 40}, unix.ENOSPC, "create namespaces", true},
		{"overlapping map", throwaway.Spec{User: true, UIDMap: append(only(0), only(0)...)}, nil, "create namespaces", true},
		{"no such cgroup", throwaway.Spec{Cgroups: []string{"/no/such"}}, unix.ENOENT, "hand over the plan", false},
		{"oom score", throwaway.Spec{OOMScoreAdj: 5000}, unix.EINVAL, "set oom_score_adj", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := throwaway.Start(context.Background(), test.spec)
			if err == nil {
				t.Fatal("it was made", c.Close())
			}
			if test.is != nil && !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.step) {
				t.Errorf("got %v", err)
			}
			if test.name != "overlapping map" && errors.Is(err, errors.ErrUnsupported) != test.unsupported {
				t.Errorf("%v: unsupported is wrong", err)
			}
		})
	}
}

// TestDeadline gives up at once.
func TestDeadline(t *testing.T) {
	begin(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if c, err := throwaway.Start(ctx, throwaway.Spec{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, %v", c, err)
	}
	ctx, cancel = context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if c, err := throwaway.Start(ctx, throwaway.Spec{Depth: 31}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, %v", c, err)
	}
}

// TestFrozen starts a container in a frozen cgroup, where its stage never says
// anything: Start must end all the same, and end the stage.
func TestFrozen(t *testing.T) {
	needRoot(t)
	begin(t)
	mounts := read(t, os.Getpid(), "mountinfo")
	before, _, ok := strings.Cut(mounts, " - cgroup2 ")
	if !ok {
		t.Skip("no cgroup2 is mounted here")
	}
	where := strings.Fields(before[strings.LastIndexByte(before, '\n')+1:])[4]
	dir := filepath.Join(where, fmt.Sprintf("test-outband-%d-frozen", os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	}()
	if err := os.WriteFile(filepath.Join(dir, "cgroup.freeze"), []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if c, err := throwaway.Start(ctx, throwaway.Spec{Cgroups: []string{dir}}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, %v", c, err)
	}
}

// inside runs the calling test once more as the init of a container, and tells
// whether this is that run.
func inside(t *testing.T, spec throwaway.Spec) bool {
	t.Helper()
	if os.Getenv(role) == "inner" {
		return true
	}
	begin(t)
	spec.Args = []string{"/bin/outband", "-test.run=^" + t.Name() + "$"}
	spec.Env = []string{role + "=inner"}
	if got, state := output(t, spec); !strings.HasPrefix(got, "PASS\n") || !state.Success() {
		t.Errorf("%v:\n%s", state, got)
	}
	return false
}

// TestTurnedOff starts a container where its user namespace has a setting that
// allows no further one.
func TestTurnedOff(t *testing.T) {
	if !inside(t, throwaway.Spec{User: true}) {
		return
	}
	if err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0); err != nil {
		t.Fatal(err)
	}
	c, err := throwaway.Start(context.Background(), throwaway.Spec{User: true})
	var e *throwaway.Error
	if !errors.As(err, &e) || !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(e.Hint(), "user.max_user_namespaces=0") {
		t.Errorf("got %v, %v", c, err)
	}
}

// TestMountsStayInside starts a container where mounts are shared, as systemd
// makes them: none of its mounts may reach its creator.
func TestMountsStayInside(t *testing.T) {
	if !inside(t, throwaway.Spec{User: true}) {
		return
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			t.Error(err)
		}
	}()
	before := read(t, os.Getpid(), "mountinfo")
	if !strings.Contains(before, " shared:") {
		t.Fatalf("nothing is shared:\n%s", before)
	}
	for _, tree := range []throwaway.Tree{throwaway.TreeOwn, throwaway.TreeShared} {
		testutil.Throwaway(t, throwaway.Spec{Tree: tree})
		if after := read(t, os.Getpid(), "mountinfo"); after != before {
			t.Errorf("tree %d: the creator's mounts are\n%sthey were\n%s", tree, after, before)
		}
	}
}
