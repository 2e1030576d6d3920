// SPDX-License-Identifier: Apache-2.0

package docker

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/outband/outband/engine"
)

// Config is what Docker has written down of a container.
type Config struct {
	ID, Name   string
	Running    bool // paused ones included, and those that wait for a restart
	Paused     bool
	PID        int
	StopSignal string       // as a signal is called: "SIGTERM"
	Exit       *engine.Exit // nil: it never ended, or runs again
	Restart    string       // see engine.Container; not in the same file
}

// ErrFormat is a file that is not as Docker writes it.
var ErrFormat = errors.New("unexpected format")

// ParseConfig parses config.v2.json.
func ParseConfig(b []byte) (Config, error) {
	var c struct {
		ID, Name string
		Config   struct{ StopSignal string }
		State    state
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return Config{}, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	name := strings.TrimPrefix(c.Name, "/")
	if c.ID == "" || name == "" || c.State.Pid < 0 {
		return Config{}, fmt.Errorf("%w: no id or no name", ErrFormat)
	}
	signal := engine.SignalName(c.Config.StopSignal)
	if c.Config.StopSignal == "" {
		signal = "SIGTERM" // docker stop's
	}
	return Config{
		ID: c.ID, Name: name, Running: c.State.Running, Paused: c.State.Paused, PID: c.State.Pid,
		StopSignal: signal, Exit: c.State.exit(),
	}, nil
}

type state struct {
	Running, Paused, Restarting, OOMKilled bool
	Pid, ExitCode                          int
	FinishedAt                             time.Time // zero: it never has
}

// exit is how the container ended. When it runs again Docker forgets the code and
// keeps the time; one that waits for a restart counts as running, and has both.
func (s state) exit() *engine.Exit {
	if s.FinishedAt.IsZero() || s.Running && !s.Restarting {
		return nil
	}
	return &engine.Exit{Code: s.ExitCode, At: s.FinishedAt, OOM: s.OOMKilled}
}

// ParsePolicy parses from hostconfig.json when Docker starts a container again.
func ParsePolicy(b []byte) (string, error) {
	var c struct {
		RestartPolicy struct {
			Name              string
			MaximumRetryCount int
		}
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return "", fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return engine.Policy(c.RestartPolicy.Name, c.RestartPolicy.MaximumRetryCount), nil
}
