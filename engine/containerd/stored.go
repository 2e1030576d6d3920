// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/outband/outband/engine"
	"github.com/outband/outband/internal/bolt"
)

// database is where containerd keeps what containers there are, below the directory
// of its data.
const database = "io.containerd.metadata.v1.bolt/meta.db"

// complete adds to the containers that have a task what a daemon's database has of
// them, and those that have none.
func complete(ctx context.Context, h *engine.Host, data string, tasks []engine.Container) ([]engine.Container, error) {
	f, err := h.Open(filepath.Join(data, database), 0)
	if errors.Is(err, fs.ErrNotExist) {
		return tasks, nil
	}
	if err != nil {
		return tasks, err
	}
	defer f.Close()
	all, err := readStored(ctx, bolt.OSFile{File: f})
	tasks = join(tasks, all)
	return tasks, errors.Join(err, addEnds(ctx, h, data, tasks))
}

// stored is a container as the database has it.
type stored struct {
	engine.Container
	created time.Time
}

// join puts tasks and what is stored together. The kubelet makes a new container for
// each life of one in a pod, and keeps some that ended: of those with one name it is
// the one with a task, or the newest.
func join(tasks []engine.Container, all []stored) []engine.Container {
	slices.SortStableFunc(all, func(a, b stored) int { return b.created.Compare(a.created) })
	key := func(c *engine.Container) string { return strings.Join(c.Via, " ") + "/" + c.ID }
	at, pods := map[string]int{}, map[string]bool{}
	for i := range tasks {
		at[key(&tasks[i])] = i
		pods[tasks[i].Name] = tasks[i].Pod
	}
	for _, c := range all {
		if i, ok := at[key(&c.Container)]; ok {
			tasks[i].Restart, tasks[i].StopSignal = c.Restart, c.StopSignal
		} else if !pods[c.Name] {
			tasks = append(tasks, c.Container)
			pods[c.Name] = c.Pod
		}
	}
	return tasks
}

// How often a database is read that is being written, and after which pause.
const attempts, pause = 5, 10 * time.Millisecond

// readStored reads a database until nobody has written meanwhile.
func readStored(ctx context.Context, f bolt.File) (all []stored, err error) {
	for range attempts {
		if late := engine.Late(ctx); late != nil {
			return nil, late
		}
		db, oerr := bolt.Open(f)
		if err = oerr; err == nil {
			all, err = containers(ctx, db)
			if (err == nil || errors.Is(err, engine.ErrDeadline)) && db.Unchanged() {
				return all, err
			}
		}
		time.Sleep(pause)
	}
	if err == nil {
		err = errWritten
	}
	return nil, err
}

// errWritten is a database that changes all the time.
var errWritten = errors.New("its database is being written")

// containers returns what is in the buckets v1, namespace, containers. Docker's own
// are left to its adapter: it makes them anew for each start.
func containers(ctx context.Context, db *bolt.DB) (all []stored, err error) {
	top, ok, err := db.Find("v1")
	if err != nil || !ok {
		return nil, err
	}
	err = db.Walk(top, func(space bolt.Pair) error {
		if string(space.Key) == "moby" || !space.IsBucket() {
			return nil
		}
		in, err := space.Bucket()
		if err != nil {
			return err
		}
		list, ok, err := db.FindIn(in, "containers")
		if err != nil || !ok {
			return err
		}
		return db.Walk(list, func(one bolt.Pair) error {
			c, err := readContainer(db, string(space.Key), one)
			all = append(all, c)
			return errors.Join(err, engine.Late(ctx))
		})
	})
	return all, err
}

// readContainer reads the bucket of a container.
func readContainer(db *bolt.DB, space string, one bolt.Pair) (c stored, err error) {
	bucket, err := one.Bucket()
	if err != nil {
		return c, err
	}
	values, err := db.Values(bucket)
	if err != nil {
		return c, err
	}
	_ = c.created.UnmarshalBinary(values["createdat"]) // without it the oldest
	labels := map[string][]byte{}
	if l, ok, ferr := db.FindIn(bucket, "labels"); ferr != nil {
		err = ferr
	} else if ok {
		labels, err = db.Values(l)
	}
	c.Container = ofLabels(space, string(one.Key), labels)
	return c, err
}

// ofLabels is a container that does not run, by what is written on it.
func ofLabels(space, id string, labels map[string][]byte) engine.Container {
	text := func(key string) string { return string(labels[key]) }
	c := engine.Container{
		Engine: "containerd", Name: space + "/" + id, ID: id, State: engine.Stopped, Via: via(space),
		StopSignal: engine.SignalName(text("io.containerd.image.config.stop-signal")),
	}
	if text("containerd.io/restart.status") == "running" {
		if c.Restart = text("containerd.io/restart.policy"); c.Restart == "" {
			c.Restart = "always"
		}
	}
	name := text("io.kubernetes.container.name")
	if text("io.cri-containerd.kind") == "sandbox" {
		name = engine.Sandbox
	}
	if pod := joinPod(text("io.kubernetes.pod.namespace"), text("io.kubernetes.pod.name"), name); pod != "" {
		c.Name, c.Pod = pod, true
	}
	return c
}
