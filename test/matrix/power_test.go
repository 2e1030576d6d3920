// SPDX-License-Identifier: Apache-2.0

package matrix

import (
	"encoding/json"
	"fmt"
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
	by      string   // what has started that
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
	result, done := parseThrow(t, r.Out)
	if r.Code != 0 || !done {
		t.Errorf("power %q: %+v", words, r)
	}
	t.Logf("%q: %s", words, r.Out)
	return result
}

// parseThrow reads what power -o json has printed.
func parseThrow(t *testing.T, out string) (result *throw, done bool) {
	t.Helper()
	result = &throw{}
	for line := range strings.Lines(out) {
		var l struct {
			Rung, How string
			Done      *bool
			InitExit  string `json:"init_exit"`
			Back      *struct {
				Pid int
				By  string
			}
			Seconds float64
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v: %q", err, out)
		}
		switch {
		case l.Done != nil:
			done, result.exit, result.seconds = *l.Done, l.InitExit, l.Seconds
			if l.Back != nil {
				result.back, result.by = l.Back.Pid, l.Back.By
			}
		case l.Rung != "verify":
			result.rungs = append(result.rungs, l.Rung+" "+l.How)
		}
	}
	return result, done
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
	table := initTable{}
	for _, system := range append(lab.Systems(), deaf()) {
		for _, words := range throws() {
			t.Run(system.Name+"/"+strings.ReplaceAll(words, " ", ""), func(t *testing.T) {
				c, err := host.Boot(t.Context(), system, lab.OwnUsers...)
				if err != nil {
					t.Fatal(err)
				}
				r := throwAt(t, &target{Container: c, host: host}, words)
				table[system.Name+" "+words] = fmt.Sprintf("%s, %.2f s", r.last(), r.seconds)
			})
		}
	}
	table.finish(t)
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
