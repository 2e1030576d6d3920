// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/test/cve/rig"
)

// calls are those that an old kernel lacks, or a sandbox around the tool
// forbids, with words of the step that needs them. Without words there is
// another way, which docs/kernels.md or Go's runtime has.
var calls = []struct {
	name  string
	nr    int
	words []string
}{
	{"pidfd_open", unix.SYS_PIDFD_OPEN, []string{"pidfd", "hold"}},
	{"clone3", unix.SYS_CLONE3, []string{"fork the joiner"}},
	{"setns", unix.SYS_SETNS, []string{"join namespaces"}},
	{"openat2", unix.SYS_OPENAT2, []string{"open /proc/"}},
	{"close_range", unix.SYS_CLOSE_RANGE, []string{"close files"}},
	{"memfd_create", unix.SYS_MEMFD_CREATE, []string{"memfd_create"}},
	{"waitid", unix.SYS_WAITID, []string{"wait for the command"}},
}

// TestMissingCalls takes one call after the other from the tool and all its
// helpers. It refuses by name, or lets in a command that may no more than the
// container's init.
func TestMissingCalls(t *testing.T) {
	begin(t)
	tool, c := rig.Build(t), box(t)
	for _, call := range calls {
		for _, errno := range []unix.Errno{unix.ENOSYS, unix.EPERM} {
			t.Run(call.name+" "+unix.ErrnoName(errno), func(t *testing.T) {
				tool := tool.In(t)
				stage := rig.HostAttack("filter", fmt.Sprint(call.nr), fmt.Sprint(int(errno)))
				args := tool.Args(append([]string{"enter", fmt.Sprint(c.Pid()), "--"}, rig.Attack("status")...)...)
				r := tool.RunCommand(tool.Command(append(stage, args...)...))
				if r.Code == 0 {
					confined(t, c.Pid(), r.Out)
				} else {
					refused(t, r, call.words...)
				}
				t.Logf("code %d: %s", r.Code, strings.TrimSpace(r.Err))
				nothingLeft(t, tool, c)
			})
		}
	}
}

// TestFilterWorks shows that the filter of TestMissingCalls takes a call away.
func TestFilterWorks(t *testing.T) {
	begin(t)
	tool := rig.Build(t)
	stage := rig.HostAttack("filter", fmt.Sprint(unix.SYS_GETCWD), fmt.Sprint(int(unix.EXDEV)))
	r := tool.RunCommand(tool.Command(append(stage, rig.HostAttack("status")...)...))
	if r.Code != 1 || !strings.Contains(r.Err, "cross-device") {
		t.Errorf("%+v", r)
	}
}

// privileges are what a command must not have more of than the init.
var privileges = []string{"Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs"}

// attackStatus prints what the process may, and where it is.
func attackStatus([]string) error {
	if _, err := os.Getwd(); err != nil {
		return err
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	for _, field := range privileges {
		fmt.Printf("%s %s\n", field, rig.Field(string(status), field))
	}
	for _, kind := range []string{"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"} {
		link, err := os.Readlink("/proc/self/ns/" + kind)
		if err != nil {
			return err
		}
		fmt.Println(link)
	}
	return nil
}

// confined compares what attackStatus has printed with the init of number pid.
func confined(t *testing.T, pid int, said string) {
	t.Helper()
	for _, field := range privileges {
		if want := field + " " + rig.Status(pid, field) + "\n"; !strings.Contains(said, want) {
			t.Errorf("the command has not %q of init:\n%s", want, said)
		}
	}
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/ns/[cimnpu]*", pid))
	for _, path := range links {
		if strings.HasSuffix(path, "_for_children") {
			continue
		}
		if link, err := os.Readlink(path); err != nil || !strings.Contains(said, link+"\n") {
			t.Errorf("the command is not in init's %s (%v):\n%s", link, err, said)
		}
	}
	if len(links) < 7 {
		t.Errorf("init has only %q", links)
	}
}
