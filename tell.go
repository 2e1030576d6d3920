// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/forkexec"
	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/safetext"
	"github.com/outband/outband/ns"
)

const (
	// tellTimeout is how long a target's file system may take until its init is told.
	tellTimeout = 2 * time.Second
	// maxHeld is how many descriptors of an init are looked at.
	maxHeld = 1024
	// maxElsewhere is how many files outside are compared.
	maxElsewhere = 256
)

// WriteFIFO writes a record into a FIFO of the target by which its init is told
// something: for the packages of this module that stand on this one. The record
// is written as a whole, at once, or not at all.
//
// A32 (docs/threat-model.md): it is written only into a FIFO that the init itself
// holds open, and nobody outside the container, with no more rights to it than the
// init has: what is at the path may be the host's, and an init opens what it finds.
//
// Errors: ErrNotSupported where it is no such FIFO, ErrDeadline where the file
// system does not answer, ErrGone, fs.ErrPermission.
func (t *Target) WriteFIFO(ctx context.Context, name, record string) error {
	held, err := holds(t.init.Dir, path.Base(name))
	if err != nil {
		return t.readError("descriptors", err)
	}
	others, err := t.elsewhere(ctx, path.Base(name))
	if err != nil {
		return err
	}
	return t.tell(ctx, name, &forkexec.Telling{FIFO: name, Held: held, Others: others, Record: record})
}

// SetModes sets the modes of regular files of the target that its init looks at,
// in order, until one cannot be set; see WriteFIFO. One that is to have none may
// be missing.
func (t *Target) SetModes(ctx context.Context, modes ...forkexec.Mode) error {
	for _, m := range modes { // one by one, so that an error has its name
		if err := t.tell(ctx, m.Path, &forkexec.Telling{Modes: []forkexec.Mode{m}}); err != nil {
			return err
		}
	}
	return nil
}

// holds are a process's descriptors of files with that name.
func holds(dir *procfs.Dir, name string) (held []int, err error) {
	fds, err := dir.Descriptors(maxHeld)
	if err != nil {
		return nil, err
	}
	for _, fd := range fds {
		if to, err := dir.Readlink("fd/" + strconv.Itoa(fd)); err == nil && path.Base(to) == name {
			held = append(held, fd)
		}
	}
	return held, nil
}

// elsewhere are the open files with that name of processes outside the target's
// pid namespace, as far as the caller may see them.
func (t *Target) elsewhere(ctx context.Context, name string) (files []string, err error) {
	tasks, err := t.fs.Outline(ctx)
	if err != nil {
		return nil, err
	}
	for _, task := range tasks {
		if ns.ID(task.PIDNS) == t.namespaces[ns.PID] {
			continue
		}
		dir, err := t.fs.Process(task.PID)
		if err != nil {
			continue // gone
		}
		fds, _ := holds(dir, name)
		dir.Close()
		for _, fd := range fds {
			files = append(files, fmt.Sprintf("%d/fd/%d", task.PID, fd))
		}
	}
	if len(files) > maxElsewhere {
		return nil, fmt.Errorf("%w: %d files called %s are held open outside of it", ErrNotSupported, len(files), safetext.Escape(name))
	}
	return files, nil
}

// tell has the init told about the file called name.
//
// A13: it is done by a process of its own, as with ReadFiles.
func (t *Target) tell(ctx context.Context, name string, what *forkexec.Telling) error {
	notResponding := fmt.Errorf("%w: write to its %s: filesystem not responding", ErrDeadline, name)
	if t.abandoned.Load() >= maxAbandoned {
		return notResponding
	}
	root, err := t.init.Dir.OpenLink("root")
	if err != nil {
		return t.readError("root directory", err)
	}
	defer root.Close()
	what.Root, what.Proc, what.Init = root, t.fs.File(), t.init.Dir.File()
	what.UID, what.GID = t.status.UID[fsID], t.status.GID[fsID]
	what.Deadline = time.Now().Add(tellTimeout)
	err = forkexec.Tell(ctx, what)
	if errors.Is(err, forkexec.ErrAbandoned) {
		t.abandoned.Add(1)
	}
	switch {
	case err == nil:
		return nil
	case t.Alive() != nil:
		return ErrGone
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, forkexec.ErrDeadline):
		return notResponding
	}
	return tellError(name, err)
}

// fsID is the place of the ids for the file system among a process's four.
const fsID = 3

// tellError says why an init was not told.
func tellError(name string, err error) error {
	for _, c := range []struct {
		errno unix.Errno
		why   string
	}{
		{forkexec.ErrNoFIFO, "is not what the init looks at: no FIFO that is read, or no regular file"},
		{forkexec.ErrNotHeld, "is no FIFO that the init holds open"},
		{forkexec.ErrElsewhere, "is held open outside of it as well: it may be the host's"},
		{forkexec.ErrMounted, "is mounted there on its own, perhaps from the host"},
		{unix.ENOENT, "is not there"}, {unix.ENOTDIR, "is not there"}, {unix.ELOOP, "is a link that leads nowhere"},
		{unix.EAGAIN, "is full: the init does not read it"},
	} {
		if errors.Is(err, c.errno) {
			return fmt.Errorf("%w: its %s %s", ErrNotSupported, name, c.why)
		}
	}
	return fmt.Errorf("write to its %s: %w", name, err)
}
