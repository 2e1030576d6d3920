// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/outband/outband/engine"
	"github.com/outband/outband/internal/safetext"
)

// completionTime bounds what a press of the tab key may take.
const completionTime = 200 * time.Millisecond

// completeTargets offers the containers that run, by the names their engines
// have for them, else by the number of their first process; it wakes no daemon.
// Behind TARGET it offers nothing: what is in the container's files is not known.
func (p *program) completeTargets(_ *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return p.targetNames(word, running)
}

func running(c *engine.Container) bool { return c.Init.PID != 0 }

// targetNames offers the containers that are wanted, for a word that was begun:
// where it has no prefix also without theirs, if no other is called so.
func (p *program) targetNames(word string, wanted func(*engine.Container) bool) ([]cobra.Completion, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(context.Background(), completionTime)
	defer cancel()
	containers, _ := engine.Names(ctx, p.engines())
	return namesFor(word, containers, wanted), cobra.ShellCompDirectiveNoFileComp
}

func namesFor(word string, containers []engine.Container, wanted func(*engine.Container) bool) []cobra.Completion {
	names := make([]cobra.Completion, 0, len(containers))
	for i := range containers {
		c := &containers[i]
		if !wanted(c) {
			continue
		}
		about := orElse(safetext.Escape(c.Init.Comm), string(c.State))
		names = append(names, cobra.CompletionWithDesc(safetext.Escape(c.FullName()), about))
		if strings.Contains(word, ":") || strings.Contains(c.Name, ":") || !strings.HasPrefix(c.Name, word) {
			continue
		}
		if meant, err := engine.Named(containers, c.Name); err == nil && meant.FullName() == c.FullName() {
			names = append(names, cobra.CompletionWithDesc(safetext.Escape(c.Name), about))
		}
	}
	return names
}

// completeSignals offers the names of signals behind TARGET.
func (p *program) completeSignals(c *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) != 1 {
		return p.completeTargets(c, args, word)
	}
	sig := strings.HasPrefix(strings.ToUpper(word), "SIG")
	var names []cobra.Completion
	for n := unix.Signal(1); n < sigRTMin; n++ {
		name := unix.SignalName(n)
		if !sig {
			name = strings.TrimPrefix(name, "SIG")
		}
		if name != "" {
			names = append(names, name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
