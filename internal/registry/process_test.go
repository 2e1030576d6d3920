// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// childHold begins a session, prints its id and lives on.
func childHold(args []string) error {
	r, err := Open(args[0])
	if err != nil {
		return err
	}
	e, err := r.Begin(Record{Target: "web", Command: []string{"sh", "\xff"}})
	if err != nil {
		return err
	}
	fmt.Println(e.ID())
	_, err = io.Copy(io.Discard, os.Stdin)
	return errors.Join(err, e.End(Outcome{How: "exit 0"}))
}

// A process that is killed has its session swept once and audited once,
// however many sweep.
func TestKilled(t *testing.T) {
	r := open(t, "")
	cmd := child(t, "hold", r.path)
	id, err := start(t, cmd).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	id = strings.TrimSpace(id)
	if n, err := r.Sweep(); n != 0 || err != nil {
		t.Errorf("while it lives: %d, %v", n, err)
	}
	if got := live(t, r); len(got) != 1 || got[0].ID != id {
		t.Errorf("while it lives: %v", got)
	}
	kill(cmd)
	if got := live(t, r); len(got) != 0 {
		t.Errorf("alive after it was killed: %v", got)
	}
	if n := sweepAll(t, r, 8); n != 1 {
		t.Errorf("swept %d times", n)
	}
	got := auditLines(t, r)
	if len(got) != 1 || got[0].ID != id || got[0].How != HowLost || got[0].Ended.Before(got[0].Started) {
		t.Errorf("log: %+v", got)
	}
	data, err := os.ReadFile(filepath.Join(r.path, auditName))
	if err != nil || !strings.Contains(string(data), `"commandRaw":[null,"/w=="]`) {
		t.Errorf("log: %s, %v", data, err)
	}
	if names := records(t, r); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
}

// sweepAll sweeps from several goroutines, each with a registry of its own.
func sweepAll(t *testing.T, r *Registry, sweepers int) int {
	t.Helper()
	var n atomic.Int64
	var wg sync.WaitGroup
	for range sweepers {
		own := open(t, r.path)
		wg.Go(func() {
			k, err := own.Sweep()
			if err != nil {
				t.Error(err)
			}
			n.Add(int64(k))
		})
	}
	wg.Wait()
	return int(n.Load())
}

// childLoop begins and ends sessions for ever, and says so for each: b after
// it began, e after it ended.
func childLoop(args []string) error {
	r, err := Open(args[0])
	if err != nil {
		return err
	}
	for {
		e, err := r.Begin(Record{Target: "web"})
		if err != nil {
			return err
		}
		fmt.Println("b", e.ID())
		if err := e.End(Outcome{How: "exit 0"}); err != nil {
			return err
		}
		fmt.Println("e", e.ID())
	}
}

// Wherever a process is killed: every session that began is in the log, once,
// and as ended normally if that was known.
func TestKilledAnywhere(t *testing.T) {
	r := open(t, "")
	for range 15 {
		cmd := child(t, "loop", r.path)
		out := start(t, cmd)
		began, ended := map[string]bool{}, map[string]bool{}
		for range 1 + rand.IntN(40) { // then wherever it is
			readStep(out, began, ended)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for readStep(out, began, ended) {
		}
		kill(cmd)
		sweepAll(t, r, 2)
		lines := map[string]int{}
		for _, l := range auditLines(t, r) {
			lines[l.ID]++
			if began[l.ID] && ended[l.ID] && l.How != "exit 0" || lines[l.ID] > 1 {
				t.Errorf("%s is in the log %d times, as %q", l.ID, lines[l.ID], l.How)
			}
		}
		for id := range began {
			if lines[id] == 0 {
				t.Errorf("%s is not in the log", id)
			}
		}
		checkEmpty(t, r)
	}
}

// checkEmpty fails if there are records but of those killed in Begin, which
// have no line. They stay for a while, and then go.
func checkEmpty(t *testing.T, r *Registry) {
	t.Helper()
	for _, name := range records(t, r) {
		path := filepath.Join(r.path, sessionsName, name)
		checkFile(t, path, "")
		writeOld(t, path, "")
	}
	lines := len(auditLines(t, r))
	if n, err := r.Sweep(); n != 0 || err != nil || len(auditLines(t, r)) != lines {
		t.Errorf("swept %d that did not begin, %v", n, err)
	}
	if names := records(t, r); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
}

// readStep reads one line of childLoop; false at the end.
func readStep(out *bufio.Reader, began, ended map[string]bool) bool {
	text, err := out.ReadString('\n')
	if err != nil {
		return false
	}
	step, id, _ := strings.Cut(strings.TrimSpace(text), " ")
	if step == "b" {
		began[id] = true
	} else {
		ended[id] = true
	}
	return true
}

// A detached session lives as long as somebody has its file, who need not know.
func TestInherited(t *testing.T) {
	r := open(t, "")
	e := begin(t, r, Record{Target: "web", Detached: true})
	cmd := child(t, "wait")
	cmd.ExtraFiles = []*os.File{e.File()}
	if text, err := start(t, cmd).ReadString('\n'); err != nil {
		t.Fatal(text, err)
	}
	if err := e.Release(); err != nil {
		t.Fatal(err)
	}
	if n, err := r.Sweep(); n != 0 || err != nil || len(live(t, r)) != 1 {
		t.Errorf("while it lives: %d, %v, %v", n, err, live(t, r))
	}
	kill(cmd)
	if n, err := r.Sweep(); n != 1 || err != nil {
		t.Errorf("after it died: %d, %v", n, err)
	}
	if got := auditLines(t, r); len(got) != 1 || got[0].How != HowUnseen {
		t.Errorf("log: %+v", got)
	}
}

// crowd begins, ends, lists and sweeps from many goroutines at once; a tenth
// of the sessions is left to be swept.
func crowd(r *Registry, goroutines, rounds int) error {
	errs := make(chan error, goroutines)
	for range goroutines {
		go func() {
			errs <- func() error {
				for i := range rounds {
					e, err := r.Begin(Record{Target: "web", Command: []string{strings.Repeat("x", rand.IntN(6000))}})
					if err != nil {
						return err
					}
					if i%10 == 0 {
						err = e.Release()
					} else {
						err = e.End(Outcome{How: "exit 0"})
					}
					if i%5 == 0 {
						_, lerr := r.List()
						_, serr := r.Sweep()
						err = errors.Join(err, lerr, serr)
					}
					if err != nil {
						return err
					}
				}
				return nil
			}()
		}()
	}
	var all error
	for range goroutines {
		all = errors.Join(all, <-errs)
	}
	return all
}

func childCrowd(args []string) error {
	rounds, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	r, err := Open(args[0])
	if err != nil {
		return err
	}
	return crowd(r, 32, rounds)
}

func TestCrowd(t *testing.T) {
	const rounds = 30
	r := open(t, "")
	cmd := child(t, "crowd", r.path, strconv.Itoa(rounds))
	out := start(t, cmd)
	if err := crowd(r, 32, rounds); err != nil {
		t.Error(err)
	}
	if _, err := io.Copy(io.Discard, out); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	sweepAll(t, r, 4)
	seen := map[string]bool{}
	for _, l := range auditLines(t, r) {
		key := l.ID + l.Started.Format(time.RFC3339Nano) // sessions this short may share an id
		if seen[key] {
			t.Errorf("%s is in the log twice", key)
		}
		seen[key] = true
	}
	if want := 2 * 32 * rounds; len(seen) != want {
		t.Errorf("%d sessions in the log, want %d", len(seen), want)
	}
	if names := records(t, r); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
}
