// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/outband/outband/power"
)

// sheet is a terminal's screen of one line after the other, as far as progress
// uses one: \r, \n and erasing to the end of the line.
type sheet struct {
	mu    sync.Mutex
	lines []string
	at    int // column
	saw   []string
}

func (s *sheet) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.lines) == 0 {
		s.lines = []string{""}
	}
	text := string(b)
	for text != "" {
		last := &s.lines[len(s.lines)-1]
		switch {
		case strings.HasPrefix(text, "\r"):
			s.at, text = 0, text[1:]
		case strings.HasPrefix(text, "\x1b[K"):
			*last, text = (*last)[:s.at], text[3:]
		case strings.HasPrefix(text, "\n"):
			s.lines, s.at, text = append(s.lines, ""), 0, text[1:]
		default:
			*last = (*last)[:s.at] + text[:1]
			s.at++
			text = text[1:]
		}
	}
	s.saw = append(s.saw, s.lines[len(s.lines)-1])
	return len(b), nil
}

func (s *sheet) shows(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, line := range s.saw {
		if strings.Contains(line, text) {
			return true
		}
	}
	return false
}

func (s *sheet) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.lines, "\n")
}

// await polls until done, for as long as a tired machine may need.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for until := time.Now().Add(patience); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal(what)
		}
	}
}

// TestProgress: the line follows what is waited for, other lines come above it,
// and in the end nothing of it is left. Without the erasing of print the rung
// would stand behind the line.
func TestProgress(t *testing.T) {
	var screen sheet
	var mu sync.Mutex
	said := "first"
	narrow := func() style { return style{width: 20} }
	p := followOn(&screen, narrow, func() string { mu.Lock(); defer mu.Unlock(); return said })
	await(t, "no line", func() bool { return screen.shows("first") })
	p.print(func() { _, _ = io.WriteString(&screen, "a rung\n") })
	mu.Lock()
	said = "a name with \x1b[2J in it that is far too long"
	mu.Unlock()
	await(t, "the line is not followed, or not cut", func() bool { return screen.shows("a name with") })
	p.end()
	p.end()
	if got := screen.text(); got != "a rung\n" {
		t.Errorf("left on the screen: %q", got)
	}
	for _, line := range screen.saw {
		if len(line) > 22 { // … has three bytes
			t.Errorf("longer than the window: %q", line)
		}
	}
}

// TestProgressNowhere: what is no terminal gets no line, and all the rest.
func TestProgressNowhere(t *testing.T) {
	var none *progress
	done := false
	none.print(func() { done = true })
	none.end()
	if !done {
		t.Error("what is to be printed is not")
	}
}

// TestLadder: each line has its time, and hostile names are shown as text.
func TestLadder(t *testing.T) {
	start := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	events := []power.Event{
		{At: at(1), Rung: power.Ask, How: "SIGRTMIN+4", Result: "no answer in 30s"},
		{At: at(30250), Rung: power.Press, How: "reboot(RB_POWER_OFF)", Result: "the init \x1b[31mends"},
	}
	result := &power.Result{Done: true, InitExit: "SIGINT", Took: 30300 * time.Millisecond, Back: &power.Back{PIDs: []int{77, 1}, By: "docker"}}
	show := func(json bool) string {
		var b bytes.Buffer
		l := ladder{w: &b, name: "web\x1b[2J", action: power.Off, json: json, start: start}
		for _, e := range events {
			l.event(e)
		}
		l.end(result, nil)
		return b.String()
	}
	want := "   0.001s  ask        SIGRTMIN+4              no answer in 30s\n" +
		"  30.250s  press      reboot(RB_POWER_OFF)    the init \\x1b[31mends\n" +
		"web\\x1b[2J has ended; its init ended with SIGINT; it is back, 77 → 1, started by docker (30.30s)\n"
	if got := show(false); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	want = `{"at":"2026-11-29T12:00:00.001Z","rung":"ask","how":"SIGRTMIN+4","result":"no answer in 30s"}` + "\n" +
		`{"at":"2026-11-29T12:00:30.25Z","rung":"press","how":"reboot(RB_POWER_OFF)","result":"the init \u001b[31mends"}` + "\n" +
		`{"done":true,"init_exit":"SIGINT","back":{"pid":77,"pids":[77,1],"by":"docker"},"seconds":30.3}` + "\n"
	if got := show(true); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// TestLadderLeft: what would not die is listed, and an end that is none is not
// called one.
func TestLadderLeft(t *testing.T) {
	result := &power.Result{Left: []power.Process{{PIDs: []int{70, 4}, Comm: "dd\n", State: 'D', Waits: "io_schedule"}}, Took: time.Second}
	for json, want := range map[bool]string{
		false: "left: 70 → 4 dd\\n in state D, in io_schedule\n",
		true:  `{"done":false,"init_exit":"","back":null,"left":[{"pids":[70,4],"comm":"dd\u000a","state":"D","waits":"io_schedule"}],"seconds":1,"error":"no"}` + "\n",
	} {
		var b bytes.Buffer
		(&ladder{w: &b, name: "web", action: power.Off, json: json}).end(result, io.ErrNoProgress)
		got := b.String()
		if json {
			got = strings.Replace(got, io.ErrNoProgress.Error(), "no", 1)
		}
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
