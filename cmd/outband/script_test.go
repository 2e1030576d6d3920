// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/outband/outband/internal/throwaway"
)

func TestMain(m *testing.M) {
	throwaway.Main(os.Args) // containers of the scripts are made of this binary
	testscript.Main(m, map[string]func(){"outband": main})
}

// TestScript runs testdata/script: what is in there is the specification of the
// command line. The scripts' own commands:
//
//	container NAME [user]    starts a container; $NAME is the number of its first
//	                         process; with "user" it has a user namespace
//	quit NAME                ends it
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
			"quit":      quitContainer,
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
	spec := throwaway.Spec{Name: args[0], User: len(args) > 1 && args[1] == "user"}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := throwaway.Start(ctx, spec)
	ts.Check(err)
	ts.Defer(func() { c.Close() })
	containers(ts)[args[0]] = c
	ts.Setenv(args[0], strconv.Itoa(c.Pid()))
}

func quitContainer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 || containers(ts)[args[0]] == nil {
		ts.Fatalf("usage: quit NAME")
	}
	ts.Check(containers(ts)[args[0]].Close())
}
