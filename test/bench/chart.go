// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"html"
	"io"
)

// Layout of the chart, in pixels.
const (
	chartLeft  = 400 // where the bars begin: labels are left of it
	chartWide  = 300 // from nothing to the most that is shown
	chartRight = 60
	rowHigh    = 26
	chartTop   = 34
	chartMost  = 1.5 // of the bar; what is longer is cut
)

// A stripe is one line of the chart: a ratio as a part of its bar, so that
// claims of different kinds fit on one scale, and 1 is the bar of each.
type stripe struct {
	label          string
	low, mid, high float64
	text           string
}

// stripes are the results that have a bar.
func (r *report) stripes() []stripe {
	var all []stripe
	for _, c := range r.results {
		if c.bar == 0 {
			continue
		}
		part := func(ratio float64) float64 { return ratio / c.bar }
		if c.throughput {
			part = func(ratio float64) float64 { return c.bar / ratio }
		}
		low, high := part(c.ratio.P10), part(c.ratio.P90)
		all = append(all, stripe{c.contest + ": " + c.of + " / " + c.to, min(low, high), part(c.ratio.Median), max(low, high),
			fmt.Sprintf("%.2f", c.ratio.Median)})
	}
	return all
}

// chart draws the stripes as SVG. Its colours are legible on light and dark
// pages.
func (r *report) chart(w io.Writer) {
	rows := r.stripes()
	wide, high := chartLeft+chartWide+chartRight, chartTop+rowHigh*len(rows)+12
	x := func(part float64) float64 { return chartLeft + chartWide*min(part, chartMost)/chartMost }
	fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="sans-serif" font-size="11" fill="#808080">`+"\n",
		wide, high, wide, high)
	fmt.Fprintf(w, `<text x="%.0f" y="18" text-anchor="middle">the bar: left of it is within</text>`+"\n", x(1))
	for i, s := range rows {
		y := float64(chartTop + rowHigh*i)
		colour := "#2a9d6f"
		if s.mid > 1 {
			colour = "#d1495b"
		}
		fmt.Fprintf(w, `<text x="%d" y="%.0f" text-anchor="end">%s</text>`+"\n", chartLeft-8, y+15, html.EscapeString(s.label))
		fmt.Fprintf(w, `<rect x="%d" y="%.0f" width="%.1f" height="14" fill="%s"/>`+"\n", chartLeft, y+4, x(s.mid)-chartLeft, colour)
		fmt.Fprintf(w, `<path d="M%.1f %.0fH%.1fM%.1f %.0fv6M%.1f %.0fv6" stroke="#808080" fill="none"/>`+"\n",
			x(s.low), y+11, x(s.high), x(s.low), y+8, x(s.high), y+8)
		fmt.Fprintf(w, `<text x="%.1f" y="%.0f">%s</text>`+"\n", max(x(s.high), x(s.mid))+6, y+15, s.text)
	}
	fmt.Fprintf(w, `<path d="M%.1f %dV%d" stroke="#808080" stroke-dasharray="4 3"/>`+"\n", x(1), chartTop-8, high-4)
	fmt.Fprintln(w, `</svg>`)
}
