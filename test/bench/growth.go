// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// inEach is how many processes each pid namespace of the growing machine has;
// one more outside belongs to it.
const inEach = 9

// growthMost is what the largest tree may take, MiB.
const growthMost = 64

// A point is one size of the machine.
type point struct {
	spaces, processes int // that were made
	seconds           summary
	peak              float64 // MiB
}

// growth reads the tree of a machine that grows.
func (l *lab) growth(ctx context.Context, program string, most, rounds int) ([]point, error) {
	var all []point
	for step := 1; step <= 5; step++ {
		p, err := l.grown(ctx, program, most*step/5, rounds)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

// grown is the machine with so many pid namespaces.
func (l *lab) grown(ctx context.Context, program string, spaces, rounds int) (p point, err error) {
	release, err := l.holdSpaces(program, spaces, inEach)
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, release()) }()
	tree := []string{l.outband, "--run-dir", l.state, "tree", "-o", "json"}
	var times []float64
	for range rounds {
		d, _, err := run(ctx, tree)
		if err != nil {
			return p, err
		}
		times = append(times, d.Seconds())
	}
	peaks, err := l.ask(ctx, append([]string{peakArg, "3"}, tree...))
	if err != nil {
		return p, err
	}
	return point{spaces, spaces * (1 + inEach), summarize(times), peaks[0] / 1024}, nil
}

// growthPage measures and writes benchmarks-tree.md and its picture.
func (l *lab) growthPage(ctx context.Context, o options, log io.Writer) error {
	program := l.compileScale(ctx)
	if program == "" {
		return nil
	}
	most, rounds := 1000, 9
	if o.quick {
		most, rounds = 50, 2
	}
	on := machine() // before it is busy with this
	fmt.Fprintf(log, "Growth: up to %d processes\n", most*(1+inEach))
	points, err := l.growth(ctx, program, most, rounds)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	return errors.Join(
		writeFile(filepath.Join(o.out, "benchmarks-tree.md"), func(w io.Writer) { growthMarkdown(w, on, points) }),
		writeFile(filepath.Join(o.out, "benchmarks-tree.svg"), func(w io.Writer) { growthChart(w, points) }))
}

const growthIntro = `# How the tree grows

Written by ` + "`make bench`" + `, or alone by ` + "`go run ./test/bench -growth`" + ` as root. ` + "`outband tree -o json`" + ` of a
machine to which pid namespaces are added, each with %d processes inside and one outside. What a process takes
has to stay the same, and memory below %d MiB.

![time by the number of processes](benchmarks-tree.svg)

%s.

| namespaces | processes | median, ms | p10 – p90 | µs for each process | peak, MiB |
|---:|---:|---:|---:|---:|---:|
`

func growthMarkdown(w io.Writer, on string, points []point) {
	fmt.Fprintf(w, growthIntro, inEach, growthMost, on)
	for _, p := range points {
		s := p.seconds
		peak := fmt.Sprintf("%.1f", p.peak)
		if p.peak > growthMost {
			peak = "**" + peak + "**"
		}
		fmt.Fprintf(w, "| %d | %d | %.1f | %.1f – %.1f | %.1f | %s |\n", p.spaces, p.processes,
			1000*s.Median, 1000*s.P10, 1000*s.P90, 1e6*s.Median/float64(p.processes), peak)
	}
}

// growthChart draws the medians, with the line on which they are if each process
// takes as long as with the largest machine.
func growthChart(w io.Writer, points []point) {
	const left, top, wide, high = 60.0, 20.0, 480.0, 240.0
	last := points[len(points)-1]
	most := 0.0
	for _, p := range points {
		most = max(most, p.seconds.P90)
	}
	x := func(processes int) float64 { return left + wide*float64(processes)/float64(last.processes) }
	y := func(seconds float64) float64 { return top + high*(1-seconds/most) }
	fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" font-family="sans-serif" font-size="11" fill="#808080">`+"\n", left+wide+60, top+high+40)
	fmt.Fprintf(w, `<path d="M%.1f %.1fV%.1fH%.1f" stroke="#808080" fill="none"/>`+"\n", left, top, top+high, left+wide)
	fmt.Fprintf(w, `<path d="M%.1f %.1fL%.1f %.1f" stroke="#808080" stroke-dasharray="4 3"/>`+"\n", left, top+high, x(last.processes), y(last.seconds.Median))
	for _, p := range points {
		s := p.seconds
		fmt.Fprintf(w, `<path d="M%.1f %.1fV%.1f" stroke="#2a9d6f"/>`+"\n", x(p.processes), y(s.P10), y(s.P90))
		fmt.Fprintf(w, `<rect x="%.1f" y="%.1f" width="6" height="6" fill="#2a9d6f"/>`+"\n", x(p.processes)-3, y(s.Median)-3)
		fmt.Fprintf(w, `<text x="%.1f" y="%.1f" text-anchor="end">%.0f ms</text>`+"\n", x(p.processes)-8, y(s.Median), 1000*s.Median)
		fmt.Fprintf(w, `<text x="%.1f" y="%.1f" text-anchor="middle">%d</text>`+"\n", x(p.processes), top+high+16, p.processes)
	}
	fmt.Fprintf(w, `<text x="%.1f" y="%.1f" text-anchor="middle">processes</text>`+"\n", left+wide/2, top+high+32)
	fmt.Fprintln(w, `</svg>`)
}
