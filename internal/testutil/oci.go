// SPDX-License-Identifier: Apache-2.0

package testutil

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// ociTimeout bounds each call of a runtime.
const ociTimeout = 20 * time.Second

// hideArg is the argument by which Main knows hideMain's job.
const hideArg = "__hide-cgroup2"

// unified is where cgroup2 is mounted beside v1 hierarchies.
const unified = "/sys/fs/cgroup/unified"

// OCI is a running container of an OCI runtime.
type OCI struct {
	// ID names it; it is also the last part of its cgroup's path.
	ID string
	// Root is the runtime's --root, which holds nothing else.
	Root string
	// Bundle is the directory of config.json, Rootfs its root file system.
	Bundle, Rootfs string
	// Pid is init's number. Init is reaped only by the cleanup.
	Pid int

	runtime string
	command []string // how the runtime is called, with its global flags
}

// Config is a bundle's config.json.
type Config map[string]any

// Set replaces a value by its path, as in "process.args". What is missing on
// the way is made.
func (c Config) Set(path string, value any) {
	keys := strings.Split(path, ".")
	node := map[string]any(c)
	for _, key := range keys[:len(keys)-1] {
		next, ok := node[key].(map[string]any)
		if !ok {
			next = map[string]any{}
			node[key] = next
		}
		node = next
	}
	node[keys[len(keys)-1]] = value
}

// RunC starts a busybox container under runc. Its init is `cat`, whose standard
// input ends with the test process, so that not even a killed test leaves one
// running. Edits change the configuration that `runc spec` proposes.
func RunC(t testing.TB, edits ...func(Config)) *OCI {
	t.Helper()
	path := RequireCommand(t, "runc", "runc")
	return runOCI(t, path, []string{path}, edits)
}

// Crun is RunC with crun. crun does not do cgroup2 beside v1 with controllers
// in both, so where there is that, it is run in a mount namespace of its own
// that hides cgroup2.
func Crun(t testing.TB, edits ...func(Config)) *OCI {
	t.Helper()
	path := RequireCommand(t, "crun", "crun")
	command := []string{path}
	if _, err := os.Stat(unified); err == nil {
		command = []string{"/proc/self/exe", hideArg, path}
	}
	return runOCI(t, path, command, edits)
}

// hideMain covers cgroup2 and executes the rest of args. The caller has given
// it a mount namespace whose mounts are private.
func hideMain(args []string) {
	if len(args) < 3 || args[1] != hideArg {
		return
	}
	err := unix.Mount("tmpfs", unified, "tmpfs", 0, "size=4k")
	if err == nil {
		err = syscall.Exec(args[2], args[2:], os.Environ())
	}
	fmt.Fprintln(os.Stderr, "hide cgroup2:", err)
	os.Exit(1)
}

func runOCI(t testing.TB, runtime string, command []string, edits []func(Config)) *OCI {
	t.Helper()
	RequireRoot(t)
	c := &OCI{Rootfs: BusyboxRoot(t), Bundle: openDir(t), Root: openDir(t), runtime: runtime}
	c.ID = groupPrefix + strconv.Itoa(os.Getpid()) + "-" + strings.TrimPrefix(filepath.Base(c.Bundle), dirPrefix)
	c.command = append(command, "--root", c.Root)
	if err := c.configure(edits); err != nil {
		t.Fatal(err)
	}
	// The write end lives as long as the test, and no child inherits it.
	stdin, hold, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	t.Cleanup(func() { hold.Close() })
	t.Cleanup(func() {
		if err := c.remove(); err != nil {
			t.Error(err)
		}
	})
	pidFile := filepath.Join(c.Bundle, "pid")
	err = c.run(stdin, "run", "-d", "--pid-file", pidFile, "--bundle", c.Bundle, c.ID)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(pidFile)
	if err == nil {
		c.Pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
	}
	if err != nil {
		t.Fatal(err)
	}
	if !waitFor(settleTime, c.executed) {
		t.Fatalf("the init of %s was not executed in time", c.ID)
	}
	return c
}

// executed tells whether init is what it shall be. runc returns before that,
// while init is called runc:[2:INIT].
func (c *OCI) executed() bool {
	comm, err := os.ReadFile("/proc/" + strconv.Itoa(c.Pid) + "/comm")
	return err == nil && !strings.HasPrefix(string(comm), filepath.Base(c.runtime))
}

// configure writes config.json.
func (c *OCI) configure(edits []func(Config)) error {
	if err := c.run(nil, "spec"); err != nil {
		return err
	}
	file := filepath.Join(c.Bundle, "config.json")
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var config Config
	if err := json.Unmarshal(data, &config); err != nil {
		return err
	}
	// With a terminal, -d would need a socket to send its other end to.
	config.Set("process.terminal", false)
	config.Set("process.args", []string{"cat"})
	config.Set("root.path", c.Rootfs)
	config.Set("linux.cgroupsPath", "/"+c.ID)
	for _, edit := range edits {
		edit(config)
	}
	if data, err = json.Marshal(config); err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o644)
}

// run calls the runtime. What it and the container print goes to a file: a
// container that holds a pipe would keep the call from ending.
func (c *OCI) run(stdin *os.File, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), ociTimeout)
	defer cancel()
	log, err := os.OpenFile(filepath.Join(c.Bundle, "log"), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	args = append(append([]string(nil), c.command[1:]...), args...)
	cmd := exec.CommandContext(ctx, c.command[0], args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir = c.Bundle // crun's spec has no --bundle before 0.20
	if stdin != nil {
		cmd.Stdin = stdin
	}
	// The mounts of a new namespace are made private by package syscall.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Unshareflags: unix.CLONE_NEWNS}
	if err := cmd.Run(); err != nil {
		said, _ := os.ReadFile(log.Name())
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, said)
	}
	return nil
}

// remove ends the container. Where the test is a subreaper, init is its child
// then, and so is a process that crun leaves.
func (c *OCI) remove() error {
	err := c.run(nil, "delete", "-f", c.ID)
	name := filepath.Base(c.runtime)
	left := func(p child) bool { return p.pid == c.Pid || p.name == name }
	waitFor(settleTime, func() bool {
		for _, p := range children() {
			if left(p) && p.state == "Z" {
				_, _ = unix.Wait4(p.pid, nil, unix.WNOHANG, nil)
			}
		}
		return !slices.ContainsFunc(children(), left)
	})
	return err
}
