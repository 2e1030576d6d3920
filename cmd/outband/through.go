// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/outband/outband/internal/passwd"
	"github.com/outband/outband/internal/safetext"
	"github.com/outband/outband/power"
)

const (
	// enginePath is where commands of engines are looked for, whatever the caller's
	// own PATH is: outband is run with sudo.
	enginePath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin"
	// engineTime is how long an engine's command may take besides the grace that the
	// init is given.
	engineTime = 30 * time.Second
	// engineSays bounds what is kept of what it says, bytes.
	engineSays = 4 << 10
)

// errEngine is a command of an engine's that failed.
var errEngine = errors.New("the engine's own command failed")

// through executes an engine's own command, without a shell and without the
// caller's terminal, and returns what it says. An engine of another user's is
// asked as that user.
func through(ctx context.Context, c power.Command, grace time.Duration) (says string, err error) {
	ctx, cancel := context.WithTimeout(ctx, grace+engineTime)
	defer cancel()
	path, err := lookEngine(c.Args[0])
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, path, c.Args[1:]...)
	cmd.Args[0] = c.Args[0]
	cmd.Dir, cmd.WaitDelay = "/", time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Env = engineEnv(os.Environ())
	if c.User != "" {
		if err := asUser(cmd, c.User); err != nil {
			return "", err
		}
	}
	var out tail
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	says = strings.Join(strings.Fields(string(out.end)), " ")
	switch {
	case ctx.Err() != nil:
		return says, fmt.Errorf("%s: %w", strings.Join(c.Args, " "), ctx.Err())
	case err != nil:
		return says, fmt.Errorf("%w: %s: %w: %s", errEngine, strings.Join(c.Args, " "), err, safetext.Escape(says))
	}
	return says, nil
}

// lookEngine finds a command of an engine's.
func lookEngine(name string) (string, error) {
	for _, dir := range filepath.SplitList(enginePath) {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%w: there is no %s in %s", errEngine, safetext.Escape(name), enginePath)
}

// engineEnv is what an engine's command learns of the caller's environment:
// where its daemon is.
func engineEnv(environ []string) []string {
	env := []string{"PATH=" + enginePath, "LC_ALL=C.UTF-8"}
	for _, e := range environ {
		switch name, _, _ := strings.Cut(e, "="); name {
		case "HOME", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG",
			"CONTAINER_HOST", "CONTAINERD_ADDRESS", "CONTAINERS_CONF", "INCUS_SOCKET", "INCUS_DIR", "LXD_DIR":
			env = append(env, e)
		}
	}
	return env
}

// asUser has a command executed as another user of this machine, with nothing of
// the caller's environment.
func asUser(cmd *exec.Cmd, name string) error {
	table, err := os.ReadFile("/etc/passwd") // the machine's own
	if err != nil {
		return err
	}
	user, ok := passwd.ByName(table, name)
	if uid, number := passwd.ParseID(name); !ok && number {
		user, ok = passwd.ByID(table, uid)
	}
	if !ok {
		return fmt.Errorf("%w: there is no user %s", errEngine, safetext.Escape(name))
	}
	cmd.Env = []string{
		"PATH=" + enginePath, "LC_ALL=C.UTF-8", "HOME=" + user.Home, "USER=" + user.Name, "LOGNAME=" + user.Name,
		"XDG_RUNTIME_DIR=/run/user/" + strconv.FormatUint(uint64(user.UID), 10),
	}
	groups, err := os.ReadFile("/etc/group")
	if err != nil {
		return err
	}
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: user.UID, Gid: user.GID, Groups: passwd.GroupsOf(groups, user.Name)}
	return nil
}

// tail keeps the end of what is written to it.
type tail struct{ end []byte }

func (t *tail) Write(b []byte) (int, error) {
	t.end = append(t.end, b...)
	t.end = t.end[max(0, len(t.end)-engineSays):]
	return len(b), nil
}
