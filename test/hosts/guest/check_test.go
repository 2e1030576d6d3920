// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband"
	"github.com/outband/outband/internal/confine"
	"github.com/outband/outband/internal/procfs"
)

// box is a container of some engine.
type box struct {
	pid    int      // of its init
	exec   []string // how the engine itself runs a command inside; nil: it cannot
	differ []string // lines of status that the engine does otherwise than init has it
	name   string   // what outband calls it, with its engine; "": not looked at
}

// check is the suite that every container passes.
func check(t *testing.T, b box) {
	t.Helper()
	target, err := outband.OpenPID(context.Background(), b.pid)
	if err != nil {
		t.Fatal(err, outband.Hint(err))
	}
	defer target.Close()
	if b.name != "" {
		t.Run("named", func(t *testing.T) { checkNamed(t, b.name, b.pid) })
	}
	lost := refused(t, target, b)
	t.Run("confined", func(t *testing.T) { checkConfined(t, target, lost) })
	t.Run("placed", func(t *testing.T) { checkPlaced(t, target, lost) })
	t.Run("status", func(t *testing.T) { checkStatus(t, b, lost) })
	t.Run("ends", func(t *testing.T) { checkEnds(t, target, lost) })
}

// refused returns what of the confinement cannot be copied, having seen that a
// command is refused for just that.
func refused(t *testing.T, target *outband.Target, b box) []outband.Loss {
	t.Helper()
	want := losses(t, b.pid)
	_, err := target.Command("true").Plan()
	var loss *outband.LossError
	switch {
	case err == nil && want == nil:
	case errors.As(err, &loss) && slices.Equal(loss.Losses, want):
		t.Logf("refused until accepted: %v", want)
	default:
		t.Errorf("refused for %v, want for %v", err, want)
	}
	return want
}

// losses are those without which nothing enters the container of an init: who is
// not the machine's root can read no filters.
func losses(t *testing.T, pid int) []outband.Loss {
	t.Helper()
	init := state(t, pid)
	t.Logf("init: seccomp %d, %d filters, label %q, capabilities %x", init.Seccomp, init.Filters, init.Label, init.Caps.Bounding)
	if os.Geteuid() != 0 && init.Seccomp != 0 {
		return []outband.Loss{outband.LossSeccomp}
	}
	return nil
}

// state is how a process is confined.
func state(t testing.TB, pid int) confine.State {
	t.Helper()
	proc, err := procfs.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	dir, err := proc.Process(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	status, err := dir.Status()
	if err != nil {
		t.Fatal(err)
	}
	stat, err := dir.ReadFile("stat")
	if err != nil {
		t.Fatal(err)
	}
	s, err := confine.Read(dir, status, stat)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// enter starts a command that runs until the end of the test, and returns its
// number on the host.
func enter(t *testing.T, target *outband.Target, lost []outband.Loss) (pid int) {
	t.Helper()
	c := target.Command("sleep", "1000")
	c.AcceptLoss = lost
	c.StartTimeout = settleTime
	if err := c.Start(); err != nil {
		t.Fatal(err, outband.Hint(err))
	}
	t.Cleanup(func() {
		_ = c.Process.Signal(unix.SIGKILL)
		_ = c.Wait()
	})
	return c.Process.PIDs()[0]
}

// checkConfined compares, from the outside, an entered process to init.
func checkConfined(t *testing.T, target *outband.Target, lost []outband.Loss) {
	pid := enter(t, target, lost)
	init, visitor := state(t, target.PID()), state(t, pid)
	for _, d := range confine.Compare(init, visitor) {
		if !slices.Contains(lost, outband.LossSeccomp) || d.Field != "seccomp" && d.Field != "filters" {
			t.Errorf("%s: %s, init %s", d.Field, d.Process, d.Init)
		}
	}
}

// checkPlaced compares namespaces, root and cgroup.
func checkPlaced(t *testing.T, target *outband.Target, lost []outband.Loss) {
	pid := enter(t, target, lost)
	for _, kind := range []string{"mnt", "net", "ipc", "uts", "user", "cgroup", "pid", "time"} {
		if got, want := link(pid, "ns/"+kind), link(target.PID(), "ns/"+kind); got != want {
			t.Errorf("%s namespace %s, init %s", kind, got, want)
		}
	}
	if a, b := device(t, pid, "root"), device(t, target.PID(), "root"); a != b {
		t.Errorf("root %s, init's %s", a, b)
	}
	init, own := unified(t, target.PID()), unified(t, pid)
	session, below := strings.CutPrefix(own, strings.TrimSuffix(init, "/")+"/outband-")
	if own != init && (!below || strings.Contains(session, "/")) {
		t.Errorf("cgroup %s, init's %s", own, init)
	}
	t.Logf("cgroup %s, init's %s", own, init)
}

// device says which directory a link of a process leads to.
func device(t testing.TB, pid int, name string) string {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/%s", pid, name), &st); err != nil {
		t.Error(err)
	}
	return fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// unified is a process's path in the unified hierarchy.
func unified(t testing.TB, pid int) string {
	t.Helper()
	for line := range strings.Lines(file(t, pid, "cgroup")) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return path
		}
	}
	t.Fatalf("process %d is in no unified hierarchy", pid)
	return ""
}

// compared are the lines of /proc/self/status that confine.
var compared = []string{"Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters", "Umask"}

// checkStatus compares what a process sees of itself: one that the command has
// put inside, one that the engine has.
func checkStatus(t *testing.T, b box, lost []outband.Loss) {
	show := []string{"cat", "/proc/self/status", "/proc/self/attr/current"}
	ours, err := outbandEnter(t, b.pid, lost, show...)
	if err != nil {
		t.Fatal(err)
	}
	if b.exec == nil {
		return
	}
	theirs := call(t, append(slices.Clone(b.exec), show...)...)
	for _, name := range compared {
		x, y := field(ours, name), field(theirs, name)
		skip := slices.Contains(b.differ, name) || slices.Contains(lost, outband.LossSeccomp) && strings.HasPrefix(name, "Seccomp")
		if x != y && !skip {
			t.Errorf("%s: %q, by the engine %q", name, x, y)
		}
	}
	if x, y := label(ours), label(theirs); x != y {
		t.Errorf("label %q, by the engine %q", x, y)
	}
}

// outbandEnter runs the command outband.
func outbandEnter(t testing.TB, pid int, lost []outband.Loss, args ...string) (string, error) {
	t.Helper()
	return try(t, append(append(words(pid, lost), "--"), args...)...)
}

// words are the command line of an entry up to its command.
func words(pid int, lost []outband.Loss) []string {
	line := []string{"outband", "enter", fmt.Sprint(pid)}
	if len(lost) > 0 {
		line = append(line, "--accept-loss="+strings.Trim(strings.ReplaceAll(fmt.Sprint(lost), " ", ","), "[]"))
	}
	return line
}

// field is a line of status, without blanks around it.
func field(status, name string) string {
	_, rest, _ := strings.Cut("\n"+status, "\n"+name+":")
	line, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(line)
}

// label is what follows the last line of status.
func label(text string) string {
	i := strings.LastIndex(text, "nonvoluntary_ctxt_switches:")
	if i < 0 {
		return ""
	}
	_, rest, _ := strings.Cut(text[i:], "\n")
	return strings.TrimSpace(rest)
}

// checkEnds leaves processes behind: with the session they are gone, and so is
// its cgroup.
func checkEnds(t *testing.T, target *outband.Target, lost []outband.Loss) {
	mark := fmt.Sprintf("%d", 100000+os.Getpid())
	c := target.Command("sh", "-c", "sleep "+mark+" & (sleep "+mark+" & ) ; setsid sleep "+mark+" & sleep 0.1; exit 7")
	c.AcceptLoss, c.StartTimeout = lost, settleTime
	err := c.Start()
	if err != nil {
		t.Fatal(err, outband.Hint(err))
	}
	group := c.Process.Cgroup()
	var exit *outband.ExitError
	if err := c.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("it ended with %v, want exit code 7", err)
	}
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, line := range lines {
		if b, _ := os.ReadFile(line); strings.HasPrefix(string(b), "sleep\x00"+mark) {
			t.Errorf("%s is left: %q", line, b)
		}
	}
	if group == "" {
		t.Log("without a cgroup of its own")
		return
	}
	if _, err := os.Stat(group); err == nil {
		t.Errorf("%s is left", group)
	}
}
