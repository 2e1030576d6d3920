// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/outband/outband/pidtree"
)

// treeFlags are the flags of tree.
type treeFlags struct {
	output     string
	all, watch bool
}

func (p *program) treeCommand() *cobra.Command {
	var f treeFlags
	c := &cobra.Command{
		Use:   "tree [TARGET]",
		Short: "Show who is in which pid namespace under which number",
		Long: `Show the processes of all containers, or of one, nested as their pid namespaces
are: with their numbers on every level, the host's first. Visitors, which came
in from outside, are marked, and stand below the first process of the namespace
that they are in; their parent is outside. What let them in is told by what that
parent executes, where it is known (docker exec, nsenter …), and for Outband's
own by the session.

What a visitor left running when it ended has a new parent, the first process of
the container. It is marked where it is in the cgroup of one of Outband's
sessions; for others that can no longer be told.

A process whose memory something holds on to for half a second cannot tell its
arguments; it is shown without, as one that does not answer.

Without TARGET, processes of the host are left out unless a container is below
them; --all shows them. JSON always has all processes, with a null container
where no engine has a name for one.`,
		Example:           "  outband tree\n  outband tree web --watch\n  outband tree -o json | jq '.. | objects | select(.visitor)'",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: p.completeTargets,
		RunE: func(c *cobra.Command, args []string) error {
			what, target := "tree", ""
			if len(args) > 0 {
				what, target = "tree "+args[0], args[0]
				if args[0] == "" {
					return failure(what, fmt.Errorf("%w: TARGET is empty", errUsage))
				}
			}
			return failure(what, p.tree(c.Context(), c.OutOrStdout(), &f, target))
		},
	}
	c.Flags().BoolVarP(&f.all, "all", "a", false, "show the host's own processes too")
	c.Flags().BoolVarP(&f.watch, "watch", "w", false, "show it until q is pressed, as it changes; with JSON, a line for each change")
	outputFlag(c, &f.output, "json")
	return c
}

// forest is a tree, or the part of it that was asked for.
type forest struct {
	*pidtree.Tree
	roots []*pidtree.Process
	// whole says that it is that of the machine.
	whole bool
}

// tree shows one snapshot, or one after the other.
func (p *program) tree(ctx context.Context, w io.Writer, f *treeFlags, target string) error {
	if ctx == nil {
		ctx = context.Background()
	}
	collectLess()
	look, closer, err := p.looker(ctx, target)
	if err != nil {
		return err
	}
	defer closer()
	if f.watch {
		return p.watch(ctx, f, target, look)
	}
	t, err := look()
	if err != nil {
		return err
	}
	if f.output == "json" {
		return writeTree(w, t)
	}
	out := bufio.NewWriter(canvas())
	for _, line := range draw(t, styleOf(canvas()), f.all) {
		fmt.Fprintln(out, line.text)
	}
	return out.Flush()
}

// collectLess has the collector work less, of which there is enough for the
// machine's two threads; with ten thousand processes it stays below 64 MiB.
func collectLess() {
	debug.SetGCPercent(400)
	debug.SetMemoryLimit(48 << 20)
}

// looker returns what makes a snapshot, of all processes or of a target's. The
// target is held meanwhile: it stays the same whoever gets its number.
func (p *program) looker(ctx context.Context, target string) (look func() (*forest, error), closer func(), err error) {
	if p.processes, err = pidtree.Open(); err != nil {
		return nil, nil, err
	}
	if target == "" {
		return func() (*forest, error) {
			tree, _, err := p.look(ctx, treeGlance)
			if err != nil {
				return nil, err
			}
			t := &forest{Tree: tree, whole: true}
			for root := range tree.Roots() {
				t.roots = append(t.roots, root)
			}
			return t, nil
		}, func() { p.processes.Close() }, nil
	}
	proc, init, err := p.hold(ctx, target)
	if err != nil {
		p.processes.Close()
		return nil, nil, err
	}
	return func() (*forest, error) {
		tree, _, err := p.look(ctx, treeGlance)
		if err != nil {
			return nil, err
		}
		root := tree.Find(init.PID)
		if root == nil || init.Alive() != nil {
			return nil, fmt.Errorf("%w: it has ended", pidtree.ErrNoProcess)
		}
		return &forest{Tree: tree, roots: []*pidtree.Process{root}}, nil
	}, func() { init.Close(); proc.Close(); p.processes.Close() }, nil
}
