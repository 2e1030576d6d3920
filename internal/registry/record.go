// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/outband/outband/internal/safetext"
)

// Record is who was let in where, by whom and for what. The names of its JSON
// fields are a contract: programs read the audit log. It masks nothing.
type Record struct {
	ID       string    `json:"id"`      // given by Begin, in whose order they sort
	Started  time.Time `json:"started"` // given by Begin unless set
	Target   string    `json:"target"`  // as named to the admin: docker:web
	Verb     string    `json:"verb"`    // enter, console, repair …
	Command  []string  `json:"command"`
	User     string    `json:"user"` // of the entered, inside the target
	Pids     []int     `json:"pids"` // of the command, outermost first; empty until known
	Init     Init      `json:"init,omitzero"`
	By       By        `json:"by"`
	Cgroup   string    `json:"cgroup,omitempty"` // of the session, in the cgroup2 hierarchy
	Detached bool      `json:"detached"`         // the session outlives the tool that began it
	// Recording is the path of the terminal's recording.
	Recording string `json:"recording,omitempty"`
}

// Init is the identity of a target's first process. A pid alone would name
// another one soon.
type Init struct {
	PID     int    `json:"pid"`     // the host's number
	Started uint64 `json:"started"` // clock ticks since boot, field 22 of stat
	PIDNS   uint64 `json:"pidns"`   // inode of its pid namespace
}

// By is who let in. Caller fills it.
type By struct {
	UID int `json:"uid"` // the real one
	// LoginUID is who logged in, before sudo or su; nil without a login or
	// without CONFIG_AUDIT.
	LoginUID *uint32 `json:"login_uid"`
	PID      int     `json:"pid"`
	TTY      string  `json:"tty,omitempty"` // pts/3; the controlling one
	Cwd      string  `json:"cwd,omitempty"`
	SSH      string  `json:"ssh,omitempty"` // SSH_CONNECTION: from where, as far as the environment tells
}

// Outcome is how a session ended.
type Outcome struct {
	Ended time.Time `json:"ended"`           // now unless set
	How   string    `json:"how"`             // "exit 0", "SIGKILL", HowLost …
	Error string    `json:"error,omitempty"` // of outband's own
}

// What Sweep writes as Outcome.How: nobody was there to see the end.
const (
	HowLost     = "lost: the caller was killed"
	HowUnseen   = "unseen: the session was detached" // which is how those end whose last owner is no program of ours
	errorDamage = "the record is damaged"
)

// encode returns a record as one line, without its end.
func encode(r Record) ([]byte, error) {
	line, err := safetext.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("record of %s: %w", r.Target, err)
	}
	return line, nil
}

// join returns a record's line with the outcome's fields after its own.
func join(line []byte, o Outcome) ([]byte, error) {
	if o.Ended.IsZero() {
		o.Ended = time.Now()
	}
	o.Ended = o.Ended.UTC()
	end, err := safetext.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("outcome: %w", err)
	}
	out := make([]byte, 0, len(line)+len(end)+1)
	out = append(out, line[:len(line)-1]...)
	out = append(out, ',')
	return append(out, end[1:]...), nil
}

// parsed is what a record's file says.
type parsed struct {
	Record
	Outcome
	line []byte // as written, fields of other versions included
}

// parse reads the last complete line of a record's file. Without one it
// returns nil: the session has not begun.
func parse(id string, data []byte) (*parsed, error) {
	end := bytes.LastIndexByte(data, '\n')
	if end < 0 {
		return nil, nil
	}
	line := data[bytes.LastIndexByte(data[:end], '\n')+1 : end]
	line, err := safetext.Marshal(json.RawMessage(line))
	if err != nil {
		return nil, err
	}
	p := &parsed{line: line}
	if err := safetext.Unmarshal(line, p); err != nil {
		return nil, err
	}
	if p.ID != id {
		return nil, fmt.Errorf("has the id of another: %q", p.ID)
	}
	return p, nil
}
