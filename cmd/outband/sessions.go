// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/cgroup"
	"github.com/outband/outband/internal/hint"
	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/registry"
	"github.com/outband/outband/internal/safetext"
	"github.com/outband/outband/internal/sys"
)

func (p *program) sessionsCommand() *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:   "sessions",
		Short: "List what outband let in, and end it",
		Long: `List the sessions that live: what outband itself let into containers. "sessions
end" ends them: with SIGTERM, and with SIGKILL two seconds later. What a session
left behind ends with it.`,
		Example: "  outband sessions\n  outband sessions end 0fqk3v9mzt",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return failure("sessions", p.sessions(c.OutOrStdout(), output))
		},
	}
	outputFlag(c, &output, "json")
	c.AddCommand(&cobra.Command{
		Use:     "end ID...",
		Short:   "End sessions",
		Example: "  outband sessions end 0fqk3v9mzt",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, ids []string) error {
			return failure("sessions end", p.endSessions(c.Context(), ids))
		},
		ValidArgsFunction: p.completeSessions,
	})
	return c
}

// sessionFacts are a session as JSON has it: a contract with scripts.
type sessionFacts struct {
	ID        string    `json:"id"`
	Target    string    `json:"target"`
	Verb      string    `json:"verb"`
	Command   []string  `json:"command"`
	PIDs      []int     `json:"pids"`
	Started   time.Time `json:"started"`
	Attached  int       `json:"attached"`
	Parked    bool      `json:"parked"`
	Recording *string   `json:"recording"`
}

func sessionOf(r registry.Record) sessionFacts {
	s := sessionFacts{ID: r.ID, Target: r.Target, Verb: r.Verb, Command: r.Command, PIDs: r.Pids, Started: r.Started, Attached: 1}
	if r.Detached {
		s.Attached, s.Parked = 0, true
	}
	if r.Recording != "" {
		s.Recording = &r.Recording
	}
	return s
}

// records are the sessions that live. One that cannot be read is told.
func (p *program) records() ([]registry.Record, error) {
	r, err := registry.Open(p.runDir)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return p.told(r.List()), nil
}

// told are the sessions on a list that may not be whole, which is told.
func (p *program) told(live []registry.Record, err error) []registry.Record {
	p.doubt(err)
	return live
}

func (p *program) sessions(w io.Writer, output string) error {
	live, err := p.records()
	if err != nil {
		return err
	}
	all := make([]sessionFacts, 0, len(live))
	for _, r := range live {
		all = append(all, sessionOf(r))
	}
	if output == "json" {
		return printJSON(w, all)
	}
	tw := newTable(w)
	fmt.Fprintln(tw, "ID\tTARGET\tVERB\tPIDS\tAGE\tSTATE\tCOMMAND")
	for _, s := range all {
		state := "attached"
		if s.Parked {
			state = "detached"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.ID, safetext.Escape(s.Target), s.Verb, orElse(arrows(s.PIDs), "-"),
			age(time.Since(s.Started)), state, safetext.Escape(strings.Join(s.Command, " ")))
	}
	return tw.Flush()
}

func (p *program) completeSessions(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	live, _ := p.records()
	ids := make([]cobra.Completion, 0, len(live))
	for _, r := range live {
		ids = append(ids, cobra.CompletionWithDesc(r.ID, safetext.Escape(r.Target)))
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}

// Errors of ending a session.
var (
	errNoSession = errors.New("no such session")
	errNotEnded  = errors.New("it does not end")
)

// endTime is how long a session has to end after each signal.
const endTime = 2 * time.Second

// endSessions ends sessions by their ids. All have to live before any is ended.
func (p *program) endSessions(ctx context.Context, ids []string) error {
	reg, err := registry.Open(p.runDir)
	if err != nil {
		return err
	}
	defer reg.Close()
	live := p.told(reg.List())
	var chosen []registry.Record
	for _, id := range ids {
		i := slices.IndexFunc(live, func(r registry.Record) bool { return r.ID == id })
		if i < 0 {
			return hint.With(fmt.Errorf("session %s: %w", safetext.Escape(id), errNoSession), "outband sessions lists them")
		}
		chosen = append(chosen, live[i])
	}
	for _, r := range chosen {
		if err := endSession(ctx, reg, r); err != nil {
			return fmt.Errorf("session %s: %w", r.ID, err)
		}
	}
	return nil
}

// endSession ends the command of one, upon which its warden ends the rest.
func endSession(ctx context.Context, reg *registry.Registry, r registry.Record) error {
	proc, err := procfs.Open()
	if err != nil {
		return err
	}
	defer proc.Close()
	held, err := holdCommand(proc, r)
	if err != nil || held == nil {
		return err
	}
	defer held.Close()
	if !lives(reg, r.ID) {
		return nil // so that the number may be another's
	}
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		if err := sys.Signal(held.Pidfd, sig, false); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
		for until := time.Now().Add(endTime); time.Now().Before(until); {
			if !lives(reg, r.ID) {
				return nil
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	return fmt.Errorf("%w: something of it waits in the kernel", errNotEnded)
}

// lives tells whether a session is alive: its record is locked by its warden. That
// another's cannot be read has been told before.
func lives(reg *registry.Registry, id string) bool {
	live, _ := reg.List()
	return slices.ContainsFunc(live, func(r registry.Record) bool { return r.ID == id })
}

// holdCommand takes hold of the command of a session; nil if it has ended.
//
// A19 (docs/threat-model.md): its numbers on every level have to be those on
// record, and its cgroup the session's; the session has to be alive afterwards.
func holdCommand(proc *procfs.FS, r registry.Record) (*procfs.Process, error) {
	if len(r.Pids) == 0 {
		return nil, errors.New("it has not executed anything yet")
	}
	held, err := proc.Hold(r.Pids[0])
	if err != nil {
		return nil, nil
	}
	numbers, err := proc.Numbers(held.Pidfd)
	groups, gerr := held.Dir.Groups()
	same := err == nil && gerr == nil && slices.Equal(numbers, r.Pids) &&
		(r.Cgroup == "" || path.Base(cgroup.Unified(groups)) == path.Base(r.Cgroup))
	if !same {
		held.Close()
		return nil, nil
	}
	return held, nil
}
