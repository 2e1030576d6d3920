// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/outband/outband/internal/safetext"
	"github.com/outband/outband/power"
)

// ladder shows an action rung by rung, as it happens.
type ladder struct {
	w      io.Writer
	name   string
	action power.Action
	json   bool
	grace  time.Duration
	start  time.Time
	last   power.Event
	line   *progress
}

// rungFacts are an event as JSON has it, outcomeFacts the last line: a contract
// with scripts.
type rungFacts struct {
	At     time.Time  `json:"at"`
	Rung   power.Rung `json:"rung"`
	How    string     `json:"how"`
	Result string     `json:"result"`
}

type outcomeFacts struct {
	Done     bool        `json:"done"`
	InitExit string      `json:"init_exit"`
	Back     *backFacts  `json:"back"`
	Left     []leftFacts `json:"left,omitempty"`
	Seconds  float64     `json:"seconds"`
	Error    string      `json:"error,omitempty"`
}

type backFacts struct {
	PID  int    `json:"pid"`
	PIDs []int  `json:"pids"`
	By   string `json:"by"`
}

type leftFacts struct {
	PIDs  []int  `json:"pids"`
	Comm  string `json:"comm"`
	State string `json:"state"`
	Waits string `json:"waits"`
}

// event takes in what happens on a rung: that it is taken, upon which the line of
// progress says so, and what came of it, which gets a line that stays.
func (l *ladder) event(e power.Event) {
	l.line.print(func() {
		if e.Result == "" || l.last.Rung != e.Rung || l.last.How != e.How {
			l.last = e
		}
		at := l.last.At
		switch {
		case e.Result == "":
		case l.json:
			_ = printJSON(l.w, rungFacts{at.UTC(), e.Rung, e.How, e.Result})
		default:
			fmt.Fprintf(l.w, "%8.3fs  %-9s  %-22s  %s\n", max(0, at.Sub(l.start)).Seconds(), e.Rung, safetext.Escape(e.How), safetext.Escape(e.Result))
		}
	})
}

// waiting is the line of progress: what was done last, and for how long it has
// been waited.
func (l *ladder) waiting() string {
	if l.last.Result != "" || l.last.At.IsZero() {
		return ""
	}
	text := fmt.Sprintf("%s: %s (%s), %v", l.name, l.last.Rung, safetext.Escape(l.last.How), time.Since(l.last.At).Truncate(time.Second))
	if l.last.Rung == power.Ask {
		text += fmt.Sprintf(" of %v", l.grace)
	}
	if l.last.Rung == power.Verify {
		return text
	}
	return text + "; ^C leaves it as it is"
}

// end shows how the action ended; err is nil, or what kept it from its end.
func (l *ladder) end(r *power.Result, err error) {
	l.line.end()
	if l.json {
		facts := outcomeFacts{Done: r.Done && err == nil, InitExit: r.InitExit, Seconds: float64(r.Took.Milliseconds()) / 1000}
		if r.Back != nil && len(r.Back.PIDs) > 0 {
			facts.Back = &backFacts{r.Back.PIDs[0], r.Back.PIDs, r.Back.By}
		}
		for _, p := range r.Left {
			facts.Left = append(facts.Left, leftFacts{p.PIDs, p.Comm, string(p.State), p.Waits})
		}
		if err != nil {
			facts.Error = err.Error()
		}
		_ = printJSON(l.w, facts)
		return
	}
	for _, p := range r.Left {
		fmt.Fprintf(l.w, "left: %s %s in state %c%s\n", arrows(p.PIDs), safetext.Escape(p.Comm), p.State, in(p.Waits))
	}
	if err == nil {
		fmt.Fprintln(l.w, l.sentence(r))
	}
}

// in is where a process waits.
func in(function string) string {
	if function == "" {
		return ""
	}
	return ", in " + safetext.Escape(function)
}

// sentence is the end in words.
func (l *ladder) sentence(r *power.Result) string {
	done := map[power.Action]string{
		power.On: "is on", power.Off: "is off", power.Halt: "is off", power.Kill: "is off", power.Reboot: "has ended",
		power.Pause: "is paused", power.Resume: "goes on",
	}
	end := done[l.action]
	if r.Back != nil && end == "is off" {
		end = "has ended"
	}
	words := []string{safetext.Escape(l.name) + " " + end}
	if r.InitExit != "" {
		words = append(words, "its init ended with "+safetext.Escape(r.InitExit))
	}
	if b := r.Back; b != nil {
		back := "it is back, " + arrows(b.PIDs)
		if l.action == power.On {
			back = "its init is " + arrows(b.PIDs)
		}
		if b.By != "" {
			back += ", started by " + safetext.Escape(b.By)
		}
		words = append(words, back)
	}
	return fmt.Sprintf("%s (%.2fs)", strings.Join(words, "; "), r.Took.Seconds())
}
