// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
)

// Who has a root of its own is no daemon of the host's, whatever pid namespace it
// is in; who has other mounts on the host's root may be one (A20).
func TestSameRoot(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	h := NewHost(openProc(t), nil)
	own := testutil.Throwaway(t, throwaway.Spec{Namespaces: unix.CLONE_NEWNS})
	shared := testutil.Throwaway(t, throwaway.Spec{Namespaces: unix.CLONE_NEWPID | unix.CLONE_NEWNS, Tree: throwaway.TreeShared})
	for pid, want := range map[int]bool{os.Getpid(): true, own.Pid(): false, shared.Pid(): true, 1 << 30: false} {
		task, _ := h.task(pid)
		if got := h.sameRoot(pid, task.Start); got != want {
			t.Errorf("%d: %v, want %v", pid, got, want)
		}
		if h.sameRoot(pid, task.Start+1) {
			t.Errorf("%d: it is taken for another with its number (A19)", pid)
		}
	}
}

func TestParseRootMount(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "22 1 8:1 / / rw - ext4 /dev/sda rw\n23 22 0:5 / /proc rw - proc proc rw\n": "8:1 /",
		"22 1 8:1 / / rw - ext4 a rw\n24 22 0:7 /x / rw - overlay o rw\n": "0:7 /x", "short line\n": "",
	} {
		if got := parseRootMount(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestFlag(t *testing.T) {
	args := []string{"p", "--root=/a", "--state", "/b", "-M", "x", "-Dy", "--last"}
	for want, names := range map[string][]string{"/a": {"--root"}, "/b": {"--state", "-s"}, "x": {"--machine", "-M"}, "y": {"-D"}, "": {"--last"}} {
		if got := Flag(args, names...); got != want {
			t.Errorf("%q: %q, want %q", names, got, want)
		}
	}
}
