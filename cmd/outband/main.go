// SPDX-License-Identifier: Apache-2.0

// Command outband is out-of-band management for Linux containers: it enters,
// shows, powers, repairs any running container from the outside.
//
// How it speaks: facts go to standard output, messages to standard error with
// the prefix "outband: ", without a capital and without a period; the way out of
// an error stands on a line of its own, after "hint: ". Text that a container
// may have written is shown through internal/safetext alone.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/outband/outband"
	"github.com/outband/outband/internal/registry"
	"github.com/outband/outband/internal/safetext"
	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/pidtree"
)

func main() {
	runtime.LockOSThread()  // the first thread is the one that procfs.FS.Self reads at the least cost
	throwaway.Main(os.Args) // does not return if this is the first process of a demo
	os.Exit(run(os.Args[1:]))
}

// program is what the verbs share.
type program struct {
	runDir         string
	stdout, stderr io.Writer       // what is printed passes internal/safetext
	processes      *pidtree.Reader // of a verb that looks at all
}

// exitStatus is an exit code that is not about an error of outband's own.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// verbError is an error of a verb that was asked for in the right way.
type verbError struct {
	what string // "enter web"
	err  error
	code int
}

func (e *verbError) Error() string { return e.what + ": " + e.err.Error() }
func (e *verbError) Unwrap() error { return e.err }

// Hint is the error's own, or what helps in every verb.
func (e *verbError) Hint() string { return orElse(outband.Hint(e.err), wayOut(e.err)) }

// codeUsage is what enter, console and repair exit with for every error of
// outband's own; codeMisuse what the other verbs do for bad usage.
const (
	codeUsage  = 125
	codeMisuse = 2
)

// run carries out one command line and returns the exit code.
func run(args []string) int {
	p := &program{stdout: safetext.NewWriter(os.Stdout), stderr: safetext.NewWriter(os.Stderr)}
	verb, err := p.execute(args)
	var status exitStatus
	var failed *verbError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &status):
		return int(status)
	case errors.As(err, &failed):
		p.report(failed)
		return failed.code
	}
	p.report(err)
	fmt.Fprintf(p.stderr, "hint: %s --help\n", strings.TrimSpace("outband "+verb))
	if verb == "enter" {
		return codeUsage
	}
	return codeMisuse
}

// execute carries out a command line and returns the verb's name as well.
func (p *program) execute(args []string) (verb string, err error) {
	if line, ok := p.enterDirectly(args); ok {
		return enterNames[0], p.enter(&line.enterFlags, line.target, line.command)
	}
	root, verb := p.command(args)
	root.SetArgs(args)
	return verb, root.Execute()
}

// report prints an error and its way out.
func (p *program) report(err error) {
	fmt.Fprintf(p.stderr, "outband: %s\n", shorten(safetext.Escape(err.Error())))
	if hint := outband.Hint(err); hint != "" {
		fmt.Fprintf(p.stderr, "hint: %s\n", safetext.Escape(hint))
	}
}

// shorten keeps both ends of a text that would fill the screen: the name that it
// begins with may be 100 KiB long, and what is wrong stands at its end.
func shorten(s string) string {
	const end = 400 // characters
	r := []rune(s)
	if len(r) <= 2*end {
		return s
	}
	return string(r[:end]) + "…" + string(r[len(r)-end:])
}

// say prints a message.
func (p *program) say(format string, args ...any) {
	fmt.Fprintf(p.stderr, "outband: %s\n", safetext.Escape(fmt.Sprintf(format, args...)))
}

// verbOf is a verb: what it is called, its own name first, and what describes it.
type verbOf struct {
	names []string
	build func(*program) *cobra.Command
}

func (v verbOf) is(name string) bool { return slices.Contains(v.names, name) }

// verbs are what outband can do.
var verbs = []verbOf{
	{enterNames, (*program).enterCommand},
	{[]string{"inspect"}, (*program).inspectCommand},
	{lsNames, (*program).lsCommand},
	{[]string{"tree"}, (*program).treeCommand},
	{[]string{"pid"}, (*program).pidCommand},
	{[]string{"doctor"}, (*program).doctorCommand},
	{[]string{"signal"}, (*program).signalCommand},
	{[]string{"power"}, (*program).powerCommand},
	{[]string{"sessions"}, (*program).sessionsCommand},
	{[]string{"demo"}, (*program).demoCommand},
	{[]string{"version"}, (*program).versionCommand},
}

// command builds the command line, and returns the name of the verb that is called
// as well. Where that is the first word the others are not built: help and
// completion alone need them.
func (p *program) command(args []string) (root *cobra.Command, verb string) {
	root = &cobra.Command{
		Use:           "outband",
		Short:         "Out-of-band management for Linux containers",
		Long:          longHelp,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	p.registerRunDir(root.PersistentFlags())
	root.CompletionOptions.HiddenDefaultCmd = true
	called := verbs
	if i := slices.IndexFunc(verbs, func(v verbOf) bool { return len(args) > 0 && v.is(args[0]) }); i >= 0 {
		called = verbs[i : i+1]
	}
	for _, v := range called {
		root.AddCommand(v.build(p))
		if verb == "" && slices.ContainsFunc(args, v.is) {
			verb = v.names[0]
		}
	}
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	if root.CompletionOptions.DisableDefaultCmd = verb != ""; verb == "" { // not to be built for nothing
		strictCompletion(root)
	}
	if slices.Contains(args, "help") {
		strictHelp(root)
	}
	return root, verb
}

// strictCompletion has cobra's verb fail as the others do: words that mean nothing
// are bad usage, and what cannot be written is not.
func strictCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	c, _, err := root.Find([]string{"completion"})
	if err != nil {
		return
	}
	c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	for _, shell := range c.Commands() {
		write := shell.RunE
		shell.RunE = func(c *cobra.Command, args []string) error { return failure("completion "+c.Name(), write(c, args)) }
	}
}

// strictHelp has help for what there is alone.
func strictHelp(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	help, _, err := root.Find([]string{"help"})
	if err != nil {
		return
	}
	help.RunE = func(_ *cobra.Command, args []string) error {
		c, rest, err := root.Find(args)
		if err != nil || len(rest) > 0 {
			return fmt.Errorf("help: there is no verb %q", strings.Join(args, " "))
		}
		c.InitDefaultHelpFlag()
		return c.Help()
	}
}

func (p *program) registerRunDir(fl *pflag.FlagSet) {
	fl.StringVar(&p.runDir, "run-dir", registry.Default(os.Geteuid(), os.Getenv), "where sessions are recorded")
	_ = fl.MarkHidden("run-dir")
}

const longHelp = `Outband is out-of-band management for Linux containers: what a management
controller is to a server. It enters any running container from the outside,
whatever made it, confined as the container is, and leaves nothing behind.

TARGET is what an engine calls a container (web, docker:web, podman@user:web,
pod:NAMESPACE/POD/CONTAINER, the beginning of an id), a process number (1234,
pid:1234), pidns:INODE, cgroup:/PATH, or the path of a namespace file.`
