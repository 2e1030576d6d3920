// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// The contestants of the contest about looks at a container.
const (
	doctorName  = "outband doctor"
	listingName = "outband tree TARGET"
)

// doctorContest compares a look at a container with many processes with a
// listing of them, which reads of all processes much the same.
func (l *lab) doctorContest(ctx context.Context, s scale) *contest {
	root := unifiedRoot()
	if root == "" {
		l.missing("There is no cgroup v2 with cgroup.kill (5.14): no comparison of doctor with a listing.")
		return nil
	}
	var patient *crowd
	look := func(verb string) func(context.Context) (time.Duration, error) {
		return func(ctx context.Context) (time.Duration, error) {
			took, _, err := run(ctx, []string{l.outband, "--run-dir", l.state, verb, "pid:" + strconv.Itoa(patient.Pid()), "-o", "json"})
			return took, err
		}
	}
	what := "outband %s pid:N -o json, a container with %d processes"
	return &contest{
		title: "Doctor", rounds: s.trees,
		field: []contestant{
			{doctorName, fmt.Sprintf(what, "doctor", s.crowd), look("doctor")},
			{listingName, fmt.Sprintf(what, "tree", s.crowd), look("tree")},
		},
		claims: []claim{{of: doctorName, to: listingName, bar: 1.2, goal: 1}},
		before: func() (release func() error, err error) {
			patient, err = gather(ctx, root, s.crowd)
			if err != nil {
				return nil, err
			}
			return patient.close, nil
		},
	}
}
