// SPDX-License-Identifier: Apache-2.0

package matrix

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/test/lab"
)

// fullName is what outband calls a container of an engine's. Of those that are not
// here nobody keeps a name.
func fullName(engine, name string) string {
	prefix, ok := map[string]string{
		"runc": "runc:", "crun": "crun:", "docker": "docker:", "docker-userns": "docker:", "docker-rootless": "docker@lab:", "containerd": "containerd:default/", "cri": "pod:lab/pod-" + name + "/", "podman": "podman:",
		"podman-rootless": "podman@lab:", "lxc": "lxc:", "lxc-rootless": "lxc@lab:", "nspawn": "nspawn:",
	}[engine]
	if !ok {
		return ""
	}
	return prefix + name
}

// known is a container with a name: facets are tested with it, one after the
// other.
type known struct {
	*target
	full string // "docker:named"
	row  lsRow  // what ls says of it
}

// lsRow is a container as ls -o json has it.
type lsRow struct {
	Name, Engine, User, ID, State string
	Visitors                      int
	Init                          *struct {
		Pid  int
		Pids []int
	}
}

func (r lsRow) full() string {
	switch {
	case r.Engine == "bare":
		return r.Name
	case strings.Count(r.Name, "/") == 2:
		return "pod:" + r.Name
	case r.User != "":
		return r.Engine + "@" + r.User + ":" + r.Name
	}
	return r.Engine + ":" + r.Name
}

// list is what ls says, of all or of those that a filter lets through.
func (c *target) list(t *testing.T, filter func(lsRow) bool, flags ...string) []lsRow {
	t.Helper()
	r := c.run(t, c.host.Command(append([]string{outband, "ls", "-o", "json"}, flags...)...))
	var rows []lsRow
	if err := json.Unmarshal([]byte(r.Out), &rows); err != nil || r.Code != 0 || r.Err != "" {
		t.Fatalf("ls: %v: %+v", err, r)
	}
	return slices.DeleteFunc(rows, func(r lsRow) bool { return !filter(r) })
}

// of lets the rows of a process through.
func of(pid int) func(lsRow) bool {
	return func(r lsRow) bool { return r.Init != nil && r.Init.Pid == pid }
}

// called lets the rows with a full name through.
func called(full string) func(lsRow) bool { return func(r lsRow) bool { return r.full() == full } }

// leadsTo tells where a name leads: to a process, as the host counts, or to an
// error.
func (c *target) leadsTo(t *testing.T, name string) (pid int, err error) {
	t.Helper()
	r := c.run(t, c.host.Command(outband, "pid", name, "1", "-o", "json"))
	if r.Code != 0 {
		return 0, errors.New(strings.TrimSpace(r.Err))
	}
	var found []struct{ Pids []int }
	if err := json.Unmarshal([]byte(r.Out), &found); err != nil || len(found) != 1 {
		t.Fatalf("pid %s: %v: %+v", name, err, r)
	}
	return found[0].Pids[0], nil
}

// facet is what every engine's containers have in common: do returns what the
// table says of one.
type facet struct {
	name string
	do   func(t *testing.T, c *known) string
}

// facets are the columns, in the order in which a container goes through them.
func facets() []facet {
	return []facet{
		{"running", facetRunning}, {"one row", facetOneRow}, {"id", facetID}, {"long names", facetLong}, {"forged", facetForged},
		{"same name", facetSameName}, {"visitor", facetVisitor}, {"paused", facetPaused}, {"stopped", facetStopped},
	}
}

// TestConformance: what holds for one engine's containers holds for all.
func TestConformance(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	program := build(t)
	var table conformed
	for _, engine := range lab.Engines() {
		t.Run(engine.Name, func(t *testing.T) {
			testutil.NoLeaks(t)
			host := open(t, engine, program)
			c, err := host.Run(t.Context(), "named", lab.Busybox(t), lab.Options{})
			if err != nil {
				t.Fatal(err)
			}
			k := &known{target: &target{Container: c, host: host}, full: fullName(engine.Name, "named")}
			line := []string{engine.Name}
			for _, f := range facets() {
				t.Run(f.name, func(t *testing.T) { line = append(line, f.do(t, k)) })
			}
			table.lines = append(table.lines, line)
		})
	}
	table.finish(t)
}

// facetRunning: it is listed as running, under its engine's name or by its number,
// and that name leads to its first process.
func facetRunning(t *testing.T, c *known) string {
	rows := c.list(t, of(c.HostPid))
	if len(rows) != 1 || rows[0].State != "running" || rows[0].Init.Pids[0] != c.HostPid || rows[0].Init.Pids[len(rows[0].Init.Pids)-1] != 1 {
		t.Fatalf("%+v", rows)
	}
	c.row = rows[0]
	if c.full == "" {
		c.full = fmt.Sprintf("pid:%d", c.HostPid)
	}
	names := []string{c.full}
	if c.row.Engine != "bare" && c.row.User == "" && !strings.Contains(c.row.Name, "/") {
		names = append(names, c.row.Name)
	}
	for _, name := range names {
		if pid, err := c.leadsTo(t, name); err != nil || pid != c.HostPid {
			t.Errorf("%s leads to %d, %v, not to %d", name, pid, err, c.HostPid)
		}
	}
	if c.row.full() != c.full {
		t.Errorf("it is called %s, want %s", c.row.full(), c.full)
	}
	if c.row.Engine == "bare" {
		return "`pid:N`"
	}
	return "`" + c.full + "`"
}

// inner are the names that engines below have for a container of an engine's.
func (c *known) inner() []string {
	switch c.host.Engine.Name {
	case "docker", "docker-userns":
		return []string{"containerd:moby/" + c.row.ID, "runc:" + c.row.ID}
	case "docker-rootless":
		return []string{"runc@lab:" + c.row.ID}
	case "containerd":
		return []string{"runc:named"}
	case "podman", "cri":
		return []string{"runc:" + c.row.ID}
	case "podman-rootless":
		return []string{"runc@lab:" + c.row.ID}
	}
	return nil
}

// facetOneRow: several engines know it, the outermost names it, once; the others'
// names lead to it as well.
func facetOneRow(t *testing.T, c *known) string {
	for _, flags := range [][]string{nil, {"-a"}} {
		mine := func(r lsRow) bool { return of(c.HostPid)(r) || r.ID == c.row.ID }
		if rows := c.list(t, mine, flags...); len(rows) != 1 {
			t.Errorf("%q: %+v", flags, rows)
		}
	}
	if c.inner() == nil {
		return none
	}
	for _, name := range c.inner() {
		if pid, err := c.leadsTo(t, name); err != nil || pid != c.HostPid {
			t.Errorf("%s leads to %d, %v", name, pid, err)
		}
	}
	return yes
}

// facetID: the beginning of its id leads to it.
func facetID(t *testing.T, c *known) string {
	if len(c.row.ID) != 64 {
		return none
	}
	prefix, _, _ := strings.Cut(c.full, ":")
	if prefix == "pod" {
		prefix = c.row.Engine
	}
	for _, name := range []string{prefix + ":" + c.row.ID, prefix + ":" + c.row.ID[:12], prefix + ":" + c.row.ID[:3]} {
		if pid, err := c.leadsTo(t, name); err != nil || pid != c.HostPid {
			t.Errorf("%s leads to %d, %v", name, pid, err)
		}
	}
	if pid, err := c.leadsTo(t, prefix+":"+c.row.ID[1:13]); err == nil {
		t.Errorf("another part leads to %d", pid)
	}
	return yes
}

// facetLong: a name of 100,000 characters is refused in a line, with any prefix.
func facetLong(t *testing.T, c *known) string {
	prefix, _, _ := strings.Cut(c.full, ":")
	for _, prefix := range []string{"", prefix + ":"} {
		const long = `exec "$0" pid "$1$(head -c 100000 /dev/zero | tr '\0' a)" 1`
		r := c.run(t, c.host.Command("sh", "-c", long, outband, prefix))
		if r.Code == 0 || !strings.Contains(r.Err, "longer than 255 bytes") || len(r.Err) > 1000 || r.Out != "" {
			t.Errorf("%q: code %d, %d bytes: %.200s", prefix, r.Code, len(r.Err), r.Err)
		}
	}
	return yes
}

// facetSameName: another engine has a container of the same name. Then the name
// alone is refused, and the choices are named; those lead where they say.
func facetSameName(t *testing.T, c *known) string {
	other := lab.RunC()
	if c.host.Engine.Name == "runc" {
		other = lab.Docker()
	}
	if c.row.Engine == "bare" || c.row.User != "" || strings.HasPrefix(c.full, "pod:") { // has to be named with its engine anyway
		return none
	}
	also, err := c.host.With(t.Context(), other)
	if err != nil {
		t.Fatal(err)
	}
	second, err := also.Run(t.Context(), c.row.Name[strings.LastIndexByte(c.row.Name, '/')+1:], lab.Busybox(t), lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	name := other.Name + ":named"
	pid, err := c.leadsTo(t, "named")
	if err == nil || !strings.Contains(err.Error(), "more than one container") || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), c.full) {
		t.Errorf("named leads to %d, %v", pid, err)
	}
	for name, want := range map[string]int{name: second.HostPid, c.full: c.HostPid} {
		if pid, err := c.leadsTo(t, name); err != nil || pid != want {
			t.Errorf("%s leads to %d, %v, not to %d", name, pid, err, want)
		}
	}
	if err := second.Remove(t.Context()); err != nil {
		t.Error(err)
	}
	return yes
}

// facetPaused: the engine pauses it. It is listed so, and entering it is refused
// at once (A28).
func facetPaused(t *testing.T, c *known) string {
	if err := c.Do(t.Context(), lab.Pause); errors.Is(err, lab.ErrNotOffered) {
		return none
	} else if err != nil {
		t.Fatal(err)
	}
	if rows := c.list(t, of(c.HostPid)); len(rows) != 1 || rows[0].State != "paused" || rows[0].full() != c.full {
		t.Errorf("%+v", rows)
	}
	errorOf(t, c.run(t, c.host.Command(outband, "enter", c.full, "--", "true")), "--thaw")
	if err := c.Do(t.Context(), lab.Resume); err != nil {
		t.Fatal(err)
	}
	if rows := c.list(t, of(c.HostPid)); len(rows) != 1 || rows[0].State != "running" {
		t.Errorf("after that: %+v", rows)
	}
	return yes
}

// facetStopped: when it has ended its name leads nowhere, and whoever keeps it is
// shown; when another runs under its name, to that.
func facetStopped(t *testing.T, c *known) string {
	said := "known"
	switch err := c.Do(t.Context(), lab.Stop); {
	case errors.Is(err, lab.ErrNotOffered): // it ends with its first process
		said = "gone"
		if r := c.run(t, c.host.Command(outband, "signal", c.full, "KILL", "1")); r.Code != 0 {
			t.Fatalf("%+v", r)
		}
	case err != nil:
		t.Fatal(err)
	}
	old, keeps := c.HostPid, []lsRow(nil)
	if !within(func() bool { return len(c.list(t, of(old))) == 0 }) {
		t.Errorf("%d is still listed", old)
	}
	if pid, err := c.leadsTo(t, c.full); err == nil {
		t.Errorf("%s leads to %d", c.full, pid)
	}
	keeps = c.list(t, func(r lsRow) bool { return r.full() == c.full && r.State == "stopped" && r.Init == nil }, "-a")
	if said == "known" && len(keeps) != 1 {
		t.Errorf("stopped, it is %+v", keeps)
	}
	if len(keeps) == 1 {
		said = "known"
		errorOf(t, c.run(t, c.host.Command(outband, "enter", c.full, "--", "true")), "not running")
	}
	return said + ", " + c.again(t, old)
}

// again starts another under the same name.
func (c *known) again(t *testing.T, old int) string {
	next, err := c.Start(t.Context())
	if errors.Is(err, lab.ErrNotOffered) {
		if err := c.Remove(t.Context()); err != nil && !errors.Is(err, lab.ErrNotOffered) {
			t.Fatal(err)
		}
		next, err = c.host.Run(t.Context(), "named", lab.Busybox(t), lab.Options{})
	}
	if err != nil {
		t.Fatal(err)
	}
	full := c.full
	if c.row.Engine == "bare" {
		full = fmt.Sprintf("pid:%d", next.HostPid)
	}
	if pid, err := c.leadsTo(t, full); err != nil || pid != next.HostPid || pid == old {
		t.Errorf("%s leads to %d, %v, not to %d; it was %d", full, pid, err, next.HostPid, old)
	}
	if rows := c.list(t, called(full), "-a"); len(rows) != 1 || rows[0].State != "running" {
		t.Errorf("again: %+v", rows)
	}
	return "new"
}
