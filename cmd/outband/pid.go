// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/outband/outband"
	"github.com/outband/outband/engine"
	"github.com/outband/outband/internal/hint"
	"github.com/outband/outband/internal/safetext"
	"github.com/outband/outband/pidtree"
)

func (p *program) pidCommand() *cobra.Command {
	var from, output string
	c := &cobra.Command{
		Use:   "pid TARGET PID...",
		Short: "Translate process numbers between a container and the host",
		Long: `Print the numbers that processes of a container have on every level, the host's
first. PID is as seen inside, or with --from as seen by the host, or on a level
between: 0 is the host's, 1 that of the outermost container.`,
		Example: "  outband pid web 1 7\n  outband pid web --from host 4711\n  outband pid web 7 -o json",
		Args:    cobra.MinimumNArgs(2),

		ValidArgsFunction: p.completeTargets,
		RunE: func(c *cobra.Command, args []string) error {
			return failure("pid "+args[0], asOwner(p.pid(c.Context(), c.OutOrStdout(), args[0], args[1:], from, output)))
		},
	}
	c.Flags().StringVar(&from, "from", "target", "who counts PID so: `host|target|LEVEL`")
	_ = c.RegisterFlagCompletionFunc("from", cobra.FixedCompletions([]cobra.Completion{"host", "target"}, cobra.ShellCompDirectiveNoFileComp))
	outputFlag(c, &output, "json")
	return c
}

// numbers are a process in JSON.
type numbers struct {
	PIDs []int `json:"pids"`
}

func (p *program) pid(ctx context.Context, w io.Writer, target string, words []string, from, output string) error {
	pids, err := parsePids(words)
	if err != nil {
		return err
	}
	space, err := p.space(ctx, target)
	if err != nil {
		return err
	}
	defer space.Close()
	level, err := parseLevel(from, space.Level())
	if err != nil {
		return err
	}
	all := make([]numbers, 0, len(pids))
	for _, pid := range pids {
		held, err := space.Hold(ctx, pid, level)
		if err != nil {
			return err
		}
		held.Pidfd.Close()
		all = append(all, numbers{held.PIDs})
	}
	if output == "json" {
		return printJSON(w, all)
	}
	for _, n := range all {
		if _, err := fmt.Fprintln(w, arrows(n.PIDs)); err != nil {
			return err
		}
	}
	return nil
}

// asOwner gives an error about what is another's its way out.
func asOwner(err error) error {
	if errors.Is(err, fs.ErrPermission) && outband.Hint(err) == "" {
		return hint.With(err, hint.Owner)
	}
	return err
}

// space holds the pid namespace of a target.
func (p *program) space(ctx context.Context, target string) (*pidtree.Space, error) {
	proc, init, err := p.hold(ctx, target)
	if err != nil {
		return nil, err
	}
	defer proc.Close()
	defer init.Close()
	return spaceOf(init.Pidfd, target)
}

// spaceOf holds the pid namespace of a target's first process, which may have
// ended since it was found.
func spaceOf(init *os.File, target string) (*pidtree.Space, error) {
	space, err := pidtree.OpenSpace(init)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return nil, fmt.Errorf("%w: container %s: it has ended", engine.ErrNotFound, safetext.Escape(target))
	}
	return space, err
}

// parsePids reads process numbers as they are typed: digits alone.
func parsePids(words []string) ([]int, error) {
	pids := make([]int, 0, len(words))
	for _, word := range words {
		pid, err := strconv.ParseInt(word, 10, 32)
		if err != nil || pid <= 0 || word[0] == '+' {
			return nil, fmt.Errorf("%w: %q is no process number", errUsage, word)
		}
		pids = append(pids, int(pid))
	}
	return pids, nil
}

// parseLevel reads --from.
func parseLevel(word string, target int) (int, error) {
	switch word {
	case "host":
		return 0, nil
	case "target":
		return target, nil
	}
	level, err := strconv.ParseUint(word, 10, 8)
	if err != nil || int(level) > target {
		return 0, fmt.Errorf("%w: --from %s: neither host nor target nor a level from 0 to %d", errUsage, safetext.Escape(word), target)
	}
	return int(level), nil
}
