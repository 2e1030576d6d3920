// SPDX-License-Identifier: Apache-2.0

package forkexec

import (
	"errors"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// spawned runs becoming with an image and returns what kept it from that.
func spawned(t *testing.T, files []*os.File, image *os.File) error {
	t.Helper()
	first, err := share(becoming(files, image))
	if err != nil {
		t.Fatal(err)
	}
	pid, pidfd, err := first.start()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{pid, os.NewFile(uintptr(pidfd), "child"), first}
	p.wait()
	runtime.KeepAlive(files)
	return p.failure(ErrKilled)
}

// TestLaunchTellsFailure has a child fail before it becomes the warden: what is
// no program, and a descriptor that is none. It must not be taken for a warden
// that was killed. (Mutant that lost: failure returns err.)
func TestLaunchTellsFailure(t *testing.T) {
	before := takeCensus()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.Open("launch_test.go")
	if err != nil {
		t.Fatal(err)
	}
	image, err := sealed(returnCode(0))
	if err != nil {
		t.Fatal(err)
	}
	closed := os.NewFile(1<<20, "closed")
	streams := []*os.File{null, null, null}
	for name, test := range map[string]struct {
		files []*os.File
		image *os.File
		want  error
	}{
		"a device":         {streams, null, unix.EACCES},
		"a text":           {streams, text, unix.EACCES},
		"a missing file":   {[]*os.File{null, closed, null}, image, unix.EBADF},
		"nothing is wrong": {streams, image, ErrKilled},
	} {
		var e *Error
		if err := spawned(t, test.files, test.image); !errors.Is(err, test.want) || errors.As(err, &e) && e.Step != StepStartWarden {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
	runtime.SetFinalizer(closed, nil)
	null.Close()
	text.Close()
	image.Close()
	before.check(t)
}

// TestLaunchKeepsSignals: the mask that keeps Go's handlers out of the child is
// the caller's for that long only.
func TestLaunchKeepsSignals(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	mask := func() (set unix.Sigset_t) {
		if err := unix.PthreadSigmask(unix.SIG_BLOCK, nil, &set); err != nil {
			t.Fatal(err)
		}
		return set
	}
	usual := mask()
	own := unix.Sigset_t{}
	own.Val[0] = 1 << (unix.SIGUSR2 - 1)
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &own, nil); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.PthreadSigmask(unix.SIG_SETMASK, &usual, nil) }()
	before := mask()
	image, err := sealed(returnCode(0))
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	if err := spawned(t, []*os.File{os.Stdin}, image); !errors.Is(err, ErrKilled) {
		t.Error(err)
	}
	if after := mask(); after != before || before == usual {
		t.Errorf("%v became %v", before, after)
	}
}
