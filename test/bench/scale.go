// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

//go:embed scale.c
var scaleSource []byte

// treeName is the contestant that all others of its contest are compared with.
const treeName = "outband tree"

// treeContest compares a listing of all processes with what else lists
// namespaces, on a machine with many of them. They are made anew for each turn's
// contest and are gone after it.
func (l *lab) treeContest(ctx context.Context, s scale) *contest {
	program := l.compileScale(ctx)
	if program == "" {
		return nil
	}
	loop := "C loop on two threads"
	c := &contest{title: "Tree", rounds: s.trees, field: []contestant{
		command(treeName, []string{l.outband, "--run-dir", l.state, "tree", "-o", "json"}),
		{loop, "test/bench/scale.c: status, ns/pid and cmdline of all processes", command(loop, []string{program, "read"}).turn},
	}, claims: []claim{{of: treeName, to: loop, bar: 1.4, goal: 1}}}
	if lsns, err := exec.LookPath("lsns"); err == nil {
		c.field = append(c.field, command("lsns -t pid", []string{lsns, "-t", "pid"}), command("lsns", []string{lsns}))
		c.claims = append(c.claims, claim{of: treeName, to: "lsns -t pid", bar: 0.5}, claim{of: treeName, to: "lsns", bar: 0.125})
	} else {
		l.missing("There is no lsns (util-linux): no comparison of the tree with it.")
	}
	c.before = func() (func() error, error) { return l.holdSpaces(program, s.spaces, 1) }
	return c
}

// compileScale returns the C program, or "" where there is no C compiler.
func (l *lab) compileScale(ctx context.Context) string {
	cc, err := exec.LookPath("cc")
	if err != nil {
		l.missing("There is no C compiler (cc): no comparison of the tree.")
		return ""
	}
	source, program := filepath.Join(l.dir, "scale.c"), filepath.Join(l.dir, "scale")
	err = os.WriteFile(source, scaleSource, 0o644)
	if err == nil {
		err = output(exec.CommandContext(ctx, cc, "-O2", "-pthread", "-o", program, source))
	}
	if err != nil {
		l.missing("The C loop did not compile: %v", err)
		return ""
	}
	return program
}

// holdSpaces makes pid namespaces, in a cgroup that bounds how many processes
// come of it.
func (l *lab) holdSpaces(program string, count, each int) (release func() error, err error) {
	dir, err := fence((1+each)*count + 10)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, "hold", strconv.Itoa(count), strconv.Itoa(each), filepath.Join(dir, "cgroup.procs"))
	in, err := cmd.StdinPipe()
	out, oerr := cmd.StdoutPipe()
	if err = errors.Join(err, oerr); err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(dir))
	}
	release = func() error {
		in.Close()
		return errors.Join(cmd.Wait(), removeFence(dir))
	}
	_, err = bufio.NewReader(out).ReadByte()
	if err == nil {
		err = filled(dir, 1+(1+each)*count)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make %d pid namespaces: %w", count, err), release())
	}
	return release, nil
}

// filled waits until a fence has so many processes.
func filled(dir string, want int) error {
	now := ""
	for end := time.Now().Add(turnTimeout); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		text, err := os.ReadFile(filepath.Join(dir, "pids.current"))
		if now = strings.TrimSpace(string(text)); err != nil || now == strconv.Itoa(want) {
			return err
		}
	}
	return fmt.Errorf("there are %s processes instead of %d", now, want)
}

// fence makes a cgroup with a limit of processes: in the hierarchy of version 1
// that has the controller, else in that of version 2.
func fence(limit int) (string, error) {
	var failed error
	for _, root := range []string{"/sys/fs/cgroup/pids", "/sys/fs/cgroup"} {
		if _, err := os.Stat(filepath.Join(root, "cgroup.procs")); err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		dir, err := os.MkdirTemp(root, "test-outband-bench-")
		if err == nil {
			if err = os.WriteFile(filepath.Join(dir, "pids.max"), []byte(strconv.Itoa(limit)), 0); err == nil {
				return dir, nil
			}
			err = errors.Join(err, os.Remove(dir))
		}
		failed = errors.Join(failed, err)
	}
	return "", fmt.Errorf("bound the number of processes: %w", failed)
}

// removeFence waits until what died has left it.
func removeFence(dir string) error {
	for end := time.Now().Add(turnTimeout); ; time.Sleep(10 * time.Millisecond) {
		err := os.Remove(dir)
		if err == nil || errors.Is(err, fs.ErrNotExist) || time.Now().After(end) {
			return err
		}
	}
}
