// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"slices"
	"testing"
)

func TestPercentile(t *testing.T) {
	ten := []float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	for _, c := range []struct {
		name   string
		sorted []float64
		p      float64
		want   float64
	}{
		{"one value is every percentile", []float64{7}, 90, 7},
		{"median of an odd number", []float64{1, 2, 9}, 50, 2},
		{"median of an even number lies between", []float64{1, 2, 4, 9}, 50, 3},
		{"lowest", ten, 0, 1},
		{"highest", ten, 100, 10},
		{"tenth, interpolated", ten, 10, 1.9},
		{"ninetieth, interpolated", ten, 90, 9.1},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := percentile(c.sorted, c.p); math.Abs(got-c.want) > 1e-12 {
				t.Errorf("percentile(%v, %v) = %v, want %v", c.sorted, c.p, got, c.want)
			}
		})
	}
	if got := percentile(nil, 50); !math.IsNaN(got) {
		t.Errorf("percentile of nothing = %v, want NaN", got)
	}
}

func TestSummarizeLeavesItsArgument(t *testing.T) {
	values := []float64{3, 1, 2}
	s := summarize(values)
	if s.Median != 2 || s.N != 3 || math.Abs(s.P10-1.2) > 1e-12 || math.Abs(s.P90-2.8) > 1e-12 {
		t.Errorf("summarize = %+v", s)
	}
	if !slices.Equal(values, []float64{3, 1, 2}) {
		t.Errorf("summarize sorted its argument: rounds no longer match")
	}
}

// A machine that is slow for some rounds makes both slow: the ratio of medians
// would tell 5 here, of two contestants that always differ by 2.
func TestRatiosAreFormedWithinRounds(t *testing.T) {
	of, to := []float64{2, 20, 200}, []float64{1, 10, 100}
	if got := ratios(of, to); !slices.Equal(got, []float64{2, 2, 2}) {
		t.Errorf("ratios = %v, want 2 in each round", got)
	}
	if got := ratios(of, to[:2]); len(got) != 2 {
		t.Errorf("ratios of an unfinished round: %v", got)
	}
}
