// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/pidtree"
)

func TestMain(m *testing.M) {
	throwaway.Main(os.Args) // containers of the scripts are made of this binary
	if err := testutil.DropBoot(); err != nil {
		panic(err)
	}
	testscript.Main(m, map[string]func(){"outband": main})
}

// TestScript runs testdata/script: what is in there is the specification of the
// command line. The scripts' own commands:
//
//	container NAME [user]    starts a container; $NAME is the number of its first
//	                         process; with "user" it has a user namespace
//	system NAME SCRIPT       starts one with a user namespace whose init is a shell
//	                         that does something about SIGTERM
//	quit NAME                ends it
//	envfile NAME FILE        sets a variable to what a file has
//	envid NAME FILE          sets it to the first id in a file of JSON
//	pidof NAME INIT COMM     sets it to the number inside of a process of the
//	                         container whose first process is INIT
//	await INIT COMM STATE    waits until it is in a state, or "gone"
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			// Sessions are recorded in the script's own directory.
			run := filepath.Join(env.WorkDir, "run")
			env.Vars = append(env.Vars, "RUN="+run)
			env.Values[containersKey{}] = map[string]*throwaway.Container{}
			return os.Mkdir(run, 0o700)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"container": startContainer,
			"system":    startSystem,
			"quit":      quitContainer,
			"envfile":   setFromFile,
			"envid":     setFromID,
			"pidof":     setFromTree,
			"await":     untilState,
		},
		Condition: func(cond string) (bool, error) {
			return cond == "root" && os.Geteuid() == 0, nil
		},
		RequireExplicitExec: true,
	})
}

type containersKey struct{}

func containers(ts *testscript.TestScript) map[string]*throwaway.Container {
	return ts.Value(containersKey{}).(map[string]*throwaway.Container)
}

func startContainer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: container NAME [user]")
	}
	startSpec(ts, throwaway.Spec{Name: args[0], User: len(args) > 1 && args[1] == "user"})
}

// startSpec starts a container for the time of a script.
func startSpec(ts *testscript.TestScript, spec throwaway.Spec) *throwaway.Container {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := throwaway.Start(ctx, spec)
	ts.Check(err)
	ts.Defer(func() { c.Close() })
	containers(ts)[spec.Name] = c
	ts.Setenv(spec.Name, strconv.Itoa(c.Pid()))
	return c
}

// shellSystem is a container whose init is a shell's script.
func shellSystem(name, script string) throwaway.Spec {
	return throwaway.Spec{Name: name, User: true, Tree: throwaway.TreeShared, Args: []string{"/bin/sh", "-c", script}}
}

func startSystem(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: system NAME SCRIPT")
	}
	c := startSpec(ts, shellSystem(args[0], args[1]))
	ts.Check(attendInit(c))
}

// attendInit waits until a shell that is an init has its trap for SIGTERM, and has it
// reaped when it ends.
func attendInit(c *throwaway.Container) error {
	go func() { _, _ = c.Wait(context.Background()) }()
	for until := time.Now().Add(patience); time.Now().Before(until); time.Sleep(time.Millisecond) {
		status, err := os.ReadFile("/proc/" + strconv.Itoa(c.Pid()) + "/status")
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(status)) {
			name, mask, _ := strings.Cut(line, ":")
			bits, _ := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
			if (name == "SigCgt" || name == "SigIgn") && bits&(1<<(unix.SIGTERM-1)) != 0 && strings.Contains(string(status), "Name:\tsh\n") {
				return nil
			}
		}
	}
	return errors.New("its init never has a trap")
}

func quitContainer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 || containers(ts)[args[0]] == nil {
		ts.Fatalf("usage: quit NAME")
	}
	ts.Check(containers(ts)[args[0]].Close())
}

func setFromFile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: envfile NAME FILE")
	}
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile(args[1])))
}

func setFromID(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: envid NAME FILE")
	}
	_, rest, _ := strings.Cut(ts.ReadFile(args[1]), `"id":"`)
	id, _, ok := strings.Cut(rest, `"`)
	if !ok {
		ts.Fatalf("no id in %s", args[1])
	}
	ts.Setenv(args[0], id)
}

func setFromTree(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: pidof NAME INIT COMM")
	}
	p := processIn(ts, args[1], args[2])
	if p == nil {
		ts.Fatalf("no %s in %s", args[2], args[1])
	}
	ts.Setenv(args[0], strconv.Itoa(p.Inner()))
}

// untilState waits, since a signal takes a moment.
func untilState(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: await INIT COMM STATE")
	}
	for until := time.Now().Add(10 * time.Second); time.Now().Before(until); time.Sleep(time.Millisecond) {
		p := processIn(ts, args[0], args[1])
		if p != nil && string(p.State) == args[2] || args[2] == "gone" && (p == nil || ended(p)) {
			return
		}
	}
	ts.Fatalf("%s in %s never gets to state %s", args[1], args[0], args[2])
}

// ended tells whether all threads of a process have ended: the first of them is
// a zombie before that.
func ended(p *pidtree.Process) bool {
	proc, err := procfs.Open()
	if err != nil {
		return false
	}
	defer proc.Close()
	held, err := proc.Hold(p.PID())
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	defer held.Close()
	return held.Alive() != nil
}

// processIn is a process of the container whose first process is init, or nil.
func processIn(ts *testscript.TestScript, init, comm string) *pidtree.Process {
	tree, err := pidtree.Snapshot(context.Background())
	ts.Check(err)
	pid, err := strconv.Atoi(init)
	ts.Check(err)
	first := tree.Find(pid)
	for i := range tree.Processes {
		if p := &tree.Processes[i]; first != nil && p.PIDNS == first.PIDNS && p.Comm == comm {
			return p
		}
	}
	return nil
}
