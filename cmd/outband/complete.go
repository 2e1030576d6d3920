// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/outband/outband/engine"
	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/safetext"
)

// completionTime bounds what a press of the tab key may take.
const completionTime = 200 * time.Millisecond

// completeTargets offers the containers that are seen in /proc, by the number of
// their first process; it asks no daemon.
func completeTargets(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	ctx, cancel := context.WithTimeout(context.Background(), completionTime)
	defer cancel()
	proc, err := procfs.Open()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer proc.Close()
	inits, _ := engine.Inits(ctx, proc)
	names := make([]cobra.Completion, 0, len(inits))
	for _, init := range inits {
		names = append(names, cobra.CompletionWithDesc(fmt.Sprintf("pid:%d", init.PID), safetext.Escape(init.Comm)))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
