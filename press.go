// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/forkexec"
	"github.com/outband/outband/ns"
)

// A Button is a command of reboot(2), by its name there.
type Button string

// The buttons. What supervises a container sees its init end by SIGHUP upon
// Restart, by SIGINT upon the others.
const (
	Restart  Button = "RB_AUTOBOOT"
	PowerOff Button = "RB_POWER_OFF"
	HaltIt   Button = "RB_HALT_SYSTEM"
)

var buttons = map[Button]int{
	Restart: unix.LINUX_REBOOT_CMD_RESTART, PowerOff: unix.LINUX_REBOOT_CMD_POWER_OFF, HaltIt: unix.LINUX_REBOOT_CMD_HALT,
}

// pressTimeout is how long a press may take. It waits for nothing of the target's.
const pressTimeout = 5 * time.Second

// Powered returns nil where the target is one that can be switched off: its init
// is the first process of a pid namespace that is neither the caller's nor the
// initial one, and all that is in it is the target's.
//
// A32 (docs/threat-model.md): with the host's pid namespace the same calls end
// the host.
func (t *Target) Powered() error {
	own, err := t.here()
	if err != nil {
		return err
	}
	space, numbers := t.namespaces[ns.PID], t.status.NSpid
	switch {
	case space == own.own[ns.PID] || space == ns.Initial || len(numbers) < 2:
		return withHint(fmt.Errorf("%w: process %d is in the caller's pid namespace: whatever ends that ends the host", ErrOwnNamespace, t.init.PID),
			"it has no power of its own to switch; its engine can stop it")
	case numbers[len(numbers)-1] != 1:
		return withHint(fmt.Errorf("%w: process %d is number %d of its pid namespace: that is another container's", ErrNotSupported, t.init.PID, numbers[len(numbers)-1]),
			"its engine can stop it; or name the container whose pid namespace it uses")
	}
	return nil
}

// Press calls reboot(2) from within the target's pid namespace, upon which the
// kernel ends its init and so all that is in it (3.4). It returns when that has
// been called; the init may take its time. The target need not have CAP_SYS_BOOT,
// the caller has to have it over the target's pid namespace.
//
// Errors: those of Powered, ErrGone, ErrDeadline, fs.ErrPermission.
func (t *Target) Press(ctx context.Context, b Button) error {
	command, ok := buttons[b]
	if !ok {
		return fmt.Errorf("%w: there is no button %q", ErrInvalid, string(b))
	}
	if err := t.Powered(); err != nil {
		return err
	}
	space, err := ns.OpenOf(t.init.Dir.File(), ns.PID)
	if err != nil {
		return t.readError("pid namespace", err)
	}
	defer space.Close()
	pressing := forkexec.Pressing{PIDNS: space.File, Inode: uint64(t.namespaces[ns.PID]), Proc: t.fs.File(), Command: command,
		Deadline: time.Now().Add(pressTimeout)}
	owner, err := space.Owner()
	if err != nil {
		return fmt.Errorf("find who owns its pid namespace: %w", err)
	}
	defer owner.Close()
	own, err := t.here()
	if err != nil {
		return err
	}
	if id, err := owner.ID(); err != nil {
		return err
	} else if id != own.own[ns.User] {
		pressing.UserNS = owner.File
	}
	// A19: while it lives, what was opened is its own.
	if err := t.Alive(); err != nil {
		return err
	}
	return t.pressError(ctx, forkexec.Press(ctx, &pressing))
}

// pressError gives an error of a press this package's meaning.
func (t *Target) pressError(ctx context.Context, err error) error {
	var step *forkexec.Error
	switch {
	case err == nil, ctx.Err() != nil:
		return err
	case errors.Is(err, unix.ENOMEM) && t.dying(), t.Alive() != nil:
		return ErrGone
	case errors.Is(err, forkexec.ErrDeadline):
		return fmt.Errorf("%w: call reboot inside", ErrDeadline)
	case errors.As(err, &step):
		return &StepError{step.Step.String(), step.Err}
	}
	return err
}
