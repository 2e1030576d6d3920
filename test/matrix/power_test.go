// SPDX-License-Identifier: Apache-2.0

package matrix

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/test/lab"
)

// throw is one throw of the power switch and what came of it.
type throw struct {
	rungs   []string // "ask SIGRTMIN+4", without verify
	exit    string   // of init, as outband tells it
	back    int      // the number of the init that is there instead
	seconds float64
}

// last is the rung that did it.
func (r *throw) last() string {
	if len(r.rungs) == 0 {
		return "nothing"
	}
	return r.rungs[len(r.rungs)-1]
}

// power throws the switch and reads what the program tells, line by line.
func (c *target) power(t *testing.T, words ...string) *throw {
	t.Helper()
	args := append([]string{outband, "power", "pid:" + strconv.Itoa(c.HostPid)}, words...)
	r := c.run(t, c.host.Command(append(args, "-o", "json")...))
	result := &throw{}
	done := false
	for line := range strings.Lines(r.Out) {
		var l struct {
			Rung, How string
			Done      *bool
			InitExit  string `json:"init_exit"`
			Back      *struct{ Pid int }
			Seconds   float64
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v: %q", err, r.Out)
		}
		switch {
		case l.Done != nil:
			done, result.exit, result.seconds = *l.Done, l.InitExit, l.Seconds
			if l.Back != nil {
				result.back = l.Back.Pid
			}
		case l.Rung != "verify":
			result.rungs = append(result.rungs, l.Rung+" "+l.How)
		}
	}
	if r.Code != 0 || !done {
		t.Errorf("power %q: %+v", words, r)
	}
	t.Logf("%q: %s", words, r.Out)
	return result
}

// gone waits until the container's first process is.
func (c *target) gone(t *testing.T) {
	t.Helper()
	if !within(func() bool { return c.status(c.HostPid) == nil || c.status(c.HostPid)["State"] == "Z (zombie)" }) {
		t.Errorf("init lives: %v", c.status(c.HostPid)["State"])
	}
}

// throws are what is done to each init, the columns of the table.
func throws() []string { return []string{"off", "reboot", "halt", "off --force"} }

// deaf is an init that does nothing and knows no word.
func deaf() *lab.System { return &lab.System{Name: "sleep", Args: []string{"/bin/sleep", "1000000"}} }

// TestPowerInits boots each init in a user namespace of its own and switches it
// off in each way: it ends, and who supervises it sees what was meant. What was
// found is in docs/power.md, which a run with -update writes.
func TestPowerInits(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	lab.RequireSystems(t)
	host := open(t, lab.Nspawn(), build(t))
	found := map[string]string{}
	for _, system := range append(lab.Systems(), deaf()) {
		for _, words := range throws() {
			t.Run(system.Name+"/"+strings.ReplaceAll(words, " ", ""), func(t *testing.T) {
				c, err := host.Boot(t.Context(), system, lab.OwnUsers...)
				if err != nil {
					t.Fatal(err)
				}
				r := throwAt(t, &target{Container: c, host: host}, words)
				found[system.Name+" "+words] = fmt.Sprintf("%s, %.2f s", r.last(), r.seconds)
			})
		}
	}
	if !t.Failed() && len(found) == (len(lab.Systems())+1)*len(throws()) {
		report(t, found)
	}
}

// throwAt throws the switch of a booted system. What nspawn sees is what was
// meant: 133 has it start the container again, as its unit would; the status of
// an init that ends by itself is its own.
func throwAt(t *testing.T, c *target, words string) *throw {
	r := c.power(t, append(strings.Fields(words), "--grace", "12s", "--anyway")...)
	c.gone(t)
	ended, err := c.Ended(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := 0
	if words == "reboot" {
		want = 133
	} else if status, ok := strings.CutPrefix(r.exit, "exit "); ok {
		want, _ = strconv.Atoi(status)
	}
	if ended.Code != want {
		t.Errorf("nspawn exits %d, want %d: %v, init ended with %s", ended.Code, want, r.rungs, r.exit)
	}
	return r
}

// powerDocument is the report, from this directory.
const powerDocument = "../../docs/power.md"

const powerIntroduction = `# Inits and the power switch

What ` + "`outband power`" + ` has done with real inits, booted by systemd-nspawn with a user namespace of their own, and how long that took.
Each cell is the rung that ended the init, after the softer ones had failed, where there were any. What systemd-nspawn was told was
what was meant in every case: it exits with 133 upon a reboot, upon which its unit starts the container again. An init that ends by
SIGTERM, as a program below tini does, tells its own status. Inits had 12 seconds for an answer. Nothing here is written by hand:
` + "`make test-matrix UPDATE=1`" + `.

`

// took is how long something took, which is never the same.
var took = regexp.MustCompile(`, [0-9.]+ s`)

// report writes docs/power.md if it is asked for, and else compares the one that
// is there, but for the times.
func report(t *testing.T, found map[string]string) {
	var b strings.Builder
	b.WriteString(powerIntroduction + "| init |")
	for _, words := range throws() {
		b.WriteString(" " + words + " |")
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(throws())) + "\n")
	for _, system := range append(lab.Systems(), deaf()) {
		b.WriteString("| " + system.Name + " |")
		for _, words := range throws() {
			b.WriteString(" " + found[system.Name+" "+words] + " |")
		}
		b.WriteString("\n")
	}
	if *update {
		if err := os.WriteFile(powerDocument, []byte(b.String()), 0o644); err != nil {
			t.Error(err)
		}
		return
	}
	data, err := os.ReadFile(powerDocument)
	if err == nil && took.ReplaceAllString(string(data), "") == took.ReplaceAllString(b.String(), "") {
		return
	}
	t.Logf("%s is not what was found (%v): make test-matrix UPDATE=1\n%s", powerDocument, err, b.String())
}
