// SPDX-License-Identifier: Apache-2.0

package podman

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/outband/outband/engine"
	"github.com/outband/outband/internal/bolt"
	"github.com/outband/outband/internal/safetext"
)

// Record is what Podman's database has of a container.
type Record struct {
	Restart    string // see engine.Container
	StopSignal string
	Exit       *engine.Exit // nil: it never ended, or runs again
	Paused     bool
	Runs       bool // as far as Podman has noticed
}

// describe adds what is recorded to what is known of a container.
func (r Record) describe(c *engine.Container) {
	c.Restart, c.StopSignal, c.Exit = r.Restart, r.StopSignal, r.Exit
	if r.Paused && c.State == engine.Running {
		c.State = engine.Paused
	}
}

// States of a container as Podman counts them.
const stateRunning, statePaused, stateStopped, stateExited = 3, 4, 5, 6

// ParseRecord parses the two texts that Podman has of a container.
func ParseRecord(config, state []byte) (Record, error) {
	var c struct {
		Restart string `json:"restart_policy"`
		Retries int    `json:"restart_retries"`
		Signal  int    `json:"stopSignal"`
	}
	var s struct {
		State    int       `json:"state"`
		Code     int       `json:"exitCode"`
		Exited   bool      `json:"exited"`
		Finished time.Time `json:"finishedTime"`
		OOM      bool      `json:"oomKilled"`
	}
	if err := errors.Join(json.Unmarshal(config, &c), json.Unmarshal(state, &s)); err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	r := Record{
		Restart: engine.Policy(c.Restart, c.Retries), StopSignal: engine.SignalName(strconv.Itoa(c.Signal)),
		Paused: s.State == statePaused, Runs: s.State == stateRunning || s.State == statePaused,
	}
	if (s.Exited || s.State == stateExited || s.State == stateStopped) && !s.Finished.IsZero() {
		r.Exit = &engine.Exit{Code: s.Code, At: s.Finished, OOM: s.OOM}
	}
	return r, nil
}

// exit returns how a container ended of which Podman has not noticed yet: conmon
// writes that down first. nil where it has not.
func exit(h *engine.Host, id string, place engine.Place) *engine.Exit {
	dir := filepath.Join(place.Runtime, "libpod")
	if place.UID != 0 {
		dir = filepath.Join(dir, "tmp")
	}
	f, err := h.Open(filepath.Join(dir, "exits", id), place.UID)
	if err != nil {
		return nil
	}
	defer f.Close()
	info, err := f.Stat()
	b := make([]byte, 4)
	n, rerr := f.Read(b)
	code, cerr := strconv.Atoi(strings.TrimSpace(string(b[:max(n, 0)])))
	if errors.Join(err, rerr, cerr) != nil || code < 0 || code > 255 {
		return nil
	}
	return &engine.Exit{Code: code, At: info.ModTime()}
}

// A database has texts for ParseRecord. What is read of one that is not unchanged
// afterwards counts for nothing.
type database interface {
	// containers calls each for every container until ctx ends; then it is ErrDeadline.
	containers(ctx context.Context, each func(id string, config, state []byte)) error
	Unchanged() bool
}

// A format is a file below the storage's directory, and how it is read.
type format struct {
	path string
	open func(bolt.File) (database, error)
}

// formats are those of databases; the first that is there is the one in use.
func formats() []format {
	return []format{
		{"db.sql", func(f bolt.File) (database, error) { return openSQLite(f) }},
		{"libpod/bolt_state.db", openBolt},
	}
}

// boltState is what Podman before 5 keeps its state in.
type boltState struct{ *bolt.DB }

func openBolt(f bolt.File) (database, error) {
	db, err := bolt.Open(f)
	return boltState{db}, err
}

// containers calls each for every container: in the bucket "ctr" there is a bucket
// for each id, in that "config" and "state".
func (db boltState) containers(ctx context.Context, each func(id string, config, state []byte)) error {
	all, ok, err := db.Find("ctr")
	if err != nil || !ok {
		return err
	}
	return db.Walk(all, func(one bolt.Pair) error {
		node, err := one.Bucket()
		if err != nil {
			return err
		}
		values, err := db.Values(node)
		each(string(one.Key), values["config"], values["state"])
		return errors.Join(err, engine.Late(ctx))
	})
}

// readRecords returns what the database of a storage has of containers. None is fine:
// it may be elsewhere.
func readRecords(ctx context.Context, h *engine.Host, storage string, owner uint32) (map[string]Record, error) {
	for _, d := range formats() {
		path := filepath.Join(storage, d.path)
		f, err := h.Open(path, owner)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		defer f.Close()
		all, err := d.read(ctx, bolt.OSFile{File: f}, func() bool { return written(h, path+"-journal", owner) })
		if err != nil {
			err = fmt.Errorf("%s: %w", path, err)
		}
		return all, err
	}
	return nil, nil
}

// How often a database is read that is being written, and after which pause: a
// transaction of Podman's takes some milliseconds.
const attempts, pause = 5, 10 * time.Millisecond

// errWritten is a database that changes all the time.
var errWritten = errors.New("it is being written")

// read reads a database until nobody has written meanwhile.
func (d format) read(ctx context.Context, f bolt.File, written func() bool) (all map[string]Record, err error) {
	for i := range attempts {
		if i > 0 {
			time.Sleep(pause)
		}
		if late := engine.Late(ctx); late != nil {
			return nil, errors.Join(err, late)
		}
		db, oerr := d.open(f)
		if err = oerr; err != nil {
			continue
		}
		var bad error // of one container
		others := 0
		all = map[string]Record{}
		err = db.containers(ctx, func(id string, config, state []byte) {
			r, rerr := ParseRecord(config, state)
			if rerr != nil {
				if bad != nil {
					others++
					return
				}
				bad = fmt.Errorf("container %s: %w", safetext.Escape(id), rerr)
				return
			}
			all[id] = r
		})
		if others > 0 {
			bad = fmt.Errorf("%w, and those of %d more", bad, others)
		}
		switch {
		case !db.Unchanged() || written():
			all, err = nil, errWritten
		case err == nil, errors.Is(err, engine.ErrDeadline):
			return all, errors.Join(bad, err)
		}
	}
	return all, err
}

// written tells whether SQLite is writing: there is a journal then, with what was
// there before.
func written(h *engine.Host, journal string, owner uint32) bool {
	f, err := h.Open(journal, owner)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	defer f.Close()
	info, err := f.Stat()
	return err != nil || info.Size() > 0
}
