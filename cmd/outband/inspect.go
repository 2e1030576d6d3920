// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/outband/outband"
	"github.com/outband/outband/engine"
	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/safetext"
	"github.com/outband/outband/ns"
)

func (p *program) inspectCommand() *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:   "inspect TARGET [PID]",
		Short: "Show how a container is confined, and whether a process in it is so too",
		Long: `Show how the first process of a container is confined. With PID, a number as
seen inside, a process of the container is compared with it, field by field, and
what it may more than the first process is said.

Nothing is joined, nothing is executed inside, and no file of the container is
touched.

Exit code: 0; 1 failed; 2 usage; 3 no such container or process, or more than
one; 4 refused; 124 no answer in time.`,
		Example: `  outband inspect 1234
  outband inspect 1234 17 -o json`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: p.completeTargets,
		RunE: func(c *cobra.Command, args []string) error {
			pid := 0
			if len(args) > 1 {
				var err error
				if pid, err = strconv.Atoi(args[1]); err != nil || pid <= 0 || strconv.Itoa(pid) != args[1] {
					return fmt.Errorf("inspect: %q is no process number", args[1])
				}
			}
			return failure("inspect "+args[0], p.inspect(c.OutOrStdout(), args[0], pid, output == "json"))
		},
	}
	outputFlag(c, &output, "json")
	return c
}

// inspect shows a container, and a process in it where pid is not 0.
func (p *program) inspect(w io.Writer, name string, pid int, asJSON bool) error {
	ctx := context.Background()
	t, err := outband.OpenIn(ctx, name, p.runDir, engines()...)
	if err != nil {
		return err
	}
	defer t.Close()
	var facts *outband.Facts
	if pid == 0 {
		facts, err = t.Inspect()
	} else {
		facts, err = t.InspectProcess(ctx, pid)
	}
	if err != nil {
		return err
	}
	p.doubt(facts.Doubt)
	if asJSON {
		b, err := safetext.Marshal(facts)
		if err == nil {
			_, err = fmt.Fprintf(w, "%s\n", b)
		}
		return err
	}
	return showFacts(w, facts)
}

// showFacts is the form for people.
func showFacts(w io.Writer, f *outband.Facts) error {
	tw := newTable(w)
	row := func(cells ...string) {
		for i := range cells {
			cells[i] = safetext.Escape(cells[i])
		}
		fmt.Fprintln(tw, strings.TrimRight(strings.Join(cells, "\t"), "\t"))
	}
	row("name", (&engine.Container{Name: f.Name, Engine: f.Engine, User: f.User}).FullName())
	row("init", who(f.Init))
	row("kind", f.Init.Kind)
	row("state", f.State)
	if f.Process != nil {
		row("process", who(f.Process.ProcessFacts))
	}
	row("shared with the host", orElse(strings.Join(f.Shared, " "), "nothing"))
	row()
	if f.Process == nil {
		for _, r := range fields(f.Namespaces, f.Confinement) {
			row(r[0], r[1])
		}
		return tw.Flush()
	}
	row("", "init", "process")
	other := fields(f.Process.Namespaces, f.Process.Confinement)
	for i, r := range fields(f.Namespaces, f.Confinement) {
		row(r[0], r[1], other[i][1], mark(r[0], *f.Differs))
	}
	row()
	row(verdict(*f.Differs))
	return tw.Flush()
}

// who is a process in a line.
func who(p outband.ProcessFacts) string {
	return fmt.Sprintf("%s (%s) %s", arrows(p.PIDs), p.Comm, p.Exe)
}

// mark says in what way a field differs.
func mark(field string, differs []outband.Difference) string {
	for _, d := range differs {
		switch {
		case d.Field != field:
		case d.More:
			return "more privileged than init"
		default:
			return "differs"
		}
	}
	return ""
}

// verdict sums up a comparison.
func verdict(differs []outband.Difference) string {
	var more []string
	for _, d := range differs {
		if d.More {
			more = append(more, d.Field)
		}
	}
	switch {
	case len(differs) == 0:
		return "The process is confined as init is."
	case more == nil:
		return "The process is confined otherwise than init, and may no more."
	}
	return "The process is more privileged than init: " + strings.Join(more, ", ") + "."
}

// fields are the names, as confine.Compare has them, and values of what is
// shown.
func fields(namespaces map[string]uint64, c outband.Confinement) [][2]string {
	var rows [][2]string
	add := func(name, format string, args ...any) {
		rows = append(rows, [2]string{name, fmt.Sprintf(format, args...)})
	}
	for _, k := range ns.Kinds() {
		add("namespace "+k.String(), "%d", namespaces[k.String()])
	}
	add("uid", "%d (outside %d)", c.UID, c.HostUID)
	add("gid", "%d (outside %d)", c.GID, c.HostGID)
	add("groups", "%v", c.Groups)
	add("effective", "%s", c.Caps.Effective)
	add("permitted", "%s", c.Caps.Permitted)
	add("inheritable", "%s", c.Caps.Inheritable)
	add("bounding", "%s", c.Caps.Bounding)
	add("ambient", "%s", c.Caps.Ambient)
	add("no_new_privs", "%v", c.NoNewPrivs)
	add("seccomp", "%s", c.Seccomp.Mode)
	add("filters", "%d", c.Seccomp.Filters)
	add("lsm", "%s", orElse(c.LSM, "none"))
	add("cgroup", "%s", orElse(c.Cgroup, "unknown"))
	for _, name := range procfs.LimitNames() {
		add("limit: "+name, "%s, at most %s", limit(c.Limits[name].Soft), limit(c.Limits[name].Hard))
	}
	add("oom_score_adj", "%d", c.OOMScoreAdj)
	s := c.Scheduling
	add("policy", "%s", s.Policy)
	add("nice", "%d", s.Nice)
	add("realtime_priority", "%d", s.Priority)
	add("io_priority", "%d", s.IOPriority)
	add("cpus", "%s", s.CPUs)
	add("timer_slack", "%d", s.TimerSlack)
	add("personality", "%08x", s.Personality)
	add("umask", "%04o", c.Umask)
	return rows
}
