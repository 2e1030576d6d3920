// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// fake is a contest of contestants that take as many seconds as their turns so
// far, and put their names into order.
func fake(rounds int, order *[]string, names ...string) *contest {
	c := &contest{title: "fake", rounds: rounds}
	for _, name := range names {
		turns := 0
		c.field = append(c.field, contestant{name: name, turn: func(context.Context) (time.Duration, error) {
			*order = append(*order, name)
			turns++
			return time.Duration(turns) * time.Second, nil
		}})
	}
	return c
}

func silent(int, int) {}

func TestRunGivesEachOneTurnInEachRound(t *testing.T) {
	var order []string
	const rounds = 8
	taken, err := fake(rounds, &order, "a", "b", "c").run(t.Context(), silent)
	if err != nil {
		t.Fatal(err)
	}
	if len(order) != 3*(rounds+1) {
		t.Fatalf("%d turns, want 3 in each of %d rounds and one before", len(order), rounds)
	}
	orders := map[string]bool{}
	for i := 0; i < len(order); i += 3 {
		round := strings.Join(order[i:i+3], "")
		orders[round] = true
		for _, name := range []string{"a", "b", "c"} {
			if strings.Count(round, name) != 1 {
				t.Errorf("round %d is %q", i/3, round)
			}
		}
	}
	if len(orders) < 2 {
		t.Errorf("the order was %v in every round", orders)
	}
	for name, seconds := range taken {
		if len(seconds) != rounds || seconds[0] != 2 {
			t.Errorf("%s: %v: the first round must not count", name, seconds)
		}
	}
}

func TestRunStops(t *testing.T) {
	broken := errors.New("broken")
	c := &contest{title: "fake", rounds: 3, field: []contestant{{name: "a", turn: func(context.Context) (time.Duration, error) {
		return 0, broken
	}}}}
	if _, err := c.run(t.Context(), silent); !errors.Is(err, broken) || !strings.Contains(err.Error(), "a") {
		t.Errorf("run = %v, want the contestant's name and error", err)
	}
	var order []string
	c = fake(3, &order, "a")
	c.pause = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.run(ctx, silent); !errors.Is(err, context.Canceled) {
		t.Errorf("run = %v, want context.Canceled", err)
	}
}

func TestResults(t *testing.T) {
	taken := samples{"slow": {2, 4, 6}, "fast": {1, 2, 3}}
	c := &contest{claims: []claim{
		{of: "slow", to: "fast"},
		{of: "slow", to: "fast", throughput: true},
		{of: "slow", to: "absent", bar: 1},
	}}
	got := c.results(taken)
	if len(got) != 2 {
		t.Fatalf("%d results, want none for who did not take part: %v", len(got), got)
	}
	if got[0].ratio.Median != 2 || got[1].ratio.Median != 0.5 {
		t.Errorf("ratios %v and %v, want 2 of times and 0.5 of throughput", got[0].ratio.Median, got[1].ratio.Median)
	}
}

func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		claim
		median float64
		want   string
	}{
		{claim{bar: 1.5, goal: 1}, 0.9, "goal"},
		{claim{bar: 1.5, goal: 1}, 1.4, "within"},
		{claim{bar: 1.5, goal: 1}, 1.6, "misses"},
		{claim{bar: 0.7}, 0.8, "misses"},
		{claim{bar: 0.7, throughput: true}, 0.8, "within"},
		{claim{bar: 0.7, throughput: true}, 0.6, "misses"},
	} {
		got := result{claim: c.claim, ratio: summary{Median: c.median}}.verdict()
		if !strings.Contains(got, c.want) {
			t.Errorf("%+v at %v: %q, want %q", c.claim, c.median, got, c.want)
		}
	}
	if got := (result{ratio: summary{Median: 9}}).verdict(); got != "" {
		t.Errorf("a ratio without a bar is judged: %q", got)
	}
}

func TestServe(t *testing.T) {
	var out strings.Builder
	calls := 0
	err := serve(strings.NewReader("3\n2\n"), &out, func() error { calls++; return nil })
	if err != nil || calls != 5 || strings.Count(out.String(), "\n") != 2 {
		t.Errorf("serve: %v, %d calls, said %q", err, calls, out.String())
	}
	broken := errors.New("broken")
	if err := serve(strings.NewReader("1\n"), &out, func() error { return broken }); !errors.Is(err, broken) {
		t.Errorf("serve = %v, want its function's error", err)
	}
	if err := serve(strings.NewReader("x\n"), &out, nil); err == nil {
		t.Error("serve takes a letter for a number")
	}
}

func TestShown(t *testing.T) {
	for want, argv := range map[string][]string{
		"outband enter pid:N -- /bin/true": {"/tmp/x/outband", "--run-dir", "/run/x", "enter", "pid:77", "--", "/bin/true"},
		"nsenter -t N -a /bin/true":        {"/usr/bin/nsenter", "-t", "77", "-a", "/bin/true"},
		"runc exec ID /bin/true":           {"/usr/sbin/runc", "--root", "/tmp/x", "exec", idPrefix + "1", "/bin/true"},
	} {
		if got := shown(argv); got != want {
			t.Errorf("shown(%q) = %q, want %q", argv, got, want)
		}
	}
}

// What a pipeline is timed by is that everything came out at its end.
func TestPipelineCountsBytes(t *testing.T) {
	const n = 1<<20 + 1
	d, err := pipeline(t.Context(), n, [][]string{{"/bin/cat"}, {"/bin/cat"}})
	if err != nil || d <= 0 {
		t.Errorf("pipeline = %v, %v", d, err)
	}
	if _, err := pipeline(t.Context(), n, [][]string{{"/bin/sh", "-c", "head -c 1000; cat >/dev/null"}}); err == nil || !strings.Contains(err.Error(), fmt.Sprint(n)) {
		t.Errorf("pipeline = %v, want an error about lost bytes", err)
	}
}

// A command that fails does nothing, and that fast.
func TestRunTellsFailure(t *testing.T) {
	if d, usage, err := run(t.Context(), []string{"/bin/true"}); err != nil || d <= 0 || usage == nil || usage.Maxrss == 0 {
		t.Errorf("run true = %v, %v, %v", d, usage, err)
	}
	if _, _, err := run(t.Context(), []string{"/bin/false"}); err == nil {
		t.Error("run false = nil")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := run(ctx, []string{"/bin/sleep", "1000"}); err == nil {
		t.Error("run sleep outlived its context")
	}
}

// TestOnly has one of two contests take place.
func TestOnly(t *testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	var first, second []string
	a, b := fake(2, &first, "a", "b"), fake(2, &second, "c", "d")
	a.title, b.title = "First", "Second"
	b.claims = []claim{{of: "c", to: "d", bar: 1}}
	r := report{machine: "a machine"}
	if err := r.compete(t.Context(), []*contest{a, b}, "Second", null); err != nil {
		t.Fatal(err)
	}
	if len(first) != 0 || len(second) == 0 {
		t.Errorf("turns %v and %v: only the second was asked for", first, second)
	}
	var out strings.Builder
	r.rows(&out)
	for _, line := range []string{"a machine\n", "| Second | c / d | 1.00 | 1.00 – 1.00 | 1 |  | 2 | within the bar |\n", "| Second | d | 2500.00 |"} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("there is no %q:\n%s", line, out.String())
		}
	}
	if err := r.compete(t.Context(), []*contest{a, b}, "", null); err != nil || len(first) == 0 {
		t.Errorf("all: %v, turns %v", err, first)
	}
	if err := (&report{}).compete(t.Context(), []*contest{a, b}, "Third", null); err == nil || !strings.Contains(err.Error(), `"Third"`) {
		t.Errorf("a contest that there is not: %v", err)
	}
}
