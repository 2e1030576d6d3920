// SPDX-License-Identifier: Apache-2.0

// Package engine finds containers: it turns the name by which an administrator
// knows one into its first process, held.
//
// Names come from kernel facts and from state that belongs to root or to the
// caller, never from what a process inside can write (A20,
// docs/threat-model.md).
package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/safetext"
)

// Errors of Resolve.
var (
	ErrNotFound      = errors.New("no such container")
	ErrAmbiguous     = errors.New("more than one container")
	ErrInvalid       = errors.New("not the name of a container")
	ErrNotDescendant = errors.New("not in a pid namespace below one's own")
)

// maxName is the longest name that is looked up, bytes.
const maxName = 255

// A finder looks up what stands behind the prefix of a name.
type finder func(ctx context.Context, proc *procfs.FS, rest, runDir string) (*procfs.Process, error)

// finders are the kinds of names that have a prefix. A name without one is
// looked up among the containers that are known by name.
func finders() map[string]finder {
	return map[string]finder{"pid": byPID, "pidns": byPIDNamespace, "cgroup": byCgroup, "demo": byDemo}
}

// Resolve finds the container called name:
//
//	1234, pid:1234       the container in which this process is
//	pidns:4026532181     the pid namespace with this inode number
//	cgroup:/path         the container whose processes are in this cgroup
//	/proc/1234/ns/pid    a file that refers to a namespace
//	demo                 a container that "outband demo" shows
//	web, 3f2a9c          what an engine calls it: its name, its id's beginning
//	docker:web           the same for one engine
//	podman@user:web      a container of another user's engine
//	pod:ns/pod/name      a container in a pod; pod:ns/pod where that is clear
//
// Only the last four ask engines, which are those given. runDir is where Outband
// keeps its own state. The process returned is the caller's to close.
func Resolve(ctx context.Context, proc *procfs.FS, name, runDir string, engines ...Engine) (*procfs.Process, error) {
	if err := check(name); err != nil {
		return nil, err
	}
	if strings.HasPrefix(name, "/") {
		return byFile(ctx, proc, name)
	}
	if allDigits(name) {
		p, err := byPID(ctx, proc, name, runDir)
		if errors.Is(err, ErrNotFound) {
			err = called(ctx, proc, engines, name, err)
		}
		return p, err
	}
	if prefix, rest, ok := strings.Cut(name, ":"); ok {
		if find, known := finders()[prefix]; known {
			return find(ctx, proc, rest, runDir)
		}
		engines = ByPrefix(engines, prefix)
		if len(engines) == 0 {
			return nil, fmt.Errorf("%w: %s: there is no engine called %q", ErrInvalid, safetext.Escape(name), prefix)
		}
		return byName(ctx, proc, engines, prefix, rest)
	}
	if p, err := byDemo(ctx, proc, name, runDir); !errors.Is(err, ErrNotFound) {
		return p, err
	}
	return byName(ctx, proc, engines, "", name)
}

// check refuses names that cannot be any container's.
//
// A22 (docs/threat-model.md): a name is never taken for an option, a path or
// several words further on.
func check(name string) error {
	bad := ""
	switch {
	case name == "":
		bad = "it is empty"
	case len(name) > maxName && !strings.HasPrefix(name, "/"):
		bad = fmt.Sprintf("it is longer than %d bytes", maxName)
	case strings.HasPrefix(name, "-"):
		bad = "it starts with a dash"
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' }):
		bad = "it contains control characters"
	case strings.Contains(name, ":") || strings.HasPrefix(name, "/"):
	case strings.ContainsAny(name, " \\$`\"'();&|<>*?~!{}[]=,"):
		bad = "it contains what no name has"
	case slices.ContainsFunc(strings.Split(name, "/"), func(part string) bool { return part == "" || part == "." || part == ".." }):
		bad = "a path starts with a slash" // namespace/name is what containerd's are called
	}
	if bad == "" {
		return nil
	}
	if len(name) > 64 {
		name = name[:64] + "…"
	}
	return fmt.Errorf("%w: %q: %s", ErrInvalid, name, bad)
}

func allDigits(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
}

// notFound says that there is nothing called name.
func notFound(kind, name string) error {
	return fmt.Errorf("%w: %s %s", ErrNotFound, kind, safetext.Escape(name))
}

// gone maps a process that ended between two looks: then there is no such file,
// or its file that is open already reads ESRCH.
func gone(err error, kind, name string) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return notFound(kind, name)
	}
	return err
}
