// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/share"
)

// Engine is a container manager, asked from the outside: its adapter reads what
// the manager has written down. An adapter may do more, see Quiet.
type Engine interface {
	// Name is what names of its containers begin with: "docker".
	Name() string
	// List returns its containers, those that do not run included. What it
	// returns with an error counts too: where ctx ends that is what it has, and
	// ErrDeadline for the rest, see Late and EachPlace.
	List(ctx context.Context, h *Host) ([]Container, error)
}

// A Prefixer is an Engine with other prefixes of names besides its own: "pod".
type Prefixer interface{ Prefixes() []string }

// Error is an engine that could not be asked, or not in time.
type Error struct {
	Engine string
	Op     string
	Err    error
}

func (e *Error) Error() string { return e.Engine + ": " + e.Op + ": " + oneLine{e.Err}.Error() }

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// oneLine is several errors that stand in one line; of equal ones that follow each
// other, one.
//
// A13 (docs/threat-model.md): a user may have as many files as fit that are not well.
// They are not all told, and none is put into words twice.
type oneLine struct{ error }

// maxTold is how many errors are told in one line.
const maxTold = 10

func (e oneLine) Error() string {
	var told []string
	more := 0
	apart(e.error, func(err error) {
		if len(told) == maxTold {
			more++
			return
		}
		if text := strings.ReplaceAll(err.Error(), "\n", "; "); len(told) == 0 || told[len(told)-1] != text {
			told = append(told, text)
		}
	})
	if more > 0 {
		told = append(told, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(told, "; ")
}

// joined is the type of what errors.Join returns.
var joined = reflect.TypeOf(errors.Join(fs.ErrInvalid))

// apart calls each for the errors that were joined.
func apart(err error, each func(error)) {
	if reflect.TypeOf(err) != joined {
		each(err)
		return
	}
	for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
		apart(e, each)
	}
}

func (e oneLine) Unwrap() error { return e.error }

// ErrDeadline is an engine's state that could not be read in time.
var ErrDeadline = errors.New("no answer in time")

const (
	// askTime is how long one engine may take, while there is a CPU to take it, see spend.
	askTime = 300 * time.Millisecond
	// tellTime is the end of it, in which an engine looks at nothing more.
	tellTime = 50 * time.Millisecond
	// readTime is how long all processes may, before any engine is asked.
	readTime = 3 * time.Second
)

// List returns all containers that engines know, those that do not run
// included, in the order of their names. engine/all has the list of engines.
//
// An engine that fails is in the error, of type *Error; what the others have to
// say is returned all the same.
func List(ctx context.Context, engines []Engine) ([]Container, error) {
	proc, err := procfs.Open()
	if err != nil {
		return nil, err
	}
	defer proc.Close()
	return NewHost(proc, nil).List(ctx, engines)
}

// Names returns what List does, in half the time: what containers are called, and
// their first processes, and nothing else of them.
func Names(ctx context.Context, engines []Engine) ([]Container, error) {
	proc, err := procfs.Open()
	if err != nil {
		return nil, err
	}
	defer proc.Close()
	return NewHost(proc, nil).Seek("", "").List(ctx, engines)
}

// List is the function List for a host that is known already.
func (h *Host) List(ctx context.Context, engines []Engine) ([]Container, error) {
	lists, err := h.ask(ctx, engines)
	all := merge(lists)
	share.Each(len(all), func() func(int) { return func(i int) { h.observe(&all[i]) } })
	slices.SortStableFunc(all, compare)
	return all, err
}

// compare sorts bare containers last, and others by name.
func compare(a, b Container) int {
	switch {
	case (a.Engine == Bare) != (b.Engine == Bare):
		if a.Engine == Bare {
			return 1
		}
		return -1
	case a.Engine == Bare:
		return a.Init.PID - b.Init.PID
	case a.Name != b.Name:
		if a.Name < b.Name {
			return -1
		}
		return 1
	}
	return 0
}

// answer is what an engine says, or of one place.
type answer struct {
	at   int
	list []Container
	err  error
}

// ask asks the engines, all at once. One that does not answer in time is left to
// itself: what it waits for may be a file system that is dead (A27,
// docs/threat-model.md). Its answer will be dropped; so it is told to come to an end
// while there is still time to say what it has.
func (h *Host) ask(ctx context.Context, engines []Engine) ([][]Container, error) {
	if !h.narrow() { // engines are not given the time that it takes on a slow machine
		_, _ = h.read(ctx, readTime) // if that fails, it fails for who needs it
	}
	ctx, cancel := patient(ctx, askTime-tellTime)
	defer cancel()
	waits, stop := linger(ctx, tellTime)
	defer stop()
	lists, errs := gather(waits, len(engines), func(i int) ([]Container, error) { return engines[i].List(ctx, h) })
	return lists, h.told(engines, errs)
}

// EachPlace returns what list says of each place, in their order. Root's is asked
// before the users', the caller's own too; then those all at the same time: whatever
// one of them has, and however long that takes, is not the others' loss, nor root's
// (A13, docs/threat-model.md). With a slice of the time for each it would be
// nearly nothing where there are hundreds.
func EachPlace(ctx context.Context, places []Place, list func(Place) ([]Container, error)) ([]Container, error) {
	var all []Container
	var failed error
	var others []Place
	for _, p := range places {
		if p.User != "" {
			others = append(others, p)
			continue
		}
		own, err := list(p)
		all, failed = append(all, own...), errors.Join(failed, err)
	}
	if errors.Is(failed, ErrDeadline) {
		return all, failed
	}
	waits, stop := linger(ctx, tellTime/2)
	defer stop()
	lists, errs := gather(waits, len(others), func(i int) ([]Container, error) { return list(others[i]) })
	for i, err := range errs {
		if errors.Is(err, ErrDeadline) {
			err = fmt.Errorf("%s: %w", others[i].User, oneLine{err})
		}
		all, failed = append(all, lists[i]...), errors.Join(failed, err)
	}
	return all, failed
}

// Late is ErrDeadline once an adapter is to look at nothing more, and to return what
// it has.
func Late(ctx context.Context) error {
	if ctx.Err() != nil {
		return ErrDeadline
	}
	return nil
}

// linger returns a context that ends some time after ctx.
func linger(ctx context.Context, more time.Duration) (context.Context, func()) {
	waits, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { spend(waits, more, usage); cancel() })
	return waits, func() { stop(); cancel() }
}

// gather asks n at once for their containers until ctx ends; then ErrDeadline stands
// for who has not answered.
func gather(ctx context.Context, n int, ask func(i int) ([]Container, error)) ([][]Container, []error) {
	answers := make(chan answer, n)
	lists, errs := make([][]Container, n), make([]error, n)
	for i := range n {
		errs[i] = ErrDeadline
		go func() {
			list, err := ask(i)
			answers <- answer{i, list, err}
		}()
	}
	for range n {
		select {
		case a := <-answers:
			lists[a.at], errs[a.at] = a.list, a.err
		case <-ctx.Done():
			return lists, errs
		}
	}
	return lists, errs
}

// told returns the errors as those of their engines.
func (h *Host) told(engines []Engine, errs []error) error {
	var all []error
	if h.mu.TryLock() { // or somebody is late with it
		if h.incomplete != nil {
			all = append(all, &Error{"host", "list processes", h.incomplete})
		}
		h.mu.Unlock()
	}
	for i, err := range errs {
		if err != nil {
			all = append(all, &Error{engines[i].Name(), "list containers", err})
		}
	}
	return errors.Join(all...)
}

// observe adds what the kernel knows of a container.
func (h *Host) observe(c *Container) {
	if c.Init.PID == 0 {
		return
	}
	t, ok := h.task(c.Init.PID)
	if ok && !h.Brief() {
		c.Supervisor = h.supervisor(t)
	}
	switch {
	case !ok:
	case t.State == 'Z' || t.State == 'X':
		c.State = Zombie
	case t.Exiting:
		c.State = Stopping
	}
}
