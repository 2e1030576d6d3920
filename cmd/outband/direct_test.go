// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// parsed is what is understood of a command line of enter.
type parsed struct {
	target  string
	command []string
	values  map[string]string // of flags that were given, but for that of runDir
	runDir  string
}

func (a parsed) equal(b parsed) bool {
	same := len(a.values) == len(b.values)
	for name, value := range a.values {
		other, ok := b.values[name]
		same = same && ok && value == other
	}
	return same && a.target == b.target && slices.Equal(a.command, b.command) && a.runDir == b.runDir
}

func given(fl *pflag.FlagSet) map[string]string {
	values := map[string]string{}
	fl.Visit(func(f *pflag.Flag) { values[f.Name] = f.Value.String() })
	delete(values, "run-dir") // is runDir
	return values
}

// directly is what enterDirectly understands.
func directly(args []string) (parsed, bool) {
	p := &program{stdout: io.Discard, stderr: io.Discard}
	line, ok := p.enterDirectly(args)
	if !ok {
		return parsed{}, false
	}
	return parsed{line.target, line.command, given(line.set), p.runDir}, true
}

// byCobra is what cobra's tree understands; ok is false where it is another
// verb, asks for help or is wrong.
func byCobra(t *testing.T, args []string) (got parsed, ok bool) {
	t.Helper()
	p := &program{stdout: io.Discard, stderr: io.Discard}
	root, _ := p.command(args)
	root.SetArgs(args)
	enter, _, err := root.Find(enterNames[:1])
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range append(root.Commands(), root) {
		c.RunE = func(*cobra.Command, []string) error { return nil }
	}
	enter.RunE = func(c *cobra.Command, args []string) error {
		target, command, err := split(c.Flags(), args)
		if help, _ := c.Flags().GetBool("help"); err == nil && !help {
			got, ok = parsed{target, command, given(c.Flags()), p.runDir}, true
		}
		return err
	}
	if root.Execute() != nil {
		ok = false
	}
	return got, ok
}

// TestDirectly has lines of which it is said what they mean.
func TestDirectly(t *testing.T) {
	for _, test := range []struct {
		args   []string
		direct bool
		want   parsed
	}{
		{[]string{"enter", "web"}, true, parsed{target: "web"}},
		{[]string{"exec", "-it", "web", "bash", "-l"}, true, parsed{target: "web", command: []string{"bash", "-l"},
			values: map[string]string{"interactive": "true", "tty": "true"}}},
		{[]string{"--run-dir", "/d", "enter", "-e", "A=1", "web", "-eB", "--", "--x"}, true, parsed{target: "web", command: []string{"--x"},
			values: map[string]string{"env": "[A=1,B]"}, runDir: "/d"}},
		{[]string{"enter", "--run-dir=/d", "web", "--user", "0:0", "id", "-u"}, true, parsed{target: "web", command: []string{"id", "-u"},
			values: map[string]string{"user": "0:0"}, runDir: "/d"}},
		{[]string{"enter", "--timeout", "1s", "--", "web", "-n", "enter"}, true, parsed{target: "web", command: []string{"enter"},
			values: map[string]string{"timeout": "1s", "no-stdin": "true"}}},
		{args: []string{}}, {args: []string{"enter"}}, {args: []string{"enter", "--help"}}, {args: []string{"enter", "web", "-h"}},
		{args: []string{"ls"}}, {args: []string{"help", "enter"}}, {args: []string{"__complete", "enter", "w"}}, {args: []string{"--", "enter", "web"}},
		{args: []string{"-u", "0", "enter", "web"}}, {args: []string{"enter", "--timeout", "long", "web"}}, {args: []string{"enter", "web", "--nonesuch"}},
	} {
		got, ok := directly(test.args)
		if test.want.runDir == "" {
			test.want.runDir = got.runDir
		}
		if ok != test.direct || ok && !got.equal(test.want) {
			t.Errorf("%q: %v %+v, want %v %+v", test.args, ok, got, test.direct, test.want)
		}
	}
}

// TestDirectlyIsCobra makes up command lines: whatever is understood directly,
// cobra understands in the same way, and nothing that is simple is left to it.
// (Mutants that lost: flags between words, one flag less, the run directory
// forgotten, "--" before the verb let through.)
func TestDirectlyIsCobra(t *testing.T) {
	words := []string{
		"enter", "exec", "ls", "help", "web", "ps", "0", "--", "-", "", "-n", "-q", "-it", "-nq", "-h", "--help", "-u", "-u0", "-u=0", "--user", "--user=0",
		"-e", "A=B", "-eA", "--env=A=B", "--no-stdin", "--no-stdin=false", "--no-stdin=x", "--timeout", "--timeout=1s", "1s", "--explain", "-ojson", "-o",
		"--run-dir", "--run-dir=/d", "/d", "--run-dir=", "-Z", "--nonesuch", "-i", "-T", "-td", "--only=pid", "completion", "--us=0",
	}
	random := rand.New(rand.NewPCG(1, 2))
	direct, both := 0, 0
	for range 5000 {
		args := make([]string, 0, 8)
		if random.IntN(4) > 0 {
			args = append(args, "enter")
		}
		for range random.IntN(7) {
			args = append(args, words[random.IntN(len(words))])
		}
		got, ok := directly(args)
		want, understood := byCobra(t, args)
		switch {
		case ok && (!understood || !got.equal(want)):
			t.Errorf("%q: directly %+v, by cobra %v %+v", args, got, understood, want)
		case !ok && understood && args[0] == enterNames[0]:
			t.Errorf("%q is left to cobra: %+v", args, want)
		}
		if ok {
			direct++
		}
		if understood {
			both++
		}
	}
	if direct < 500 || both < direct {
		t.Errorf("of 5000 lines %d were understood directly, %d by cobra", direct, both)
	}
}
