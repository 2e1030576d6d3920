// SPDX-License-Identifier: Apache-2.0

package matrix

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/test/lab"
)

// abandonTime is when an answer is no longer that of a deadline, which is 3 s,
// on a slow machine.
const abandonTime = 15 * time.Second

// TestDeadMount enters containers with a FUSE mount that answers nothing, so
// that nobody who asks it can be killed. It is in nobody's way who does not ask;
// who does is given up, outside of the container's pid namespace, and ends with
// the mount.
func TestDeadMount(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.RequireFUSE(t)
	testutil.NoLeaks(t)
	program := build(t)
	for _, engine := range []*lab.Engine{lab.RunC(), lab.Docker(), lab.Podman(), lab.LXC(), lab.Nspawn(), lab.Unshare()} {
		t.Run(engine.Name, func(t *testing.T) {
			testutil.NoLeaks(t)
			host := open(t, engine, program)
			c := start(t, host, subject{name: "dead", image: lab.Busybox})
			inside, outside := c.inside(t), c.ours()
			var mounts []*lab.Dead
			for _, dir := range []string{"/mnt", "/etc"} {
				d, err := c.MountDead(t.Context(), dir)
				if err != nil {
					t.Fatal(err)
				}
				mounts = append(mounts, d)
			}
			testUntouched(t, c)
			testAsked(t, c)
			for n, d := range mounts {
				if d.Swallowed() == 0 {
					t.Errorf("mount %d was never asked: the test shows nothing", n)
				}
			}
			if got := c.inside(t); !slices.Equal(got, inside) {
				t.Errorf("inside are %v, were %v", got, inside)
			}
			if slices.Equal(c.ours(), outside) {
				t.Error("nothing was given up: the test shows nothing")
			}
			testUntouched(t, c) // with what was given up beside it
			for _, d := range mounts {
				if err := d.Abort(t.Context()); err != nil {
					t.Error(err)
				}
			}
			if !within(func() bool { return slices.Equal(c.ours(), outside) }) {
				t.Errorf("left behind: %v, were %v", c.ours(), outside)
			}
			// The cgroups of what was given up are the next entry's to sweep.
			if r := c.enter(t, "true"); r.Code != 0 {
				t.Errorf("after the mounts: %+v", r)
			}
			c.nothingLeft(t)
		})
	}
}

// testUntouched: what needs nothing of the mounts works.
func testUntouched(t *testing.T, c *target) {
	t.Helper()
	pid := "pid:" + strconv.Itoa(c.HostPid)
	for _, args := range [][]string{
		c.args(nil, "true"), {outband, "ls"}, {outband, "ls", "-a", "-o", "json"}, {outband, "tree"}, {outband, "inspect", pid}, {outband, "pid", pid, "1"},
	} {
		// outband's own errors, told on the way, are none of a mount's.
		if r := c.run(t, c.host.Command(args...)); r.Code != 0 || strings.Contains(r.Err, "not respond") {
			t.Errorf("%v: %+v", args[1:], r)
		}
	}
}

// testAsked asks them in every way at once. Each answer is one line that says
// what has not come.
func testAsked(t *testing.T, c *target) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), abandonTime)
	defer cancel()
	const said = "does not respond"
	var asked []*lab.Command
	words := []string{said, said, said, "filesystem not responding"}
	for _, args := range [][]string{
		c.args([]string{"-w", "/mnt"}, "true"), c.args(nil, "/mnt/x"), c.args([]string{"-e", "PATH=/mnt:/bin"}, "true"),
		c.args([]string{"-u", "nobody"}, "true"),
	} {
		cmd := c.host.Command(args...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		asked = append(asked, cmd)
	}
	for n, cmd := range asked {
		if r, err := cmd.Wait(ctx); err != nil {
			t.Errorf("%v: %v: %+v", cmd.Args[1:], err, r)
		} else {
			errorOf(t, r, words[n])
		}
	}
}

// TestDeadState: engines keep their state on file systems that answer nothing,
// root's and a user's, and a link leads to one. What is left out is told, nobody
// asks, and the rest is as it was.
func TestDeadState(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.RequireFUSE(t)
	testutil.NoLeaks(t)
	host := open(t, lab.RunC(), build(t))
	c := start(t, host, subject{name: "named", image: lab.Busybox})
	const prepare = `echo ann:x:1001:1001::/home/ann:/bin/sh >>/etc/passwd
mkdir -p /run/user/1001/crun /home/ann /var/lib/lxc /mnt/dead /run/crun && chown -R 1001:1001 /run/user/1001 /home/ann
ln -s /mnt/dead/containers /var/lib/docker/containers && ln -s ../../mnt/dead /run/crun/far`
	if _, err := host.Do(t.Context(), "sh", "-ec", prepare); err != nil {
		t.Fatal(err)
	}
	var mounts []*lab.Dead
	for _, dir := range []string{"/run/user/1001", "/home/ann", "/var/lib/lxc", "/mnt/dead"} {
		d, err := host.MountDead(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		mounts = append(mounts, d)
	}
	for _, args := range [][]string{{"ls"}, {"ls", "-a", "-o", "json"}, {"tree"}, {"inspect", "runc:named"}, {"pid", "named", "1"},
		{"enter", "runc:named", "--", "true"}, {"enter", "named", "--", "true"}, {"ls", "-o", "name"}} {
		r := c.run(t, host.Command(append([]string{outband}, args...)...))
		if r.Code != 0 || args[0] == "ls" && (!strings.Contains(r.Out, "named") || strings.Count(r.Err, "(fuse)") < 3) {
			t.Errorf("%v: %+v", args, r)
		}
	}
	for n, d := range mounts {
		if d.Swallowed() != 0 {
			t.Errorf("mount %d was asked %d times", n, d.Swallowed())
		}
		if err := d.Abort(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// inside are the processes of the container's pid namespace, as the host counts.
func (c *target) inside(t *testing.T) (pids []int) {
	t.Helper()
	want, err := os.Readlink(c.host.Path(fmt.Sprintf("/proc/%d/ns/pid", c.HostPid)))
	if err != nil {
		t.Fatal(err)
	}
	links, _ := filepath.Glob(c.host.Path("/proc/[0-9]*/ns/pid"))
	for _, link := range links {
		if got, _ := os.Readlink(link); got == want {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(link))))
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// ours are the host's processes that are outband's: the program's and those it
// makes, by their names.
func (c *target) ours() (pids []string) {
	files, _ := filepath.Glob(c.host.Path("/proc/[0-9]*/comm"))
	for _, file := range files {
		if comm, _ := os.ReadFile(file); strings.HasPrefix(string(comm), "outband") {
			pids = append(pids, filepath.Base(filepath.Dir(file))+" "+strings.TrimSpace(string(comm)))
		}
	}
	return pids
}
