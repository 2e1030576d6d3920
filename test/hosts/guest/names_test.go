// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// ask runs outband. That it could not look at all in time, which is an error or a
// word beside the answer, is no answer: without hardware support it is slow.
func ask(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out, said bytes.Buffer
	var err error
	await(t, "an answer in time", func() bool {
		out.Reset()
		said.Reset()
		cmd := command(t, append([]string{"outband"}, args...)...)
		cmd.Stdout, cmd.Stderr = &out, &said
		err = cmd.Run()
		return !strings.Contains(said.String(), "in time")
	})
	if err != nil {
		err = fmt.Errorf("%q: %w: %s", args, err, said.String())
	}
	return out.String(), err
}

// answer is what outband prints when it succeeds.
func answer(t *testing.T, args ...string) string {
	t.Helper()
	out, err := ask(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// listed is a container as ls has it.
type listed struct {
	Name, Engine, State string
	Init                *struct{ Pid int }
}

// list is what ls says of the containers called so, with their engine.
func list(t *testing.T, name string) (found []listed) {
	t.Helper()
	var all []listed
	out := answer(t, "ls", "-a", "-o", "json")
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if c.Engine+":"+c.Name == name {
			found = append(found, c)
		}
	}
	if found == nil {
		t.Logf("%s is not in %s", name, out)
	}
	return found
}

// checkNamed: the name is in the list once, with the first process, and leads to
// it.
func checkNamed(t *testing.T, name string, pid int) {
	if found := list(t, name); len(found) != 1 || found[0].State != "running" || found[0].Init.Pid != pid {
		t.Errorf("ls: %s, whose first process is %d, is %+v", name, pid, found)
	}
	var numbers []struct{ Pids []int }
	if err := json.Unmarshal([]byte(answer(t, "pid", name, "1", "-o", "json")), &numbers); err != nil || numbers[0].Pids[0] != pid {
		t.Errorf("%s leads to %+v, %v, not to %d", name, numbers, err, pid)
	}
	out := answer(t, "inspect", name, "-o", "json")
	engine, short, _ := strings.Cut(name, ":")
	if want := `{"name":"` + short + `","engine":"` + engine + `",`; !strings.HasPrefix(out, want) {
		t.Errorf("inspect: %.200s, want %s", out, want)
	}
}

// checkStopped: the name is in the list of those that do not run, once, and what
// enters it is refused.
func checkStopped(t *testing.T, name string) {
	t.Helper()
	if found := list(t, name); len(found) != 1 || found[0].State != "stopped" || found[0].Init != nil {
		t.Errorf("ls -a: %s is %+v", name, found)
	}
	if out, err := ask(t, "enter", name, "--", "true"); err == nil || !strings.Contains(err.Error(), "not running") {
		t.Errorf("%s is entered: %s, %v", name, out, err)
	}
}

// checkVisitor: a process of that name is marked in the tree, with what let it in.
func checkVisitor(t *testing.T, name, comm, via string) {
	t.Helper()
	type process struct {
		Comm, Via string
		Visitor   bool
		Children  []process
	}
	var seen []process
	await(t, "a visitor by "+via, func() bool {
		seen = nil
		if err := json.Unmarshal([]byte(answer(t, "tree", name, "-o", "json")), &seen); err != nil || len(seen) != 1 {
			t.Fatalf("%+v, %v", seen, err)
		}
		return slices.ContainsFunc(seen[0].Children, func(p process) bool { return p.Comm == comm && p.Visitor && p.Via == via })
	})
}
