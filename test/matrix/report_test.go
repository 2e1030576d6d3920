// SPDX-License-Identifier: Apache-2.0

package matrix

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/outband/outband/internal/sys"
)

// document is the report, from this directory.
const document = "../../docs/matrix.md"

// results are the rows of the table.
type results struct{ rows []row }

type row struct {
	engine, version string
	subject         subject
	found           map[string]string
}

// add takes a container's row in; found is nil where there is none.
func (r *results) add(s subject, engine, version string, found map[string]string) {
	if found != nil {
		r.rows = append(r.rows, row{engine, version, s, found})
	}
}

// finish writes the report if it is asked for, and else compares the one that is
// there, which has to be true where everything has to be there. Part of a run
// says nothing about it.
func (r *results) finish(t *testing.T) {
	whole := true
	for _, row := range r.rows {
		whole = whole && len(row.found) == len(checks())
	}
	if t.Failed() || !whole || len(r.rows) == 0 || testRun() != "" {
		return
	}
	text := r.table()
	if *update {
		if err := os.WriteFile(document, []byte(r.document(text)), 0o644); err != nil {
			t.Error(err)
		}
		return
	}
	data, err := os.ReadFile(document)
	if err == nil && strings.Contains(string(data), text) {
		return
	}
	said := fmt.Sprintf("%s is not what was found (%v): make test-matrix UPDATE=1\n%s", document, err, text)
	if os.Getenv("OUTBAND_REQUIRE") == "all" {
		t.Error(said)
	} else {
		t.Log(said) // other versions of the engines
	}
}

// table is what was found, without what differs between machines.
func (r *results) table() string {
	var b strings.Builder
	b.WriteString("| engine | container |")
	for _, c := range checks() {
		b.WriteString(" " + c.name + " |")
	}
	b.WriteString("\n|---|---|" + strings.Repeat("---|", len(checks())) + "\n")
	for _, row := range r.rows {
		fmt.Fprintf(&b, "| %s | %s |", row.engine, row.subject.name)
		for _, c := range checks() {
			b.WriteString(" " + row.found[c.name] + " |")
		}
		b.WriteString("\n")
	}
	return b.String()
}

const introduction = `# Engines

What ` + "`make test-matrix`" + ` has entered, and what it found. Each engine ran on a host of its own, made of namespaces; the program
ran on that host, as its administrator would run it. Nothing here is written by hand: ` + "`make test-matrix UPDATE=1`" + `.

`

const legend = `
- **command**: output and exit codes come through; a program that is not there is 127; what is left in the background
  ends.
- **confinement**: ids, groups, capability sets, no_new_privs and seccomp of the command are init's, as the kernel tells them.
- **filters**: how many seccomp filters init has. The command has as many, and what they forbid it may not do.
- **cgroup**: in each hierarchy the command is in init's group; *own*: in one of the session's below it.
- **as exec**: what the engine's own exec starts is confined in the same way. –: the engine or the image has none. *but*: what exec
  leaves out although init has it; the command has it.
- **machine**: the same from the machine, two pid namespaces above the container.
- **owner**: a user enters a container of their own. *without filters*: only with ` + "`--accept-loss seccomp`" + `. *refused*:
  init runs as another of the user's subordinate ids, whose files below ` + "`/proc`" + ` the user may not read.
- **refusals**: ` + "`--only pid`" + `, the user 4294967295, a working directory through a descriptor, unknown losses, a variable without a name.

In every cell nothing is left behind: no process, no cgroup, also when the program is killed.

`

// document is the whole report.
func (r *results) document(table string) string {
	var b strings.Builder
	major, minor := sys.Release()
	b.WriteString(introduction)
	fmt.Fprintf(&b, "The last run was on Linux %d.%d, %s.\n\n", major, minor, runtime.GOARCH)
	b.WriteString(table + legend + "| engine | version |\n|---|---|\n")
	last := ""
	for _, row := range r.rows {
		if row.engine != last {
			fmt.Fprintf(&b, "| %s | %s |\n", row.engine, row.version)
		}
		last = row.engine
	}
	b.WriteString("\n| container | what it is |\n|---|---|\n")
	for _, s := range subjects() {
		fmt.Fprintf(&b, "| %s | %s |\n", s.name, s.about)
	}
	return b.String()
}

// testRun is the value of -run.
func testRun() string { return flag.Lookup("test.run").Value.String() }
