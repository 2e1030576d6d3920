// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// hideArg makes this program cover cgroup2 and execute its other arguments.
	hideArg = "__hide-cgroup2"
	// unified is where cgroup2 is mounted beside v1 hierarchies, with which
	// crun 1.8 cannot start a container.
	unified = "/sys/fs/cgroup/unified"
	// ociTimeout bounds each call of a runtime.
	ociTimeout = 20 * time.Second
	// idPrefix starts the containers' names, which are those of their cgroups.
	// They must not look like outband's own sessions, which it sweeps.
	idPrefix = "bench-outband-"
)

// oci is a container of an OCI runtime.
type oci struct {
	runtime, dir, root, id string
	pid                    int
	stdin                  *os.File // init reads from its other end, and ends with it
}

// start makes the bundle and runs it.
func (c *oci) start(ctx context.Context) error {
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return err
	}
	if err := c.configure(ctx); err != nil {
		return err
	}
	stdin, hold, err := os.Pipe()
	if err != nil {
		return err
	}
	defer stdin.Close()
	c.stdin = hold
	pidFile := filepath.Join(c.dir, "pid")
	if err := c.call(ctx, stdin, "run", "-d", "--pid-file", pidFile, "--bundle", c.dir, c.id); err != nil {
		return err
	}
	text, err := os.ReadFile(pidFile)
	if err != nil {
		return err
	}
	c.pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
	return err
}

// filters are what engines add to `runc spec` for every container, much
// shortened: calls that change the machine are refused.
func filters() map[string]any {
	return map[string]any{
		"defaultAction": "SCMP_ACT_ALLOW",
		"syscalls": []map[string]any{{"action": "SCMP_ACT_ERRNO", "names": []string{
			"acct", "add_key", "bpf", "clock_settime", "delete_module", "finit_module", "init_module", "kexec_file_load", "kexec_load",
			"keyctl", "mbind", "mount", "move_pages", "open_by_handle_at", "perf_event_open", "pivot_root", "quotactl", "reboot",
			"request_key", "setdomainname", "sethostname", "setns", "settimeofday", "swapoff", "swapon", "umount2", "unshare", "userfaultfd",
		}}},
	}
}

// configure writes config.json: what `runc spec` proposes, with filters, and
// another command and root.
func (c *oci) configure(ctx context.Context) error {
	if err := c.call(ctx, nil, "spec", "--bundle", c.dir); err != nil {
		return err
	}
	name := filepath.Join(c.dir, "config.json")
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	var config struct {
		Process map[string]any `json:"process"`
		Root    map[string]any `json:"root"`
		Linux   map[string]any `json:"linux"`
		Version string         `json:"ociVersion"`
		Mounts  any            `json:"mounts"`
	}
	if err := json.Unmarshal(data, &config); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	config.Process["terminal"] = false
	config.Process["args"] = []string{"cat"}
	config.Root["path"] = c.root
	config.Linux["cgroupsPath"] = "/" + c.id
	config.Linux["seccomp"] = filters()
	if data, err = json.Marshal(config); err != nil {
		return err
	}
	return os.WriteFile(name, data, 0o644)
}

// command is a call of the runtime as a user would make it.
func (c *oci) command(args ...string) []string {
	return append([]string{c.runtime, "--root", filepath.Join(c.dir, "state")}, args...)
}

// call calls the runtime to manage the container, crun in a mount namespace
// that hides cgroup2. What it prints goes to a file: a container that holds a
// pipe would keep the call from ending.
func (c *oci) call(ctx context.Context, stdin *os.File, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, ociTimeout)
	defer cancel()
	argv := c.command(args...)
	if _, err := os.Stat(unified); err == nil && filepath.Base(c.runtime) == "crun" {
		argv = append([]string{"/proc/self/exe", hideArg}, argv...)
	}
	log, err := os.OpenFile(filepath.Join(c.dir, "log"), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	if stdin != nil {
		cmd.Stdin = stdin
	}
	// The mounts of a new namespace are made private by package syscall.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Unshareflags: unix.CLONE_NEWNS}
	if err := cmd.Run(); err != nil {
		said, _ := os.ReadFile(log.Name())
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, said)
	}
	return nil
}

// remove ends the container. Nothing may have been started.
func (c *oci) remove() error {
	if c.stdin == nil {
		return nil
	}
	defer c.stdin.Close()
	return c.call(context.Background(), nil, "delete", "-f", c.id)
}

// reapOrphans collects what the runtimes have left to this process, which must
// have no other children: inits, and what crun forks.
func reapOrphans() error {
	for until := time.Now().Add(ociTimeout); time.Now().Before(until); time.Sleep(time.Millisecond) {
		if _, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); errors.Is(err, unix.ECHILD) {
			return nil
		}
	}
	return errors.New("a process of a runtime does not end")
}

// hideMain covers cgroup2 in the mount namespace that it was given, and executes
// args.
func hideMain(args []string) error {
	if err := unix.Mount("tmpfs", unified, "tmpfs", 0, "size=4k"); err != nil {
		return fmt.Errorf("hide cgroup2: %w", err)
	}
	return syscall.Exec(args[0], args, os.Environ())
}
