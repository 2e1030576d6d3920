// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/outband/outband/engine"
	"github.com/outband/outband/internal/safetext"
)

// completionTime bounds what a press of the tab key may take.
const completionTime = 200 * time.Millisecond

// completeTargets offers the containers that run, by the names their engines
// have for them, else by the number of their first process; it wakes no daemon.
func (p *program) completeTargets(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return p.targetNames(func(c *engine.Container) bool { return c.Init.PID != 0 })
}

// targetNames offers the containers that are wanted.
func (p *program) targetNames(wanted func(*engine.Container) bool) ([]cobra.Completion, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(context.Background(), completionTime)
	defer cancel()
	containers, _ := engine.Names(ctx, p.engines())
	names := make([]cobra.Completion, 0, len(containers))
	for i := range containers {
		c := &containers[i]
		if wanted(c) {
			names = append(names, cobra.CompletionWithDesc(safetext.Escape(c.FullName()), orElse(safetext.Escape(c.Init.Comm), string(c.State))))
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
