// SPDX-License-Identifier: Apache-2.0

package power

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband"
	"github.com/outband/outband/internal/inits"
)

var update = flag.Bool("update", false, "write testdata/ladders.golden")

// puppet is a box that does as the test says.
type puppet struct {
	kind    string
	obeys   string           // what it ends upon, the beginning of a deed's name
	fails   map[string]error // what cannot be done
	asleep  bool             // its init is stopped
	iced    error            // what thawing it says
	remains []Process        // what stays when its init has ended, or does not
	gone    bool             // it has ended
	cancel  func()           // called when the init was asked
	done    []string         // what was done to it
	by      end              // what it is told to have ended of
	exits   string           // how it ends; "": with 0
	looked  time.Duration    // for what is back
}

func (p *puppet) do(how string) error {
	p.done = append(p.done, how)
	if err := p.fails[how]; err != nil {
		return err
	}
	if p.obeys != "" && strings.HasPrefix(how, p.obeys) && !p.asleep {
		p.gone = true
	}
	return nil
}

func (p *puppet) powered() error { return p.fails["powered"] }
func (p *puppet) identify(context.Context) (Init, error) {
	for _, row := range inits.Table() {
		if row.Kind == p.kind {
			return Init{Kind: p.kind, row: row}, nil
		}
	}
	return Init{Kind: Other, takes: 1 << (unix.SIGTERM - 1)}, p.fails["identify"]
}
func (p *puppet) thaw(Action, bool) (string, error) {
	if p.iced != nil {
		return "thaw cgroup /x", p.iced
	}
	return "", nil
}
func (p *puppet) stopped() bool { return p.asleep }
func (p *puppet) wake() error   { p.asleep = false; return p.do("SIGCONT") }
func (p *puppet) say(_ context.Context, w Word) error {
	if p.cancel != nil {
		defer p.cancel()
	}
	return p.do(w.How)
}
func (p *puppet) press(_ context.Context, b outband.Button) error { return p.do(string(b)) }
func (p *puppet) slay() error                                     { return p.do("SIGKILL") }
func (p *puppet) slayEach(context.Context) (int, error)           { return 1, p.do("each") }
func (p *puppet) await(context.Context, time.Duration) bool       { return p.gone }
func (p *puppet) left(context.Context) ([]Process, error)         { return p.remains, nil }
func (p *puppet) exit(by end) string {
	p.by = by
	return cmp.Or(p.exits, "exit 0")
}
func (p *puppet) back(_ context.Context, d time.Duration) *Back {
	p.looked = d
	if p.fails["back"] != nil {
		return &Back{PIDs: []int{700, 1}, By: "docker\x1b[31m"}
	}
	return nil
}

// TestLadders climbs ladders that end on each rung; testdata/ladders.golden has
// what is told. -update writes it.
func TestLadders(t *testing.T) {
	stuck := []Process{{PIDs: []int{31, 5}, Comm: "stat", State: 'D', Waits: "fuse_wait"}}
	refused := errors.New("operation not permitted")
	var b strings.Builder
	for _, test := range []struct {
		name string
		a    Action
		p    puppet
		o    Options
	}{
		{"asked", Off, puppet{kind: "systemd", obeys: "SIGRTMIN+4"}, Options{}},
		{"asked harder", Reboot, puppet{kind: "systemd", obeys: "SIGRTMIN+15"}, Options{}},
		{"unknown init that hears", Halt, puppet{obeys: "SIGTERM"}, Options{}},
		{"no word for it", Reboot, puppet{kind: "tini", obeys: "RB_"}, Options{}},
		{"pressed", Off, puppet{kind: "systemd", obeys: "RB_"}, Options{}},
		{"the press is refused", Reboot, puppet{obeys: "SIGKILL", fails: map[string]error{"RB_AUTOBOOT": refused}}, Options{}},
		{"the word is refused", Off, puppet{obeys: "RB_", fails: map[string]error{"SIGTERM": refused}}, Options{}},
		{"by force", Off, puppet{kind: "systemd", obeys: "RB_"}, Options{Force: true}},
		{"killed", Kill, puppet{obeys: "SIGKILL"}, Options{}},
		{"each is killed", Kill, puppet{obeys: "each"}, Options{}},
		{"never ends", Kill, puppet{remains: stuck}, Options{}},
		{"something stays", Off, puppet{obeys: "SIGTERM", remains: stuck}, Options{}},
		{"stopped init", Off, puppet{asleep: true, obeys: "SIGCONT"}, Options{}},
		{"comes back", Reboot, puppet{obeys: "SIGKILL", fails: map[string]error{"back": refused}}, Options{}},
		{"nobody looks", Kill, puppet{obeys: "SIGKILL"}, Options{Look: -1}},
		{"frozen", Off, puppet{iced: refused}, Options{}},
		{"the host's", Off, puppet{fails: map[string]error{"powered": outband.ErrOwnNamespace}}, Options{}},
		{"gone already", Off, puppet{fails: map[string]error{"identify": outband.ErrGone}}, Options{}},
		{"dies of something else", Off, puppet{gone: true, fails: map[string]error{"SIGTERM": outband.ErrGone}}, Options{}},
		{"to be on", On, puppet{}, Options{}},
		{"nonsense", "explode", puppet{}, Options{}},
	} {
		fmt.Fprintf(&b, "%s, %s\n", test.name, test.a)
		test.o.Event = func(e Event) { fmt.Fprintf(&b, "\t%s | %s | %s\n", e.Rung, e.How, e.Result) }
		s := &Switch{box: &test.p, o: test.o}
		r, err := s.Do(t.Context(), test.a)
		fmt.Fprintf(&b, "\tdone: %v, %q, %d left, back: %v, error: %v\n", r.Done, r.InitExit, len(r.Left), r.Back != nil, err)
		if err != nil && len(test.p.done) > 0 && !errors.Is(err, ErrStays) {
			t.Errorf("%s: %q was done, and then %v", test.name, test.p.done, err)
		}
	}
	got := regexp.MustCompile(`\d+\.\d\d s`).ReplaceAllString(b.String(), "… s")
	const file = "testdata/ladders.golden"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || got != string(want) {
		t.Errorf("%v\n%s", err, got)
	}
}

// TestLadderGivenUp: an action that is given up says where it stood, and does
// nothing more.
func TestLadderGivenUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p := &puppet{kind: "systemd", cancel: cancel}
	_, err := (&Switch{box: p}).Off(ctx)
	var stood *StoodError
	if !errors.As(err, &stood) || stood.Rung != Ask || stood.How != "SIGRTMIN+4" || !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if len(p.done) != 1 {
		t.Errorf("%q was done", p.done)
	}
}

// TestLadderPlan: how long each rung lasts, and that a rung of nothing to say is
// one nevertheless.
func TestLadderPlan(t *testing.T) {
	init, _ := (&puppet{kind: "systemd"}).identify(t.Context())
	for _, test := range []struct {
		a    Action
		o    Options
		want string
	}{
		{Off, Options{}, "ask 30s, ask-again 10s, press 5s, kill 5s, kill 5s"},
		{Off, Options{Grace: time.Second}, "ask 1s, ask-again 1s, press 5s, kill 5s, kill 5s"},
		{Reboot, Options{Force: true}, "press 5s, kill 5s, kill 5s"},
		{Kill, Options{Force: true}, "kill 5s, kill 5s"},
	} {
		var got []string
		for _, st := range ladder(test.a, init, test.o) {
			got = append(got, fmt.Sprintf("%s %v", st.rung, st.grace))
		}
		if s := strings.Join(got, ", "); s != test.want {
			t.Errorf("%s: %s, want %s", test.a, s, test.want)
		}
	}
}

func TestDescribeExit(t *testing.T) {
	for _, test := range []struct {
		status unix.WaitStatus
		by     end
		want   string
	}{
		{0, end{}, "exit 0"}, {7 << 8, end{pressed: outband.PowerOff}, "exit 7"}, {9, end{killed: true}, "SIGKILL"},
		{9, end{pressed: outband.PowerOff}, "SIGINT"}, {9, end{pressed: outband.HaltIt}, "SIGINT"}, {9, end{pressed: outband.Restart}, "SIGHUP"},
		{9, end{outband.Restart, true}, "SIGHUP"}, {1, end{pressed: outband.Restart}, "SIGHUP"}, {15, end{}, "SIGTERM"},
		{15, end{killed: true}, "SIGTERM"}, {9, end{}, "SIGKILL or reboot(2)"},
	} {
		if got := describeExit(test.status, test.by); got != test.want {
			t.Errorf("%#x %+v: %s, want %s", test.status, test.by, got, test.want)
		}
	}
}

// TestPressRefused: a button that could not be pressed is not what it ended of,
// but the kill that came after. With the button kept this fails.
func TestPressRefused(t *testing.T) {
	for _, test := range []struct {
		fails map[string]error
		obeys string
		want  end
	}{
		{map[string]error{"RB_POWER_OFF": unix.EPERM}, "SIGKILL", end{killed: true}},
		{nil, "SIGKILL", end{outband.PowerOff, true}},
		{nil, "RB_", end{pressed: outband.PowerOff}},
	} {
		p := &puppet{kind: "systemd", obeys: test.obeys, fails: test.fails}
		s := &Switch{box: p, o: Options{Force: true, Look: -1}}
		if r, err := s.Off(t.Context()); err != nil || !r.Done || p.by != test.want {
			t.Errorf("%v: %+v, %v: %+v, want %+v", p.done, r, err, p.by, test.want)
		}
	}
}
