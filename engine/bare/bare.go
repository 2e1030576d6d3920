// SPDX-License-Identifier: Apache-2.0

// Package bare lists the containers that the kernel knows: pid namespaces. An
// engine's name for one comes before this.
package bare

import (
	"context"
	"fmt"

	"github.com/outband/outband/engine"
)

// Engine finds the first processes of all pid namespaces below the caller's own.
type Engine struct{}

// Name returns "bare".
func (Engine) Name() string { return engine.Bare }

// List returns a container for each pid namespace that has a first process.
func (Engine) List(ctx context.Context, h *engine.Host) ([]engine.Container, error) {
	tasks, err := h.Tasks(ctx)
	if err != nil {
		return nil, err
	}
	firsts := 0
	for i := range tasks {
		if tasks[i].First() {
			firsts++
		}
	}
	all := make([]engine.Container, 0, firsts) // of which there may be a thousand
	for i := range tasks {
		t := &tasks[i]
		if !t.First() {
			continue
		}
		init, err := h.Init(engine.Facts{PID: t.PID, Start: t.Start})
		if err != nil {
			continue
		}
		c := engine.Container{Engine: engine.Bare, Name: fmt.Sprintf("pid:%d", t.PID), State: engine.Running, Init: init}
		if t.PIDNS != 0 { // else the caller may not know it
			c.ID = fmt.Sprint(t.PIDNS)
		}
		all = append(all, c)
	}
	return all, nil
}
