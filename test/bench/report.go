// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"math"
	"strings"
)

// report is all that was found out.
type report struct {
	machine  string
	versions []string
	results  []result
	times    []timing
	figures  []figure
	notes    []string
}

// timing is one contestant of one contest.
type timing struct {
	contest, name, what string
	seconds             summary
}

// add takes the outcome of a contest.
func (r *report) add(c *contest, taken samples) {
	r.results = append(r.results, c.results(taken)...)
	for _, who := range c.field {
		if times := taken[who.name]; len(times) > 0 {
			r.times = append(r.times, timing{c.title, who.name, who.what, summarize(times)})
		}
	}
}

const intro = `# Benchmarks

Written by ` + "`make bench`" + `, which runs ` + "`go run ./test/bench`" + ` as root. All that is compared took turns in
one run, in an order that changed from round to round. A ratio is formed within each round; shown are the
median of these ratios, and their tenth and ninetieth percentile. They say something about this run on this
machine: run it on yours. Where the time of an entry goes, and why some bars are missed, is in
[docs/adr/0001](adr/0001-plan-as-program.md).

How the tree grows with the machine has [a page of its own](benchmarks-tree.md).

![each ratio divided by its bar](benchmarks.svg)

`

const claimsIntro = `## Ratios

Time of the first divided by time of the second, so less is better; of a relay the throughput, so more is
better. The bar is what must hold, the goal what is aimed at.

| contest | | median | p10 – p90 | bar | goal | rounds | |
|---|---|---:|---:|---:|---:|---:|---|
`

const figuresIntro = `
## Memory, size and terminals

| | measured | at most | how |
|---|---:|---:|---|
`

const timesIntro = `
## Times of this run, for scale

Milliseconds from start to end, of which the claims above make no use.

| contest | contestant | median | p10 – p90 | what |
|---|---|---:|---:|---|
`

// markdown writes the page.
func (r *report) markdown(w io.Writer) {
	fmt.Fprint(w, intro)
	fmt.Fprintf(w, "%s; %s.\n\n", r.machine, strings.Join(r.versions, "; "))
	fmt.Fprint(w, claimsIntro)
	r.ratioRows(w)
	fmt.Fprint(w, figuresIntro)
	for _, f := range r.figures {
		limit := ""
		if f.bar != 0 {
			limit = number(f.bar) + " " + f.unit
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s |\n", f.what, f.measured(), limit, f.how)
	}
	fmt.Fprint(w, timesIntro)
	r.timeRows(w)
	if len(r.notes) > 0 {
		fmt.Fprint(w, "\n## What did not take part\n\n")
	}
	for _, note := range r.notes {
		fmt.Fprintf(w, "- %s\n", note)
	}
}

// rows writes what the page has of the contests.
func (r *report) rows(w io.Writer) {
	fmt.Fprintln(w, r.machine)
	r.ratioRows(w)
	r.timeRows(w)
}

func (r *report) ratioRows(w io.Writer) {
	for _, c := range r.results {
		fmt.Fprintf(w, "| %s | %s / %s | %.2f | %.2f – %.2f | %s | %s | %d | %s |\n", c.contest, cell(c.of), cell(c.to),
			c.ratio.Median, c.ratio.P10, c.ratio.P90, number(c.bar), number(c.goal), c.ratio.N, c.verdict())
	}
}

func (r *report) timeRows(w io.Writer) {
	for _, t := range r.times {
		s := t.seconds
		fmt.Fprintf(w, "| %s | %s | %.2f | %.2f – %.2f | %s |\n", t.contest, cell(t.name),
			1000*s.Median, 1000*s.P10, 1000*s.P90, cell(t.what))
	}
}

// measured is a figure's value with its unit, told to be too large where it is.
func (f figure) measured() string {
	text := fmt.Sprintf("%.1f %s", f.value, f.unit)
	if f.unit == "ms" {
		text = fmt.Sprintf("%.3f %s", f.value, f.unit)
	}
	if f.bar != 0 && f.value > f.bar {
		return "**" + text + "**"
	}
	return text
}

// number is a limit, or nothing where there is none.
func number(n float64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%g", math.Round(1000*n)/1000)
}

// cell keeps the bars of pipelines from ending a table's cell.
func cell(s string) string { return strings.ReplaceAll(s, "|", "\\|") }
