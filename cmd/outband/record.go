// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/outband/outband"
	"github.com/outband/outband/internal/cgroup"
	"github.com/outband/outband/internal/registry"
	"github.com/outband/outband/ns"
)

// record is the trace that one entry leaves: in the list of sessions while it
// lasts, in the audit log when it has ended. A nil *record leaves none.
type record struct {
	*registry.Entry
	registry *registry.Registry
	say      func(format string, args ...any)
}

// begin records that somebody is about to be let in. Root never enters without
// a trace; for others, who enter what is theirs, one that cannot be kept is
// told.
func (p *program) begin(t *outband.Target, cmd *outband.Cmd, plan *outband.Plan) (*record, error) {
	r, err := p.keep(description(t, cmd, plan))
	if r != nil {
		cmd.Hold = append(cmd.Hold, r.File())
	}
	return r, err
}

// keep begins a record.
func (p *program) keep(rec registry.Record) (*record, error) {
	r, err := registry.Open(p.runDir)
	if err == nil {
		_, _ = r.SweepFunc(endLost)
		var e *registry.Entry
		if e, err = r.Begin(rec); err == nil {
			return &record{e, r, p.say}, nil
		}
		r.Close()
	}
	if os.Geteuid() == 0 {
		return nil, err
	}
	p.say("note: this session is not recorded: %v", err)
	return nil, nil
}

// endLost ends what is left of a session whose tool and warden were killed
// : its command died with them, its cgroup may hold more.
func endLost(r registry.Record) error {
	if r.Cgroup != "" {
		cgroup.SweepDir(r.Cgroup)
	}
	return nil
}

func description(t *outband.Target, cmd *outband.Cmd, plan *outband.Plan) registry.Record {
	return registry.Record{
		Target: t.Name(), Verb: "enter", Command: cmd.Args, User: fmt.Sprintf("%d:%d", plan.UID, plan.GID),
		Init: registry.Init{PID: t.PID(), Started: t.Started(), PIDNS: uint64(t.Namespaces()[ns.PID])},
		By:   registry.Caller(os.Getenv), Detached: cmd.Detach,
	}
}

// started adds what is known once the command runs.
func (r *record) started(p *outband.Process) {
	if r == nil {
		return
	}
	pids := slices.Clone(p.PIDs())
	_ = r.Update(func(rec *registry.Record) { rec.Pids, rec.Cgroup = pids, p.Cgroup() })
}

// failed records that nothing was executed.
func (r *record) failed(err error) {
	r.end(registry.Outcome{How: "not executed", Error: err.Error()})
}

// ended records how the command ended.
func (r *record) ended(state *outband.ProcessState, err error) {
	if state == nil {
		r.end(registry.Outcome{How: "unknown", Error: err.Error()})
		return
	}
	r.end(registry.Outcome{How: state.String()})
}

func (r *record) end(o registry.Outcome) {
	if r == nil {
		return
	}
	if err := r.End(o); err != nil {
		r.say("the end of session %s could not be recorded: %v", r.ID(), err)
	}
	r.registry.Close()
}

// detach prints the session's id and leaves the record to the session's warden.
func (r *record) detach(w io.Writer) error {
	if r == nil {
		return nil
	}
	if _, err := fmt.Fprintln(w, r.ID()); err != nil {
		return err
	}
	err := r.Release()
	r.registry.Close()
	return err
}
