// SPDX-License-Identifier: Apache-2.0

package matrix

import (
	"flag"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/outband/outband/internal/sys"
)

// matrixReport is the document of what was entered.
func matrixReport() *report {
	return &report{path: "../../docs/matrix.md", second: "\n## Names and states\n"}
}

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
	if t.Failed() || !whole || len(r.rows) == 0 || testRun() != "" && testRun() != t.Name() {
		return
	}
	text := r.table()
	matrixReport().settle(t, text, func(_, second string) string { return r.document(text) + second })
}

// conformed is the second table: what was found of each engine's names and states.
type conformed struct{ lines [][]string }

const namesLegend = `
One container of each engine went through this, from left to right; ` + "`TestConformance`" + `.

- **running**: what ` + "`ls`" + ` calls it, and what leads to it. ` + "`pid:`" + `: nobody keeps a name.
- **one row**: engines below know it, too; it is listed once, and their names lead to it. –: there are none, or none that is known.
- **id**: the beginning of its id leads to it. –: it has none.
- **long names**: one of 100,000 characters is refused.
- **forged**: another container has its host name, its arguments and the ends of its cgroups' names. Its name leads to no other.
- **same name**: another engine has a container of that name. The name alone is refused with the choices. –: such a name has its
  engine or its user before it anyway.
- **visitor**: what came in by the engine's own exec, or by nsenter where that has none, is counted, and this is said to have let it in.
- **paused**: listed so, and not entered. –: the engine has no word for it, or not here.
- **stopped**: *known*: ` + "`ls -a`" + ` has it, and it is refused as not running; *gone*: nobody keeps it. Another under its name is *new*: the
  name leads to that one.

`

// finish is that of results.
func (c *conformed) finish(t *testing.T) {
	if t.Failed() || testRun() != "" && testRun() != t.Name() {
		return
	}
	rows := [][]string{{"engine"}}
	for _, f := range facets() {
		rows[0] = append(rows[0], f.name)
	}
	for _, line := range c.lines {
		if len(line) != len(rows[0]) {
			return // a part of it
		}
		rows = append(rows, line)
	}
	table := grid(rows)
	d := matrixReport()
	d.settle(t, table, func(first, _ string) string { return first + d.second + namesLegend + table })
}

// table is what was found, without what differs between machines.
func (r *results) table() string {
	rows := [][]string{{"engine", "container"}}
	for _, c := range checks() {
		rows[0] = append(rows[0], c.name)
	}
	for _, row := range r.rows {
		line := []string{row.engine, row.subject.name}
		for _, c := range checks() {
			line = append(line, row.found[c.name])
		}
		rows = append(rows, line)
	}
	return grid(rows)
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
