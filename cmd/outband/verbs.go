// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/outband/outband"
	"github.com/outband/outband/engine"
	"github.com/outband/outband/engine/all"
	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/safetext"
	"github.com/outband/outband/pidtree"
	"github.com/outband/outband/power"
)

// errRefused is what would be dangerous.
var errRefused = errors.New("refused")

// Exit codes of verbs that do not run a command; codeTimeout is also that of a
// command that --timeout ended.
const (
	codeFailed   = 1
	codeNotFound = 3
	codeRefused  = 4
	codeTimeout  = 124
)

// codeOf is the exit code that an error of a verb has.
func codeOf(err error) int {
	for _, row := range []struct {
		code int
		errs []error
	}{
		{codeTimeout, []error{context.DeadlineExceeded, outband.ErrDeadline, engine.ErrDeadline, procfs.ErrIncomplete, errNotEnded}},
		{codeRefused, []error{errRefused, engine.ErrNotDescendant, outband.ErrNotDescendant, outband.ErrOwnNamespace, outband.ErrBreakout,
			outband.ErrFrozen, power.ErrDefeated, power.ErrShared}},
		{codeMisuse, []error{engine.ErrInvalid, outband.ErrInvalid, errUsage}},
		{codeNotFound, []error{engine.ErrNotFound, engine.ErrAmbiguous, engine.ErrNotRunning, outband.ErrNotRunning, pidtree.ErrNoProcess,
			outband.ErrNotFound, outband.ErrAmbiguous, outband.ErrGone, outband.ErrNoProcess, errNoSession}},
	} {
		for _, is := range row.errs {
			if errors.Is(err, is) {
				return row.code
			}
		}
	}
	return codeFailed
}

// errUsage is a word on the command line that cannot be right.
var errUsage = errors.New("usage")

// failure is the error of a verb, for the name it was given.
func failure(what string, err error) error {
	if err == nil {
		return nil
	}
	var status exitStatus
	if errors.As(err, &status) {
		return err
	}
	return &verbError{safetext.Escape(what), err, codeOf(err)}
}

// wayOut is that of errors that have the same one in every verb; "" for others.
func wayOut(err error) string {
	var stopped *engine.NotRunningError
	switch {
	case errors.As(err, &stopped):
		if _, none := power.Through(&stopped.Container, power.On, 0); none != nil {
			return ""
		}
		return "outband power " + safetext.Word(stopped.Container.FullName()) + " on"
	case errors.Is(err, engine.ErrNotFound):
		return "outband ls shows what there is, with -a also what does not run"
	}
	return ""
}

// outputFlag adds -o with these formats.
func outputFlag(c *cobra.Command, output *string, formats ...string) {
	c.Flags().StringVarP(output, "output", "o", "", "format: `"+strings.Join(formats, "|")+"`")
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
	run := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		if *output != "" && !slices.Contains(formats, *output) {
			return fmt.Errorf("%s: %q is no output format (%s)", c.Name(), *output, strings.Join(formats, ", "))
		}
		return run(c, args)
	}
}

// printJSON prints facts for programs, on a line.
func printJSON(w io.Writer, v any) error {
	b, err := safetext.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// hold takes hold of the first process of a target.
func (p *program) hold(ctx context.Context, name string) (*procfs.FS, *procfs.Process, error) {
	proc, err := procfs.Open()
	if err != nil {
		return nil, nil, err
	}
	init, err := engine.Resolve(ctx, proc, name, p.runDir, engines()...)
	if err != nil {
		proc.Close()
		return nil, nil, err
	}
	return proc, init, nil
}

// engines are those that are asked, with what the caller's environment says of
// them.
func engines() []engine.Engine {
	return all.With(all.Options{DockerHost: os.Getenv("DOCKER_HOST")})
}

// engines are all engines, and the containers of demos.
func (p *program) engines() []engine.Engine { return append(engines(), engine.Demo(p.runDir)) }

// glance is what a verb wants to know of all processes and the containers among them.
type glance struct {
	read func(*pidtree.Reader, context.Context) (*pidtree.Tree, error)
	name func(*pidtree.Tree, context.Context, []engine.Engine) ([]engine.Container, error)
	bare bool // those too that no engine has a name for
}

var (
	// treeGlance is processes with their arguments, and what containers are called.
	treeGlance = glance{(*pidtree.Reader).Snapshot, (*pidtree.Tree).Names, false}
	// briefGlance is which containers there are.
	briefGlance = glance{(*pidtree.Reader).Outline, (*pidtree.Tree).Names, true}
	// fullGlance is all that there is to know of them.
	fullGlance = glance{(*pidtree.Reader).Outline, (*pidtree.Tree).Containers, true}
)

// look reads all processes and names the containers among them. What could not be
// asked or read is told, and is no reason not to show the rest.
func (p *program) look(ctx context.Context, g glance) (*pidtree.Tree, []engine.Container, error) {
	tree, err := g.read(p.processes, ctx)
	if tree == nil {
		return nil, nil, err
	}
	if err != nil {
		p.say("note: %v", err)
	}
	if tree.Hidden {
		p.say("note: /proc hides processes of others (hidepid): there are more than these, and root sees them")
	}
	if n := tree.Unknown(); n > 0 {
		p.say("note: processes whose container only root may know: %d; there may be more names and visitors", n)
	}
	asked := slices.DeleteFunc(p.engines(), func(e engine.Engine) bool { return !g.bare && e.Name() == engine.Bare })
	containers, err := g.name(tree, ctx, asked)
	p.doubt(err)
	if err := tree.Explain(p.sessionNumbers); err != nil {
		p.say("note: %v", err)
	}
	return tree, containers, nil
}

// doubt tells of engines that could not be asked.
func (p *program) doubt(err error) {
	if err == nil {
		return
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		p.say("note: %s", line)
	}
}

// sessionNumbers are the numbers of the commands of all sessions that live.
// Nothing is made where there are none.
func (p *program) sessionNumbers() (all [][]int) {
	if _, err := os.Lstat(p.runDir); err != nil {
		return nil
	}
	live, err := p.records()
	if err != nil {
		p.say("note: %v", err)
	}
	for _, r := range live {
		all = append(all, r.Pids)
	}
	return all
}
