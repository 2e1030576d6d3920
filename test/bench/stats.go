// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"slices"
)

// samples are the times of each contestant, in seconds, by round. A round is
// the same index for all of them.
type samples map[string][]float64

// summary is a distribution as it is reported. The tenth and ninetieth
// percentile are what is asked for spread, not the extremes: those tell about
// the machine's other work.
type summary struct {
	Median, P10, P90 float64
	N                int
}

// summarize describes values, of which there must be one.
func summarize(values []float64) summary {
	sorted := slices.Clone(values)
	slices.Sort(sorted)
	return summary{
		Median: percentile(sorted, 50), P10: percentile(sorted, 10), P90: percentile(sorted, 90), N: len(sorted),
	}
}

// percentile interpolates between the nearest ranks of sorted values (type 7
// of Hyndman and Fan); NaN if there are none.
func percentile(sorted []float64, p float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	rank := p / 100 * float64(len(sorted)-1)
	low := int(math.Floor(rank))
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (rank-float64(low))*(sorted[high]-sorted[low])
}

// ratios divides round by round: what slows a whole round down cancels out,
// which it would not in a ratio of two medians.
func ratios(of, to []float64) []float64 {
	n := min(len(of), len(to))
	quotients := make([]float64, n)
	for i := range n {
		quotients[i] = of[i] / to[i]
	}
	return quotients
}
