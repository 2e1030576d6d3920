// SPDX-License-Identifier: Apache-2.0

package cve

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/test/cve/rig"
)

// looks are the verbs that only look, at a container.
func looks(pid string) [][]string {
	return [][]string{
		{"ls", "-a"}, {"ls", "-o", "json"}, {"tree"}, {"tree", pid}, {"tree", "-o", "json"}, {"pid", pid, "1"}, {"pid", pid, "--from", "host", pid},
		{"sessions"}, {"enter", pid, "--explain", "true"}, {"__complete", "enter", ""}, {"doctor", pid}, {"doctor", pid, "-o", "json"},
	}
}

// TestA7 traces the verbs that only look: none of them joins a namespace and
// none executes anything of a container's, while a real entry, looked at in the
// same way, does; and a doctor that has the container answer for itself.
func TestA7(t *testing.T) {
	begin(t)
	strace := testutil.RequireCommand(t, "strace", "strace")
	c := testutil.Throwaway(t, throwaway.Spec{Depth: 2})
	tool, pid := rig.Build(t), fmt.Sprint(c.Pid())
	for _, args := range looks(pid) {
		if calls := acts(t, strace, tool, args); len(calls) > 0 {
			t.Errorf("%q: %q", args, calls)
		}
	}
	if calls := acts(t, strace, tool, []string{"enter", "-n", pid, "true"}); !slices.Contains(calls, "setns") || !slices.Contains(calls, "execve") {
		t.Errorf("an entry looks like none: %q", calls)
	}
	const reads = "contents, err := p.target.ReadFiles("
	asks := rig.Build(t, rig.Change{File: "doctor/names.go", Old: reads, New: "_ = p.target.Command(\"true\").Run()\n\t" + reads})
	if calls := acts(t, strace, asks, []string{"doctor", pid}); !slices.Contains(calls, "execve") {
		t.Errorf("the mutant, which executes something inside, looks like none: %q", calls)
	}
}

// acts are the calls by which a run of the tool joins or executes something, see
// actsIn.
func acts(t *testing.T, strace string, tool *rig.Tool, args []string) []string {
	t.Helper()
	log := filepath.Join(t.TempDir(), "log")
	trace := []string{strace, "-f", "-qq", "-y", "-o", log, "-e", "trace=setns,unshare,execve,execveat,chroot,pivot_root,memfd_create,fcntl"}
	if r := tool.RunCommand(tool.Command(append(trace, tool.Args(args...)...)...)); r.Code != 0 {
		t.Fatalf("%q: %+v", args, r)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	return actsIn(string(text))
}

// memfdPattern is a file in memory as strace shows it, by its descriptor.
var memfdPattern = regexp.MustCompile(`\d+</memfd:[^>]*>(\(deleted\))?`)

// actsIn are the calls in a trace by which somebody joins or executes something.
// Two things do not count: the execution of the tool itself, which comes first;
// and that of a file in memory which was made during the trace, and sealed, so
// that it holds what the tool has written and nothing of anybody else's. What
// reads a container's files is one. Since a number may be another file's in who
// executes it than in who gave birth to that, each of them has to be sealed.
func actsIn(trace string) (calls []string) {
	open, sealed := map[string]bool{}, map[string]bool{}
	for line := range strings.Lines(trace) {
		m, memfd := callPattern.FindStringSubmatch(strings.TrimSpace(line)), memfdPattern.FindString(line)
		switch {
		case strings.Contains(line, "memfd_create"): // also where its result is on a line of its own
			if memfd != "" && open[memfd] {
				calls = append(calls, "memfd_create")
			}
			open[memfd] = memfd != ""
		case m == nil:
		case m[2] == "fcntl":
			if strings.Contains(line, "F_ADD_SEALS") && strings.Contains(line, "F_SEAL_WRITE") && strings.Contains(line, "F_SEAL_SEAL") {
				open[memfd], sealed[memfd] = false, true
			}
		case m[2] == "execveat" && sealed[memfd] && strings.HasPrefix(m[3], memfd+`, "", `):
		default:
			calls = append(calls, m[2])
		}
	}
	for _, is := range open {
		if is {
			calls = append(calls, "memfd_create")
		}
	}
	if i := slices.Index(calls, "execve"); i >= 0 {
		calls = slices.Delete(calls, i, i+1)
	}
	return calls
}

// TestActsIn: a file in memory counts unless it is sealed, and so does any other.
func TestActsIn(t *testing.T) {
	const file = "7</memfd:outband>(deleted)"
	const tool, made, more = `1 execve("/bin/outband", []) = 0` + "\n", "1 memfd_create(\"outband\", MFD_CLOEXEC) = " + file + "\n",
		"2 memfd_create(\"outband\", MFD_CLOEXEC <unfinished ...>\n2 <... memfd_create resumed>)       = " + file + "\n"
	const seal = "1 fcntl(" + file + ", F_ADD_SEALS, F_SEAL_SEAL|F_SEAL_SHRINK|F_SEAL_GROW|F_SEAL_WRITE) = 0\n"
	const run = "3 execveat(" + file + `, "", ["outband"], 0x1 /* 0 vars */, AT_EMPTY_PATH) = 0` + "\n"
	for name, c := range map[string]struct{ trace, want string }{
		"none": {tool, ""}, "sealed": {tool + made + seal + run, ""}, "not sealed": {tool + made + run, "execveat memfd_create"},
		"two with one number":    {tool + made + seal + more + run + seal + run, ""},
		"another by its number":  {tool + made + seal + run + more + run, "memfd_create"},
		"one of two by a number": {tool + made + more + seal + run, "memfd_create"},
		"sealed too late":        {tool + made + run + seal, "execveat"},
		"not for good":           {tool + made + strings.Replace(seal, "F_SEAL_SEAL|", "", 1) + run, "execveat memfd_create"},
		"by its directory":       {tool + made + seal + strings.Replace(run, `""`, `"/bin/true"`, 1), "execveat"},
		"a file":                 {tool + made + seal + `3 execveat(7</bin/true>, "", [], AT_EMPTY_PATH) = 0` + "\n", "execveat"},
		"by name":                {tool + made + seal + run + `3 execve("/bin/true", []) = 0` + "\n", "execve"},
		"joins":                  {tool + `3 setns(5<pid:[4026531836]>, CLONE_NEWPID) = 0` + "\n", "setns"},
	} {
		if calls := strings.Join(actsIn(c.trace), " "); calls != c.want {
			t.Errorf("%s: %q, want %q", name, calls, c.want)
		}
	}
}
