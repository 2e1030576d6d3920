// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/outband/outband"
	"github.com/outband/outband/doctor"
	"github.com/outband/outband/engine"
)

func (p *program) doctorCommand() *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:   "doctor TARGET",
		Short: "Say what is wrong with a container, from the outside",
		Long: `Look at a container from the outside and say what is wrong with it, the worst
first: its first process frozen, stopped or waiting in the kernel; limits nearly
used up (processes, memory, open files) and processes killed for want of memory;
file systems that do not answer, are full, or have gone read-only by themselves;
zombies, and processes in a wait that no signal ends, with what they wait in;
servers of names that no route leads to; connections that nobody accepts.

Below that is what was looked at: limits, file systems, addresses and routes,
how names are looked up, and who listens. Of a container that does not run it is
told how it ended, where its engine wrote that down.

Nothing is executed inside and nothing is joined. File systems of the container
are asked by processes that are given up after two seconds. It works while the
container is frozen, and from beside its limits. What could not be looked at,
without root say, is told.

Exit code: 0 whatever was found; 1 failed; 2 usage; 3 no such container, or more
than one; 4 refused.`,
		Example:           "  outband doctor web\n  outband doctor 1234 -o json | jq -r '.verdict'",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: p.completeTargets,
		RunE: func(c *cobra.Command, args []string) error {
			return failure("doctor "+args[0], p.doctor(c.Context(), c.OutOrStdout(), args[0], output == "json"))
		},
	}
	outputFlag(c, &output, "json")
	return c
}

// doctor shows what is wrong with a container.
func (p *program) doctor(ctx context.Context, w io.Writer, name string, asJSON bool) error {
	if ctx == nil {
		ctx = context.Background()
	}
	r, err := p.examine(ctx, name)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(w, r)
	}
	out := bufio.NewWriter(canvas())
	for _, line := range drawReport(r, styleOf(canvas())) {
		fmt.Fprintln(out, line)
	}
	return out.Flush()
}

// examine looks at a container, also one that does not run.
func (p *program) examine(ctx context.Context, name string) (*doctor.Report, error) {
	t, err := outband.OpenIn(ctx, name, p.runDir, engines()...)
	var stopped *engine.NotRunningError
	if errors.As(err, &stopped) {
		return doctor.Stopped(ctx, &stopped.Container, engines()...), nil
	}
	if err != nil {
		return nil, err
	}
	defer t.Close()
	return doctor.Examine(ctx, t)
}

// drawReport draws a report for people: what is wrong, then what was seen.
func drawReport(r *doctor.Report, s style) (lines []string) {
	add := func(s style, pieces ...string) { // colours and texts in turn
		line := row{style: s}
		for i := 0; i+1 < len(pieces); i += 2 {
			line.add(pieces[i], pieces[i+1])
		}
		lines = append(lines, strings.TrimRight(line.text.String(), " "))
	}
	whole := s
	whole.width = 0 // what is wrong is never cut
	add(whole, bold, r.Name, plain, ": ", verdictColor(r.Verdict), summary(r))
	for _, f := range r.Findings {
		add(whole, verdictColor(f.Grade), fmt.Sprintf("%-5s ", f.Grade), bold, f.About, plain, ": "+f.Text)
		if f.Hint != "" {
			add(whole, dim, "      hint: "+f.Hint)
		}
	}
	lines = append(lines, "")
	for _, fact := range facts(r) {
		add(s, cyan, fmt.Sprintf("%-14s", fact[0]), plain, fact[1])
	}
	for _, u := range r.Unseen {
		add(whole, yellow, fmt.Sprintf("%-14s", "not seen"), plain, u.About+": "+u.Reason)
	}
	return lines
}

func verdictColor(g doctor.Grade) string {
	switch g {
	case doctor.Bad:
		return red
	case doctor.Note:
		return yellow
	}
	return plain
}

// summary says how much was found.
func summary(r *doctor.Report) string {
	bad := 0
	for _, f := range r.Findings {
		if f.Grade == doctor.Bad {
			bad++
		}
	}
	notes := len(r.Findings) - bad
	switch {
	case bad > 0 && notes > 0:
		return count(bad, "problem", "problems") + ", " + count(notes, "note", "notes")
	case bad > 0:
		return count(bad, "problem", "problems")
	case notes > 0:
		return count(notes, "note", "notes")
	}
	return "nothing wrong found"
}

// facts are what was seen, a line for each kind.
func facts(r *doctor.Report) (list [][2]string) {
	add := func(name, text string) {
		if text != "" {
			list = append(list, [2]string{name, text})
		}
	}
	if i := r.Init; i != nil {
		add("init", fmt.Sprintf("%s %s %s, %s", arrows(i.PIDs), i.Comm, i.Exe, lasts(r)))
	}
	if l := r.Last; l != nil {
		add("ended last", l.String())
	}
	add("restarts", r.Restart)
	if p := r.Processes; p != nil {
		add("processes", fmt.Sprint(p.Count))
	}
	for i := range r.Limits {
		add("limit", r.Limits[i].String())
	}
	add("file systems", fileSystems(r.Filesystems))
	add("read-only", readOnly(r.Filesystems))
	if r.Network != nil {
		add("network", connections(r.Network))
		add("routes", routes(r.Network.Routes))
		add("listening", listening(r.Network.Listening))
	}
	if n := r.Names; n != nil && n.Error == "" {
		add("names", nameService(n))
	}
	return list
}

// lasts is the state of a container, or of its first process where that says more,
// and since when there is that process. How long it has been stopped or paused
// nobody knows.
func lasts(r *doctor.Report) string {
	since := age(time.Since(r.Init.Started))
	state := r.State
	switch r.Init.State {
	case "Z", "X":
		state = "zombie"
	case "T":
		state = "stopped"
	case "t":
		state = "traced"
	}
	if state == string(engine.Running) {
		return state + " for " + since
	}
	return state + ", started " + since + " ago"
}

// few joins the first words of a list.
func few(words []string, most int) string {
	if more := len(words) - most; more > 0 {
		words = append(slices.Clone(words[:most]), fmt.Sprintf("%d more", more))
	}
	return strings.Join(words, ", ")
}

// fileSystems are those that tell their size, the fullest first.
func fileSystems(list []doctor.Filesystem) string {
	list = slices.DeleteFunc(slices.Clone(list), func(f doctor.Filesystem) bool { return f.Size == 0 })
	slices.SortStableFunc(list, func(a, b doctor.Filesystem) int {
		return int(1000*float64(b.Used)/float64(b.Size)) - int(1000*float64(a.Used)/float64(a.Size))
	})
	var words []string
	for _, f := range list {
		words = append(words, fmt.Sprintf("%s %.0f %% of %s", f.Point, 100*float64(f.Used)/float64(f.Size), doctor.Bytes(f.Size)))
	}
	return few(words, 4)
}

func readOnly(list []doctor.Filesystem) string {
	var words []string
	for _, f := range list {
		if f.ReadOnly {
			words = append(words, f.Point)
		}
	}
	return few(words, 6)
}

func connections(n *doctor.Network) string {
	var words []string
	for _, a := range n.Addresses {
		if !a.IsLoopback() && !a.IsLinkLocalUnicast() {
			words = append(words, a.String())
		}
	}
	text := few(n.Interfaces, 4)
	if len(words) > 0 {
		text += ": " + few(words, 4)
	}
	if n.Shared {
		text += " (the host's)"
	}
	return text
}

func routes(list []doctor.Route) string {
	var words []string
	for _, r := range list {
		word := r.To.String()
		if r.To.Bits() == 0 {
			word = "default"
		}
		if r.Via != nil {
			word += " via " + r.Via.String()
		}
		words = append(words, word+" "+r.Interface)
	}
	return few(words, 4)
}

func listening(list []doctor.Socket) string {
	var words []string
	files := 0
	for _, s := range list {
		if s.Kind == "unix" {
			files++
			continue
		}
		word := strings.TrimSuffix(s.Kind, "6") + " " + s.Address
		if len(s.PIDs) > 0 {
			word += fmt.Sprintf(" %s (%d)", s.Comm, s.PIDs[len(s.PIDs)-1])
		}
		words = append(words, word)
	}
	text := few(words, 6)
	if files > 0 {
		text = strings.TrimPrefix(fmt.Sprintf("%s, %d unix", text, files), ", ")
	}
	return text
}

func nameService(n *doctor.Names) string {
	text := orElse(strings.Join(n.Servers, ", "), "no server")
	if len(n.Search) > 0 {
		text += ", search " + strings.Join(n.Search, " ")
	}
	if n.More {
		text += ", and more"
	}
	if n.Hosts > 0 {
		text += fmt.Sprintf(", %d in hosts", n.Hosts)
	}
	return text
}
