// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// turnTimeout bounds one turn of one contestant.
const turnTimeout = 60 * time.Second

// A contestant is one way of doing what is compared.
type contestant struct {
	name string
	what string // its command, for the report
	turn func(context.Context) (time.Duration, error)
}

// A claim is a ratio that is asked for: the times of one contestant divided by
// those of another.
type claim struct {
	of, to string
	// bar is what it must not exceed, goal what it is hoped to be; 0: none.
	bar, goal float64
	// throughput turns the claim round: the ratio is of amounts per time, and
	// bar is the least that it may be.
	throughput bool
}

// A contest is what takes turns in one loop.
type contest struct {
	title  string
	pause  time.Duration // before each turn, with the machine idle
	rounds int
	field  []contestant
	claims []claim
	// before, unless it is nil, makes what the contest takes place in.
	before func() (release func() error, err error)
}

// run lets every contestant take one turn in each round, so that noise of the
// machine hits all of them alike. Their order changes from round to round, lest
// one always gets the caches that a certain other leaves behind. A first round
// does not count.
func (c *contest) run(ctx context.Context, progress func(done, of int)) (taken samples, err error) {
	if c.before != nil {
		release, rerr := c.before()
		if rerr != nil {
			return nil, rerr
		}
		defer func() { err = errors.Join(err, release()) }()
	}
	taken = samples{}
	order := rand.New(rand.NewPCG(1, 2)) // the same in every run
	for round := range c.rounds + 1 {
		progress(round, c.rounds)
		for _, i := range order.Perm(len(c.field)) {
			who := c.field[i]
			if err := sleep(ctx, c.pause); err != nil {
				return nil, err
			}
			d, err := c.turn(ctx, who)
			if err != nil {
				return nil, fmt.Errorf("%s: %s: %w", c.title, who.name, err)
			}
			if round > 0 {
				taken[who.name] = append(taken[who.name], d.Seconds())
			}
		}
	}
	return taken, nil
}

func (c *contest) turn(ctx context.Context, who contestant) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, turnTimeout)
	defer cancel()
	return who.turn(ctx)
}

// sleep waits, or returns the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A result is a claim with what was measured of it.
type result struct {
	claim
	contest string
	ratio   summary
}

// results evaluates those claims of c whose contestants took part.
func (c *contest) results(taken samples) []result {
	var all []result
	for _, cl := range c.claims {
		of, to := taken[cl.of], taken[cl.to]
		if cl.throughput {
			of, to = to, of // the same amount in less time
		}
		if len(of) > 0 && len(to) > 0 {
			all = append(all, result{cl, c.title, summarize(ratios(of, to))})
		}
	}
	return all
}

// verdict says how a result stands to its bar.
func (r result) verdict() string {
	held := func(limit float64) bool {
		if r.throughput {
			return r.ratio.Median >= limit
		}
		return r.ratio.Median <= limit
	}
	switch {
	case r.bar == 0:
		return ""
	case r.goal != 0 && held(r.goal):
		return "goal reached"
	case held(r.bar):
		return "within the bar"
	}
	return "**misses the bar**"
}
