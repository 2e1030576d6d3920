// SPDX-License-Identifier: Apache-2.0

package throwaway_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
)

// look is a question about an init.
type look func(t *testing.T, pid int)

// has wants text in a file of /proc/PID.
func has(file, text string) look {
	return func(t *testing.T, pid int) {
		t.Helper()
		if got := read(t, pid, file); !strings.Contains(got, text) {
			t.Errorf("%s: no %q in %.2000q", file, text, got)
		}
	}
}

// lacks wants text not in a file of /proc/PID.
func lacks(file, text string) look {
	return func(t *testing.T, pid int) {
		t.Helper()
		if got := read(t, pid, file); strings.Contains(got, text) {
			t.Errorf("%s: %q in %.2000q", file, text, got)
		}
	}
}

// is wants a field of status to be something.
func is(field, want string) look {
	return func(t *testing.T, pid int) {
		t.Helper()
		if got := status(t, pid, field); got != want {
			t.Errorf("%s: got %q, want %q", field, got, want)
		}
	}
}

// ids is how status shows an id that is real, effective, saved and file's.
func ids(id int) string { return strings.TrimSpace(strings.Repeat(strconv.Itoa(id)+" ", 4)) }

// only maps one id to the test's own.
func only(inside int) []throwaway.IDMap {
	return []throwaway.IDMap{{ContainerID: inside, HostID: os.Geteuid(), Size: 1}}
}

// onlyGroup is only for groups.
func onlyGroup(inside int) []throwaway.IDMap {
	return []throwaway.IDMap{{ContainerID: inside, HostID: os.Getegid(), Size: 1}}
}

// fullCaps is the bounding set of a fresh user namespace.
func fullCaps(t *testing.T) uint64 {
	t.Helper()
	text, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if err != nil {
		t.Fatal(err)
	}
	last, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return 1<<(last+1) - 1
}

// TestShapes has one line for each thing that a Spec can ask for.
func TestShapes(t *testing.T) {
	const none, raw = "0000000000000000", 1 << unix.CAP_NET_RAW
	outside := os.Geteuid() // of uid 0 in a user namespace
	if outside == 0 {
		outside = 100000
	}
	begin(t)
	for _, test := range []struct {
		name  string
		spec  throwaway.Spec
		looks []look
	}{
		{"nothing", throwaway.Spec{}, []look{
			has("mountinfo", " / / rw,"), has("mountinfo", " devpts "), is("NoNewPrivs", "0"), is("Umask", "0022")}},
		{"user namespace", throwaway.Spec{User: true}, []look{
			is("Uid", ids(outside)), is("CapEff", fmt.Sprintf("%016x", fullCaps(t)))}},
		{"single id", throwaway.Spec{User: true, UIDMap: only(1000), GIDMap: onlyGroup(1000)}, []look{
			has("uid_map", fmt.Sprintf("1000 %10d          1\n", os.Geteuid())),
			is("CapPrm", none), is("CapAmb", none), is("CapInh", none)}},
		{"setgroups denied", throwaway.Spec{User: true, DenySetgroups: true}, []look{has("setgroups", "deny")}},
		{"chroot", throwaway.Spec{Chroot: true}, []look{
			has("root/etc/passwd", "root:x:0:0:"), lacks("mountinfo", " / / ")}},
		{"read-only", throwaway.Spec{ReadOnly: true}, []look{has("mountinfo", " / / ro,")}},
		{"no devpts", throwaway.Spec{NoDevpts: true}, []look{lacks("mountinfo", " devpts ")}},
		{"host's tree", throwaway.Spec{Tree: throwaway.TreeHost}, []look{has("comm", "init\n")}},
		{"host's command", throwaway.Spec{Tree: throwaway.TreeHost, Args: []string{"/bin/sleep", "60"}}, []look{
			has("cmdline", "/bin/sleep\x0060\x00")}},
		{"shared tree", throwaway.Spec{Tree: throwaway.TreeShared, Args: []string{"/bin/sleep", "60"}}, []look{
			has("root/proc/1/comm", "sleep\n")}},
		{"no init", throwaway.Spec{Args: []string{"sleep", "60"}, Workers: [][]string{{"sleep", "61"}}}, []look{
			has("cmdline", "sleep\x0060\x00")}},
		{"confined", throwaway.Spec{NoNewPrivs: true, Umask: 0o077, OOMScoreAdj: 500, Env: []string{},
			Rlimits: map[int]unix.Rlimit{unix.RLIMIT_CORE: {Cur: 7, Max: 8}}}, []look{
			is("NoNewPrivs", "1"), is("Umask", "0077"), has("oom_score_adj", "500\n"),
			has("limits", "core file size        7                    8 "), lacks("environ", "=")}},
		{"bounding set", throwaway.Spec{User: true, DropCaps: raw}, []look{
			is("CapBnd", fmt.Sprintf("%016x", fullCaps(t)&^raw)), is("CapEff", fmt.Sprintf("%016x", fullCaps(t)&^raw))}},
		{"ambient set", throwaway.Spec{User: true, UIDMap: only(7), GIDMap: onlyGroup(7), AmbientCaps: raw}, []look{
			is("CapEff", fmt.Sprintf("%016x", raw)), is("CapAmb", fmt.Sprintf("%016x", raw))}},
		{"long environment", throwaway.Spec{Env: []string{"A=" + strings.Repeat("x", 120<<10)}}, []look{
			has("environ", "xxx\x00")}},
	} {
		t.Run(test.name, func(t *testing.T) {
			pid := testutil.Throwaway(t, test.spec).Pid()
			for _, look := range test.looks {
				look(t, pid)
			}
		})
	}
}

// TestTime asks for a time namespace, which only an exec can enter.
func TestTime(t *testing.T) {
	testutil.RequireKernel(t, 6, 2, "a time namespace by exec")
	begin(t)
	for _, user := range []bool{false, true} {
		c := testutil.Throwaway(t, throwaway.Spec{Namespaces: throwaway.Default | unix.CLONE_NEWTIME, User: user})
		for _, name := range []string{"time", "time_for_children"} {
			inside, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", c.Pid(), name))
			if err != nil {
				t.Fatal(err)
			}
			if own, err := os.Readlink("/proc/self/ns/time"); err != nil || own == inside {
				t.Errorf("%s: %s is the host's, %v", name, inside, err)
			}
		}
	}
}

// TestNamespaces shares some with the creator, the pid namespace among them.
func TestNamespaces(t *testing.T) {
	begin(t)
	const asked = unix.CLONE_NEWNS | unix.CLONE_NEWUTS
	c := testutil.Throwaway(t, throwaway.Spec{Namespaces: asked})
	for kind, flag := range map[string]uintptr{
		"mnt": unix.CLONE_NEWNS, "uts": unix.CLONE_NEWUTS, "pid": unix.CLONE_NEWPID,
		"ipc": unix.CLONE_NEWIPC, "net": unix.CLONE_NEWNET, "cgroup": unix.CLONE_NEWCGROUP,
	} {
		inside, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", c.Pid(), kind))
		if err != nil {
			t.Fatal(err)
		}
		if own, err := os.Readlink("/proc/self/ns/" + kind); err != nil || (own == inside) == (asked&flag != 0) {
			t.Errorf("%s: %s, own is %s, %v", kind, inside, own, err)
		}
	}
	// Without a pid namespace /proc is the host's.
	if _, err := os.Stat(fmt.Sprintf("/proc/%d/root/proc/%d", c.Pid(), os.Getpid())); err != nil {
		t.Error(err)
	}
}

// TestDepth lays levels in each other, up to one less than the kernel allows.
func TestDepth(t *testing.T) {
	begin(t)
	for _, test := range []struct {
		depth int
		spec  throwaway.Spec
	}{
		{1, throwaway.Spec{}}, {2, throwaway.Spec{}}, {5, throwaway.Spec{User: true}},
		{5, throwaway.Spec{Tree: throwaway.TreeShared}},
		{3, throwaway.Spec{User: true, UIDMap: only(1000), GIDMap: onlyGroup(1000)}},
		{31, throwaway.Spec{}}, {31, throwaway.Spec{User: true}},
	} {
		t.Run(fmt.Sprintf("%d,user=%v,maps=%d", test.depth, test.spec.User, len(test.spec.UIDMap)), func(t *testing.T) {
			spec := test.spec
			spec.Depth, spec.Args = test.depth, []string{"sleep", "60"}
			c := testutil.Throwaway(t, spec)
			own := levels(t, os.Getpid())
			if got := levels(t, c.Pid()); got != own+1 {
				t.Errorf("the outermost init has %d numbers", got)
			}
			leaf := c.Leaf().Pid()
			numbers := strings.Fields(status(t, leaf, "NSpid"))
			if len(numbers) != own+test.depth || numbers[0] != strconv.Itoa(leaf) || numbers[len(numbers)-1] != "1" {
				t.Errorf("the innermost init's numbers are %v", numbers)
			}
			// Its /proc counts as it does.
			has("root/proc/1/cmdline", "sleep\x0060\x00")(t, leaf)
		})
	}
}

// TestIDs looks at ids from inside, where the same numbers mean others.
func TestIDs(t *testing.T) {
	begin(t)
	for _, test := range []struct {
		name string
		root bool
		spec throwaway.Spec
		want string
	}{
		{"root", false, throwaway.Spec{User: true, UIDMap: only(0), GIDMap: onlyGroup(0)}, "uid=0 gid=0 groups="},
		{"single", false, throwaway.Spec{User: true, UIDMap: only(9), GIDMap: onlyGroup(8)}, "uid=9 gid=8 groups="},
		{"user", true, throwaway.Spec{User: true, UID: 9, GID: 8, Groups: []int{7, 6}}, "uid=9 gid=8 groups=6,7\n"},
		{"user of the host", true, throwaway.Spec{UID: 9, GID: 8}, "uid=9 gid=8 groups=\n"},
		{"two ranges", true, throwaway.Spec{UID: 5, UIDMap: []throwaway.IDMap{
			{ContainerID: 0, HostID: 70000, Size: 1}, {ContainerID: 5, HostID: 80000, Size: 2}}, User: true}, "uid=5 gid=0 groups=\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.root {
				needRoot(t)
			}
			test.spec.Args = []string{"id"}
			if got, state := output(t, test.spec); !strings.HasPrefix(got, test.want) || !state.Success() {
				t.Errorf("got %q, %v", got, state)
			}
		})
	}
}

// TestAmbient gives a user of the host a capability.
func TestAmbient(t *testing.T) {
	needRoot(t)
	begin(t)
	c := testutil.Throwaway(t, throwaway.Spec{UID: 9, GID: 9, AmbientCaps: 1 << unix.CAP_NET_RAW})
	is("Uid", ids(9))(t, c.Pid())
	is("CapEff", fmt.Sprintf("%016x", 1<<unix.CAP_NET_RAW))(t, c.Pid())
}

// TestInside runs commands where nothing but the binary is.
func TestInside(t *testing.T) {
	begin(t)
	for _, test := range []struct {
		args string
		code int
		want string
	}{
		{"true", 0, ""},
		{"exit 42", 42, ""},
		{"/bin/exit 3", 3, ""},
		{"/bin/outband __applet echo a b", 0, "a b\n"},
		{"cat /proc/sys/kernel/hostname /etc/hostname", 0, "web\nweb\n"},
		{"cat /dev/zero/x", 1, "cat: "},
		{"cat /dev/null", 0, ""},
		{"pwd", 0, "/\n"},
		{"env", 0, "PATH=/bin\nHOME=/root\n"},
		{"ps", 0, "  PID  PPID COMMAND\n    1     0 ps\n"},
		{"status", 0, "Name:\tstatus\n"},
		{"/bin/outband __throwaway", 2, "outband: __throwaway is for internal use\n"},
	} {
		t.Run(test.args, func(t *testing.T) {
			got, state := output(t, throwaway.Spec{Name: "web", Args: strings.Fields(test.args)})
			exact := test.code == 0 && test.args != "status"
			if !strings.HasPrefix(got, test.want) || exact && got != test.want || state.ExitCode() != test.code {
				t.Errorf("got %q, %v", got, state)
			}
		})
	}
}

// TestDevices reads and writes what /dev has.
func TestDevices(t *testing.T) {
	begin(t)
	c := testutil.Throwaway(t, throwaway.Spec{})
	dev := fmt.Sprintf("/proc/%d/root/dev/", c.Pid())
	for name, want := range map[string]uint64{
		"null": unix.Mkdev(1, 3), "zero": unix.Mkdev(1, 5), "full": unix.Mkdev(1, 7), "random": unix.Mkdev(1, 8),
		"urandom": unix.Mkdev(1, 9), "tty": unix.Mkdev(5, 0), "pts/ptmx": unix.Mkdev(5, 2),
	} {
		var st syscall.Stat_t
		if err := syscall.Stat(dev+name, &st); err != nil || uint64(st.Rdev) != want || st.Mode&0o666 != 0o666 {
			t.Errorf("%s: device %x, mode %o, %v", name, st.Rdev, st.Mode, err)
		}
	}
	for name, want := range map[string]string{"ptmx": "pts/ptmx", "stdin": "/proc/self/fd/0", "fd": "/proc/self/fd"} {
		if got, err := os.Readlink(dev + name); err != nil || got != want {
			t.Errorf("%s: link to %s, %v", name, got, err)
		}
	}
}
