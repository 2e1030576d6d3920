// SPDX-License-Identifier: Apache-2.0

package matrix

import (
	"regexp"
	"testing"

	"github.com/outband/outband/test/lab"
)

// powerReport is the document of what was switched off.
func powerReport() *report {
	return &report{
		path: "../../docs/power.md", second: "\n## Engines and their restart policies\n",
		differ: regexp.MustCompile(`, [0-9.]+ s`), // how long something took
	}
}

const powerIntroduction = `# Inits and the power switch

What ` + "`outband power`" + ` has done with real inits, booted by systemd-nspawn with a user namespace of their own, and how long that took.
Each cell is the rung that ended the init, after the softer ones had failed, where there were any. What systemd-nspawn was told was
what was meant in every case: it exits with 133 upon a reboot, upon which its unit starts the container again. An init that ends by
SIGTERM, as a program below tini does, tells its own status. Inits had 12 seconds for an answer. Nothing here is written by hand:
` + "`make test-matrix UPDATE=1`" + `.

`

// initTable is what was found of each init, by its name and what was thrown.
type initTable map[string]string

// finish writes or compares the first part, if all of it was found.
func (found initTable) finish(t *testing.T) {
	systems := append(lab.Systems(), deaf())
	if t.Failed() || len(found) != len(systems)*len(throws()) {
		return
	}
	rows := [][]string{append([]string{"init"}, throws()...)}
	for _, system := range systems {
		row := []string{system.Name}
		for _, words := range throws() {
			row = append(row, found[system.Name+" "+words])
		}
		rows = append(rows, row)
	}
	table := grid(rows)
	powerReport().settle(t, table, func(_, second string) string { return powerIntroduction + table + second })
}

const policyLegend = `
Containers of each engine, with a user namespace of their own and ` + "`sleep`" + ` as their init, were pressed: ` + "`power … off --force`" + ` and
` + "`power … reboot --force`" + `; ` + "`TestPowerPolicies`" + `.

- **policy**: what was given as ` + "`--restart`" + `; –: nothing, or there is no such thing.
- **by**: who ran ` + "`outband`" + `.
- **off**, **reboot**: *refused*: the engine would undo it, or not do its part, and it was done by ` + "`--anyway`" + `. Then how the init ended as
  ` + "`outband`" + ` tells it, and what brought it back.
- **the engine says**: its own word for the container's state afterwards, the exit code that it has of it, and how often it has started it
  again. *exits*: what has started the container, and waited for it, ended with that code.

`

// policyTable are the rows of the second part.
type policyTable struct{ rows [][]string }

// add takes a row in.
func (p *policyTable) add(row []string) { p.rows = append(p.rows, row) }

// finish writes or compares the second part, if all of it was found.
func (p *policyTable) finish(t *testing.T) {
	all := 0
	for _, s := range pressed() {
		all += len(s.policies)
	}
	if t.Failed() || len(p.rows) != all {
		return
	}
	for _, row := range p.rows {
		if row[1] == "" {
			row[1] = none
		}
	}
	d := powerReport()
	table := grid(append([][]string{{"engine", "policy", "by", "off", "the engine says", "reboot", "the engine says"}}, p.rows...))
	d.settle(t, table, func(first, _ string) string { return first + d.second + policyLegend + table })
}
