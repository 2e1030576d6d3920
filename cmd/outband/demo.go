// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/outband/outband"
	"github.com/outband/outband/engine"
	"github.com/outband/outband/internal/pty"
	"github.com/outband/outband/internal/safetext"
	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/ns"
	"github.com/outband/outband/pidtree"
)

// demoName is what the demo's container is called while it lasts.
const demoName = "demo"

// demoTime bounds each step of the demo.
const demoTime = 10 * time.Second

func (p *program) demoCommand() *cobra.Command {
	var keep bool
	c := &cobra.Command{
		Use:   "demo",
		Short: "Build a container out of nothing, enter it, show what there is to see",
		Long: `Build a container out of nothing but this binary (namespaces and a file system
in memory, with a second container inside), enter it, and show who has which
process number on which level. On a terminal it ends with a shell inside.
Nothing is left behind. Works as root, and as a user where the kernel allows
user namespaces.`,
		Example: "  outband demo\n  outband demo --keep    # and, in another terminal: outband enter demo -- ps",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := p.demo(c.OutOrStdout(), keep); err != nil {
				return &verbError{"demo", err, 1}
			}
			return nil
		},
	}
	c.Flags().BoolVar(&keep, "keep", false, "keep the container until Enter or end of input, to be entered from elsewhere")
	return c
}

// demo shows what outband does on a container of its own.
func (p *program) demo(w io.Writer, keep bool) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), demoTime)
	defer cancel()
	box, err := throwaway.Start(ctx, throwaway.Demo())
	if err != nil {
		return err
	}
	defer func() {
		if cerr := box.Close(); err == nil {
			err = cerr
		}
	}()
	forget, err := engine.Announce(p.runDir, demoName, box.Pid())
	if err != nil {
		return err
	}
	defer forget()
	t, err := outband.OpenIn(ctx, demoName, p.runDir)
	if err != nil {
		return err
	}
	defer t.Close()
	s := &scene{w: w, t: t}
	for _, act := range []func(context.Context) error{s.inside, s.visit} {
		if err := act(ctx); err != nil {
			return err
		}
	}
	if keep {
		s.say("\nThe container stays until you press Enter. In another terminal: outband enter %s -- ps\n", demoName)
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	} else if atTerminal() {
		if err := p.visitDemo(s); err != nil {
			return err
		}
	}
	s.say("\nThe container ends with this program; nothing is left behind.\n")
	return nil
}

// atTerminal tells whether somebody sits in front of this.
func atTerminal() bool { return pty.IsTerminal(os.Stdin) && pty.IsTerminal(os.Stdout) }

// visitDemo lets the user into the container.
func (p *program) visitDemo(s *scene) error {
	s.say("\n$ outband enter %s\nThis shell runs inside, on a terminal of the container's own. \"help\" lists what\nit knows; \"exit\" or Ctrl-D leaves.\n\n", demoName)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	cmd := s.t.CommandContext(ctx, "/bin/sh")
	f := enterFlags{cgroup: "target"}
	if err := f.apply(cmd); err != nil {
		return err
	}
	v := visit{program: p, enterFlags: &f, target: s.t, cmd: cmd, cancel: cancel}
	err := v.run()
	var status exitStatus
	if errors.As(err, &status) {
		return nil // of the last command in there
	}
	return err
}

// scene is the demo while it is shown.
type scene struct {
	w io.Writer
	t *outband.Target
}

func (s *scene) say(format string, args ...any) { fmt.Fprintf(s.w, format, args...) }

// run shows a command and its output.
func (s *scene) run(ctx context.Context, args ...string) error {
	s.say("\n$ outband enter %s -- %s\n", demoName, strings.Join(args, " "))
	cmd := s.t.CommandContext(ctx, args[0], args[1:]...)
	out, err := cmd.CombinedOutput()
	s.say("%s", safetext.Lines(string(out)))
	return err
}

// inside enters the container.
func (s *scene) inside(ctx context.Context) error {
	s.say("This is a container made of nothing but outband itself: namespaces, and a file\n"+
		"system in memory. Its first process is %d here and 1 inside. Another container\n"+
		"runs inside of it. No engine knows of them; outband enters all the same.\n", s.t.PID())
	if err := s.run(ctx, "ps"); err != nil {
		return err
	}
	return s.run(ctx, "id")
}

// visit shows all numbers while a command of ours is inside, and that it is gone
// afterwards.
func (s *scene) visit(ctx context.Context) error {
	visitor := s.t.CommandContext(ctx, "sleep", "infinity")
	if err := visitor.Start(); err != nil {
		return err
	}
	s.say("\nEvery process has a number on each level. This is the tree from the outside,\nwhile a command of ours (sleep, entered just now) runs inside:\n\n")
	before, err := s.tree(ctx)
	if err != nil {
		return err
	}
	if err := visitor.Process.Signal(unix.SIGTERM); err != nil {
		return err
	}
	_ = visitor.Wait() // SIGTERM is how it was to end
	s.say("\nA visitor is a process that came in from outside: it is confined as the\ncontainer's own first process is, and is reaped at once. Now it has ended:\n\n")
	after, err := s.tree(ctx)
	if err != nil {
		return err
	}
	if before != 1 || after != 0 {
		return fmt.Errorf("there were %d visitors, then %d, instead of 1 and none", before, after)
	}
	return nil
}

// tree prints the container's processes with their numbers on every level and
// returns how many visitors there are.
func (s *scene) tree(ctx context.Context) (visitors int, err error) {
	all, err := pidtree.Snapshot(ctx)
	if err != nil {
		return 0, err
	}
	tw := tabwriter.NewWriter(s.w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "outside\tcontainer\tinner\t")
	for _, p := range below(all.Processes, s.t.PID()) {
		row := make([]string, max(3, len(p.PIDs)))
		for i, pid := range p.PIDs {
			row[i] = strconv.Itoa(pid)
		}
		mark := ""
		if p.Visitor {
			mark, visitors = "  ← visitor", visitors+1
		}
		fmt.Fprintf(tw, "%s\t  %s%s\n", strings.Join(row, "\t"), safetext.Column(p.Comm), mark)
	}
	return visitors, tw.Flush()
}

// below returns the processes in the pid namespace of process init and in those
// below it, which all have a number in it: those that descend from init, and
// visitors.
func below(all []pidtree.Process, init int) []pidtree.Process {
	i := slices.IndexFunc(all, func(p pidtree.Process) bool { return p.PID() == init })
	if i < 0 {
		return nil
	}
	spaces := []ns.ID{all[i].PIDNS}
	member := func(p pidtree.Process) bool { return slices.Contains(spaces, p.PIDNS) }
	for changed := true; changed; {
		changed = false
		for _, p := range all {
			parent := slices.IndexFunc(all, func(q pidtree.Process) bool { return q.PID() == p.Parent })
			if parent >= 0 && member(all[parent]) && !member(p) {
				spaces, changed = append(spaces, p.PIDNS), true
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(p pidtree.Process) bool { return !member(p) })
}
