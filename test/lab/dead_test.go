// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/outband/outband/internal/testutil"
)

// TestDead: who asks a dead file system outlives SIGKILL, until it is aborted
// or the host ends; and it is in the container's mounts alone.
func TestDead(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.RequireFUSE(t)
	for _, aborted := range []bool{true, false} {
		t.Run(fmt.Sprintf("aborted=%v", aborted), func(t *testing.T) {
			testutil.NoLeaks(t)
			h := Open(t, Unshare())
			c, err := h.Run(t.Context(), "web", Busybox(t), Options{})
			if err != nil {
				t.Fatal(err)
			}
			d, err := c.MountDead(t.Context(), "/mnt")
			if err != nil {
				t.Fatal(err)
			}
			for who, mounts := range map[string]string{"host": do(t, h, "cat /proc/self/mountinfo"), "machine": read(t, "/proc/self/mountinfo")} {
				if strings.Contains(mounts, "fuse dead ") {
					t.Errorf("the %s has the mount: %s", who, mounts)
				}
			}
			if mounts := read(t, h.Path(fmt.Sprintf("/proc/%d/mountinfo", c.HostPid))); !strings.Contains(mounts, " /mnt ") {
				t.Errorf("the container has no such mount: %s", mounts)
			}
			asker := h.Command("ls", fmt.Sprintf("/proc/%d/root/mnt", c.HostPid))
			outlivesKill(t, d, asker)
			if !aborted {
				return // the host's end is that of the file system
			}
			if err := d.Abort(t.Context()); err != nil {
				t.Fatal(err)
			}
			if r, err := asker.Wait(t.Context()); err != nil || r.Code != 128+9 {
				t.Errorf("who asked: %+v, %v", r, err)
			}
		})
	}
}

// outlivesKill starts a command that asks d, and kills it in vain.
func outlivesKill(t *testing.T, d *Dead, asker *Command) {
	t.Helper()
	if err := asker.Start(); err != nil {
		t.Fatal(err)
	}
	if err := poll(t.Context(), func() error {
		if d.Swallowed() == 0 {
			return errors.New("nothing is asked: " + asker.Said())
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	asker.Kill()
	const kill = 1 << (9 - 1)
	// Seen several times with the signal pending: not on its way out.
	seen := 0
	if err := poll(t.Context(), func() error {
		data, err := os.ReadFile(asker.host.Path("/proc/" + strconv.Itoa(asker.Pid) + "/status"))
		if err != nil || asker.Ended() || strings.Contains(string(data), "\nState:\tZ") {
			return fmt.Errorf("%w: it has died: %v\n%s", errFinal, err, data)
		}
		_, pending, _ := strings.Cut(string(data), "\nSigPnd:\t")
		pending, _, _ = strings.Cut(pending, "\n")
		if mask, err := strconv.ParseUint(pending, 16, 64); err != nil || mask&kill == 0 {
			return errors.New("the signal has not arrived")
		}
		if seen++; seen < 5 {
			return errors.New("it may be about to die")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestDeadFails(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.RequireFUSE(t)
	testutil.NoLeaks(t)
	h := Open(t, Unshare())
	c, err := h.Run(t.Context(), "web", Busybox(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.MountDead(t.Context(), "/no/such/directory"); err == nil || !strings.Contains(err.Error(), "/no/such/directory") {
		t.Errorf("got %v", err)
	}
}
