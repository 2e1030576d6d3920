// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/forkexec"
	"github.com/outband/outband/ns"
)

var update = flag.Bool("update", false, "write testdata/plan anew")

// A planTest is a plan made of recorded snapshots, which takes neither
// privilege nor a system call.
type planTest struct {
	name         string
	target, self string
	edit         func(t *testing.T, target, self recorded)
	cmd          func(*Cmd)
}

// The sets of capabilities that recorded processes hold, as status has them.
const (
	dockerCaps = "00000000a80425fb"
	noCaps     = "0000000000000000"
)

// status changes lines of the target's status: KEY, VALUE, KEY, VALUE …
func status(pairs ...string) func(*testing.T, recorded, recorded) {
	return func(t *testing.T, target, _ recorded) {
		for pair := range slices.Chunk(pairs, 2) {
			target.setStatus(t, pair[0], pair[1])
		}
	}
}

// joined runs several edits.
func joined(edits ...func(*testing.T, recorded, recorded)) func(*testing.T, recorded, recorded) {
	return func(t *testing.T, target, self recorded) {
		for _, edit := range edits {
			edit(t, target, self)
		}
	}
}

// limit gives the target, or the caller, other open files, soft and hard.
func limit(ofSelf bool, soft, hard string) func(*testing.T, recorded, recorded) {
	return func(_ *testing.T, target, self recorded) {
		r := target
		if ofSelf {
			r = self
		}
		var lines []string
		for line := range strings.Lines(r["limits"]) {
			if strings.HasPrefix(line, "Max open files") {
				line = fmt.Sprintf("%-25s %-20s %-20s %-10s\n", "Max open files", soft, hard, "files")
			}
			lines = append(lines, line)
		}
		r["limits"] = strings.Join(lines, "")
	}
}

func set(file, content string) func(*testing.T, recorded, recorded) {
	return func(_ *testing.T, target, _ recorded) { target[file] = content }
}

func user(uid, gid uint32) func(*Cmd) { return func(c *Cmd) { c.User = &User{UID: uid, GID: gid} } }

func only(kinds ...ns.Kind) func(*Cmd) { return func(c *Cmd) { c.Only = kinds } }

// identities: who the command becomes, and where.
var identities = []planTest{
	{"root in the machine's user namespace", "runc", "self-root", nil, nil},
	{"user namespace with a full map", "userns", "self-root", nil, nil},
	{"single id, not 0, as root", "single", "self-root", nil, nil},
	{"rootless, as its owner", "rootless", "self-user", nil, nil},
	{"rootless, as its owner with other groups", "rootless", "self-user", status("Groups", "1000 "), nil},
	{"rootless, as root: setgroups denied", "rootless", "self-root", nil, nil},
	{"bwrap, no id 0, as its owner", "bwrap", "self-user", nil, nil},
	{"bwrap, no id 0, as root", "bwrap", "self-root", nil, nil},
	{"from inside a container", "nested", "self-nested", nil, nil},
	{"map of 340 lines", "userns", "self-root", func(_ *testing.T, target, _ recorded) {
		var lines strings.Builder
		for i := range 340 {
			fmt.Fprintf(&lines, "%10d %10d %10d\n", i*10, 100000+(339-i)*10, 10)
		}
		target["uid_map"], target["gid_map"] = lines.String(), lines.String()
	}, nil},
	{"init without a number inside", "userns", "self-root", status("Uid", "5\t5\t5\t5", "Gid", "6\t6\t6\t6", "Groups", "7 "), nil},
	{"init without a number inside, not as root", "rootless", "self-user", status("Uid", "5\t5\t5\t5"), nil},
	{"another user's, in the same user namespace", "runc", "self-user", status("Uid", "5\t5\t5\t5"), nil},
	{"no map yet", "userns", "self-root", joined(set("uid_map", ""), set("gid_map", "")), nil},
	{"three different users", "runc", "self-root", status("Uid", "0\t1000\t33\t1000", "Gid", "0\t100\t33\t100"), nil},
	{"user 1000", "runc", "self-root", nil, user(1000, 0)},
	{"user 0", "userns", "self-root", nil, user(0, 0)},
	{"user 1000:1001 in a user namespace", "userns", "self-root", nil, user(1000, 1001)},
	{"user that is not mapped", "userns", "self-root", nil, user(70000, 0)},
	{"user with a group that is not mapped", "rootless", "self-user", nil, user(0, 5)},
	{"user that nobody is", "runc", "self-root", nil, user(noID, 0)},
	{"user with a group that nobody has", "runc", "self-root", nil, user(0, noID)},
	{"user without privilege", "runc", "self-user", nil, user(1000, 1000)},
	{"user, where setgroups is denied, as its owner", "rootless", "self-user", nil, user(0, 0)},
	{"user, where setgroups is denied, as root with groups", "rootless", "self-root",
		func(t *testing.T, _, self recorded) { self.setStatus(t, "Groups", "0 4 24 ") }, user(0, 0)},
}

// powers: what the command may do.
var powers = []planTest{
	{"root that gave up capabilities: noroot", "runc", "self-root", status("CapPrm", "0000000000000400", "CapEff", "0000000000000400"), nil},
	{"root by its real user alone", "runc", "self-root", status("Uid", "0\t1000\t1000\t1000", "CapPrm", noCaps, "CapEff", noCaps), nil},
	{"put down for a while", "runc", "self-root", status("CapEff", noCaps), nil},
	{"ambient", "userns", "self-root", nil, nil},
	{"held but not ambient, not root", "userns", "self-root", status("CapPrm", "0000000000000003", "CapEff", "0000000000000003"), nil},
	{"inheritable beyond bounding", "userns", "self-root", status("CapInh", "0000000000200001", "CapPrm", "0000000000200001", "CapAmb", "0000000000200001"), nil},
	{"not the caller's to give", "runc", "self-root", status("CapBnd", "000001ffffffffff", "CapPrm", "000001ffffffffff", "CapEff", "000001ffffffffff"), nil},
	{"no_new_privs", "runc", "self-root", status("NoNewPrivs", "1"), nil},
	{"privileged", "runc", "self-root", status("NoNewPrivs", "1", "Seccomp", "2", "Seccomp_filters", "1"), func(c *Cmd) { c.Privileged = true }},
	{"privileged where init is not root", "userns", "self-root", nil, func(c *Cmd) { c.Privileged = true }},
	{"privileged in one's own container", "rootless", "self-user", nil, func(c *Cmd) { c.Privileged = true }},
	{"privileged and a user", "runc", "self-root", nil, func(c *Cmd) { c.Privileged = true; c.User = &User{UID: 1000, GID: 1000} }},
	{"filters", "runc", "self-root", status("Seccomp", "2", "Seccomp_filters", "3"), nil},
	{"filters, accepted", "runc", "self-root", status("Seccomp", "2", "Seccomp_filters", "3"), func(c *Cmd) { c.AcceptLoss = []Loss{LossSeccomp} }},
	{"strict mode", "runc", "self-root", status("Seccomp", "1"), nil},
	{"label", "runc", "self-root", set("attr/current", "docker-default (enforce)\n"), nil},
	{"label, accepted", "runc", "self-root", set("attr/current", "docker-default (enforce)\n"), func(c *Cmd) { c.AcceptLoss = []Loss{LossLSM} }},
	{"filters and label", "runc", "self-root", joined(status("Seccomp", "2"), set("attr/current", "x\n")), func(c *Cmd) { c.AcceptLoss = []Loss{LossCgroup} }},
	{"label that is the caller's as well", "runc", "self-root", func(_ *testing.T, target, self recorded) {
		target["attr/current"], self["attr/current"] = "unconfined\n", "unconfined\n"
	}, nil},
	{"limits above the caller's", "runc", "self-root", joined(limit(true, "100", "200"), limit(false, "300", "400")), nil},
	{"limits above the caller's, who may", "runc", "self-root", joined(limit(true, "100", "200"), limit(false, "300", "400"),
		func(t *testing.T, _, self recorded) { self.setStatus(t, "CapEff", "000001ffffffffff") }), nil},
	{"limits above the caller's, who may in its container", "nested", "self-nested", joined(limit(true, "100", "200"), limit(false, "300", "400"),
		func(t *testing.T, _, self recorded) { self.setStatus(t, "CapEff", "000001ffffffffff") }), nil},
	{"limits below the caller's", "runc", "self-user", joined(limit(true, "300", "400"), limit(false, "100", "200"), status("Uid", "1000\t1000\t1000\t1000", "Gid", "1000\t1000\t1000\t1000")), nil},
	{"limits, accepted", "runc", "self-root", limit(false, "1", "1"), func(c *Cmd) { c.AcceptLoss = []Loss{LossLimits} }},
	{"oom score raised", "rootless", "self-user", set("oom_score_adj", "500\n"), nil},
	{"oom score lowered", "rootless", "self-user", set("oom_score_adj", "-500\n"), nil},
	{"oom score lowered by who may", "runc", "self-root", joined(set("oom_score_adj", "-500\n"),
		func(t *testing.T, _, self recorded) { self.setStatus(t, "CapEff", "000001ffffffffff") }), nil},
}

// ways: which namespaces, directories, streams, cgroups.
var ways = []planTest{
	{"only net", "runc", "self-root", nil, only(ns.Net)},
	{"only what is shared", "runc", "self-root", nil, only(ns.User)},
	{"only nothing", "runc", "self-root", nil, func(c *Cmd) { c.Only = []ns.Kind{} }},
	{"only pid", "runc", "self-root", nil, only(ns.PID)},
	{"only pid, exposing the host", "runc", "self-root", nil, func(c *Cmd) { c.Only, c.ExposeHost = []ns.Kind{ns.PID}, true }},
	{"only pid and mnt", "runc", "self-root", nil, only(ns.PID, ns.Mount)},
	{"only net, in the host's pid namespace", "runc", "self-root", func(_ *testing.T, target, self recorded) { target["ns/pid"] = self["ns/pid"] }, only(ns.Net)},
	{"not the user namespace", "userns", "self-root", nil, only(ns.PID, ns.Mount, ns.Net)},
	{"not the user namespace, but a user of it", "userns", "self-root", nil, func(c *Cmd) {
		c.Only, c.User = []ns.Kind{ns.PID, ns.Mount}, &User{UID: 0, GID: 1000}
	}},
	{"shares mounts with the host", "runc", "self-root", func(_ *testing.T, target, self recorded) { target["ns/mnt"] = self["ns/mnt"] }, nil},
	{"a kernel without time namespaces", "runc", "self-root", func(_ *testing.T, target, self recorded) {
		target["ns/time"], self["ns/time"] = "time:[0]\n", "time:[0]\n"
	}, nil},
	{"outside of its cgroup", "runc", "self-root", nil, func(c *Cmd) { c.Cgroup = CgroupNone }},
	{"without its cgroup, accepted", "runc", "self-root", nil, func(c *Cmd) { c.AcceptLoss = []Loss{LossCgroup} }},
	{"directory and environment", "runc", "self-root", nil, func(c *Cmd) {
		c.Dir, c.Env = "/srv", []string{"LANG=de", "A=1", "A=2", "EMPTY=", "PATH=/opt/bin:/bin"}
	}},
	{"no environment", "runc", "self-root", set("environ", ""), nil},
	{"environment with other entries", "runc", "self-root", set("environ", "no equals sign\n=x\nA=1\n\nB=\nA B=2\n"), nil},
	{"one's own streams", "runc", "self-root", nil, func(c *Cmd) { c.PassStreams = true }},
	{"path in place of a name", "runc", "self-root", nil, func(c *Cmd) { c.Args = []string{"bin/ps", "ax"} }},
}

// golden is what a test's file holds: the plan as --explain prints it and what
// is handed on besides, or why there is none.
type golden struct {
	Error   string             `json:"error,omitempty"`
	Hint    string             `json:"hint,omitempty"`
	Plan    *Plan              `json:"plan,omitempty"`
	Before  *forkexec.Identity `json:"identity_outside,omitempty"`
	After   *forkexec.Identity `json:"identity_inside,omitempty"`
	Caps    *forkexec.Caps     `json:"capabilities_before_exec,omitempty"`
	OOM     *int               `json:"write_oom_score_adj,omitempty"`
	Owner   *[2]uint32         `json:"owner_of_pipes,omitempty"`
	InGroup bool               `json:"in_target_cgroup,omitempty"`
}

func (test *planTest) run(t *testing.T) golden {
	target, self := load(t, test.target), load(t, test.self)
	if test.edit != nil {
		test.edit(t, target, self)
	}
	c := &Cmd{Args: []string{"ps", "ax"}}
	if test.cmd != nil {
		test.cmd(c)
	}
	plan, err := makePlan(snapshotOf(t, target, self), "web", c)
	if err != nil {
		return golden{Error: err.Error(), Hint: Hint(err)}
	}
	return golden{Plan: plan, Before: plan.before, After: plan.after, Caps: &plan.caps, OOM: plan.oom, Owner: &plan.outside, InGroup: plan.inTarget}
}

func TestPlan(t *testing.T) {
	files := map[string]bool{}
	for _, test := range slices.Concat(identities, powers, ways) {
		t.Run(test.name, func(t *testing.T) {
			name := strings.NewReplacer(" ", "-", ",", "", ":", "-", "'", "").Replace(test.name) + ".json"
			path := filepath.Join("testdata", "plan", name)
			if files[path] {
				t.Fatalf("two tests have %s", path)
			}
			files[path] = true
			got, err := json.MarshalIndent(test.run(t), "", "\t")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, '\n')
			if *update {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s (write it anew with -update): %v\ngot\n%s\nwant\n%s", path, err, got, want)
			}
			if bytes.Contains(got, []byte("null")) {
				t.Errorf("a list is null in\n%s", got)
			}
		})
	}
	kept, err := filepath.Glob("testdata/plan/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range kept {
		if flag.Lookup("test.run").Value.String() == "" && !files[path] {
			t.Errorf("%s is no test's", path)
		}
	}
}

// A plan that was made says nothing of what it was made of that could change.
func TestPlanIsItsOwn(t *testing.T) {
	s := snapshotOf(t, load(t, "runc"), load(t, "self-root"))
	first, err := makePlan(s, "web", &Cmd{Args: []string{"true"}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range first.Groups {
		first.Groups[i] = 99
	}
	if slices.Contains(s.state.Groups, 99) {
		t.Error("the plan's groups are the snapshot's")
	}
}

func TestPlanRefuses(t *testing.T) {
	s := snapshotOf(t, load(t, "runc"), load(t, "self-root"))
	tests := []struct {
		name  string
		cmd   Cmd
		want  error
		quote string // part of the message
	}{
		{"no command", Cmd{}, ErrInvalid, "no command"},
		{"an empty command", Cmd{Args: []string{""}}, ErrInvalid, "no command"},
		{"NUL in the command", Cmd{Args: []string{"a\x00b"}}, ErrInvalid, `"a\x00b"`},
		{"NUL in an argument", Cmd{Args: []string{"a", "\x00"}}, ErrInvalid, `"\x00"`},
		{"NUL in the environment", Cmd{Args: []string{"a"}, Env: []string{"A=\x00"}}, ErrInvalid, `"A=\x00"`},
		{"NUL in the directory", Cmd{Args: []string{"a"}, Dir: "/\x00"}, ErrInvalid, `"/\x00"`},
		{"environment without a value", Cmd{Args: []string{"a"}, Env: []string{"A"}}, ErrInvalid, `"A"`},
		{"environment without a name", Cmd{Args: []string{"a"}, Env: []string{"=A"}}, ErrInvalid, `"=A"`},
		{"an empty entry", Cmd{Args: []string{"a"}, Env: []string{""}}, ErrInvalid, `""`},
		{"a name of two lines", Cmd{Args: []string{"a"}, Env: []string{"A\nB=1"}}, ErrInvalid, `"A\nB=1"`},
		{"a name with an escape", Cmd{Args: []string{"a"}, Env: []string{"\x1b[2J=1"}}, ErrInvalid, `\x1b`},
		{"pid without mnt", Cmd{Args: []string{"a"}, Only: []ns.Kind{ns.PID}}, ErrBreakout, "without mnt"},
		{"nobody", Cmd{Args: []string{"a"}, User: &User{UID: noID}}, ErrInvalid, "4294967295"},
	}
	for _, test := range tests {
		plan, err := makePlan(s, "web", &test.cmd)
		if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.quote) || plan != nil {
			t.Errorf("%s: %v, %v, want %v with %s", test.name, plan, err, test.want, test.quote)
		}
	}
	// A value may hold anything else.
	if _, err := makePlan(s, "web", &Cmd{Args: []string{"a"}, Env: []string{"BASH_FUNC_f%%=() {\n}", "KEY=a\nb"}}); err != nil {
		t.Error(err)
	}
}

func TestEnvironment(t *testing.T) {
	long := strings.Repeat("x", 1000)
	p := &planner{Plan: &Plan{}, t: &snapshot{}, c: &Cmd{Env: []string{"V1=mine", "W=" + long}}}
	for i := range 200 {
		p.t.env = append(p.t.env, fmt.Sprintf("V%d=%s", i, long))
	}
	env := p.environment()
	size := 0
	for _, e := range env {
		size += len(e) + 1
	}
	if size > maxEnvironment+len(long)+len(defaultPath)+10 || size < maxEnvironment-len(long) {
		t.Errorf("%d bytes in %d entries", size, len(env))
	}
	if len(p.Notes) != 1 || !slices.Contains(env, "V1=mine") || slices.Contains(env, "V1="+long) || !slices.Contains(env, defaultPath) {
		t.Errorf("notes %q, %d entries", p.Notes, len(env))
	}
}

func TestSearchPath(t *testing.T) {
	tests := []struct {
		name string
		env  []string
		want []string
	}{
		{"ls", []string{"PATH=/bin:/usr/bin"}, []string{"/bin/ls", "/usr/bin/ls"}},
		{"/bin/ls", []string{"PATH=/x"}, []string{"/bin/ls"}},
		{"./ls", []string{"PATH=/x"}, []string{"./ls"}},
		{"a/b", nil, []string{"a/b"}},
		{"ls", []string{"PATH="}, []string{"./ls"}},
		{"ls", []string{"PATH=:/bin:"}, []string{"./ls", "/bin/ls"}},
		{"ls", []string{"PATH=/bin:/bin"}, []string{"/bin/ls"}},
		{"ls", []string{"PATH=/a/../b:bin"}, []string{"/a/../b/ls", "bin/ls"}}, // /a may be a link
		{"..", []string{"PATH=/bin"}, []string{"/bin/.."}},
		{"-x", []string{"PATH=/bin"}, []string{"/bin/-x"}},
		{"ls", []string{"XPATH=/a", "PATH2=/b"}, nil},
	}
	for _, test := range tests {
		if got := searchPath(test.name, test.env); !slices.Equal(got, test.want) {
			t.Errorf("%s in %q: %q, want %q", test.name, test.env, got, test.want)
		}
	}
}

// FuzzPlan gives a command anything at all: what is planned can be executed as
// it is.
func FuzzPlan(f *testing.F) {
	f.Add("ls", "-l", "A=1", "/srv", "B=2\nC\n")
	f.Add("a/b", "\x00", "=", "", "PATH=")
	s := snapshotOf(f, load(f, "runc"), load(f, "self-root"))
	f.Fuzz(func(t *testing.T, name, arg, entry, dir, inits string) {
		own := *s
		own.env = strings.Split(inits, "\n")
		plan, err := makePlan(&own, "web", &Cmd{Args: []string{name, arg}, Env: []string{entry}, Dir: dir})
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Error(err)
			}
			return
		}
		for _, text := range slices.Concat(plan.Args, plan.Paths, []string{plan.Dir}) {
			if strings.Contains(text, "\x00") {
				t.Errorf("%q has a NUL byte", text)
			}
		}
		if len(plan.Paths) == 0 || !slices.Contains(plan.Env, entry) {
			t.Errorf("paths %q, environment %q", plan.Paths, plan.Env)
		}
		for _, e := range plan.Env {
			if strings.IndexByte(e, '=') <= 0 {
				t.Errorf("environment entry %q", e)
			}
		}
	})
}

// The number of the last capability is the kernel's.
func TestLastCap(t *testing.T) {
	if lastCap != unix.CAP_LAST_CAP+1 {
		t.Errorf("%d capabilities, package unix knows %d", lastCap, unix.CAP_LAST_CAP+1)
	}
}
