// SPDX-License-Identifier: Apache-2.0

package power

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/outband/outband/engine"
	"github.com/outband/outband/internal/safetext"
)

// ErrNoWay is an action that a container's engine has no command for.
var ErrNoWay = errors.New("its engine has no command for that")

// Command is how an engine's own command carries out an action. Nothing here
// executes it.
type Command struct {
	Args []string // Args[0] is a name to look up, never a path
	// User is whose engine it is, by name or number: it has to be executed as that
	// user, in whose home its state is. "" for the caller's own.
	User string
	// Async tells that it returns when the container was told: what comes of that
	// takes the init's own time.
	Async bool
}

// ways are the commands of engines for actions. Of their words {id} and {name}
// are the container's, the latter without a project's, {via} stands for what leads to it, and a word with {grace}
// is left out where nobody said how long. Names come behind "--" or "=": they are
// never taken for flags (A22, docs/threat-model.md).
func ways() map[string]map[Action]string {
	docker := func(program string) map[Action]string {
		off := program + " {via} stop -t={grace} -- {id}"
		return map[Action]string{
			On: program + " {via} start -- {id}", Off: off, Halt: off,
			Reboot: program + " {via} restart -t={grace} -- {id}",
			Kill:   program + " {via} kill -- {id}",
			Pause:  program + " {via} pause -- {id}", Resume: program + " {via} unpause -- {id}",
		}
	}
	incus := func(program, resume string) map[Action]string {
		off := program + " {via} stop --timeout={grace} -- {name}"
		return map[Action]string{
			On: program + " {via} start -- {name}", Off: off, Halt: off,
			Reboot: program + " {via} restart --timeout={grace} -- {name}",
			Kill:   program + " {via} stop --force -- {name}",
			Pause:  program + " {via} pause -- {name}", Resume: program + " {via} " + resume + " -- {name}",
		}
	}
	oci := func(program string) map[Action]string {
		return map[Action]string{
			Kill:  program + " {via} kill -- {id} KILL",
			Pause: program + " {via} pause -- {id}", Resume: program + " {via} resume -- {id}",
		}
	}
	lxc := "lxc-stop {via} --name={name} --timeout={grace}"
	return map[string]map[Action]string{
		"docker": docker("docker"), "podman": docker("podman"),
		"incus": incus("incus", "resume"), "lxd": incus("lxc", "start"),
		"runc": oci("runc"), "crun": oci("crun"), "youki": oci("youki"),
		"lxc": {
			On: "lxc-start {via} --name={name}", Off: lxc, Halt: lxc, Reboot: lxc + " --reboot",
			Kill:  "lxc-stop {via} --name={name} --kill",
			Pause: "lxc-freeze {via} --name={name}", Resume: "lxc-unfreeze {via} --name={name}",
		},
		"nspawn": {
			On: "machinectl start -- {name}", Off: "machinectl poweroff -- {name}", Halt: "machinectl poweroff -- {name}",
			Reboot: "machinectl reboot -- {name}", Kill: "machinectl terminate -- {name}",
		},
		"containerd": {
			Kill:  "ctr {via} tasks kill -s=SIGKILL -- {id}",
			Pause: "ctr {via} tasks pause -- {id}", Resume: "ctr {via} tasks resume -- {id}",
		},
	}
}

// Through returns the command by which a container's engine carries out an
// action itself, so that it knows that it was asked for; ErrNoWay where it has
// none. Grace is how long the init is given before it is killed, in whole
// seconds; 0 leaves that to the engine.
func Through(c *engine.Container, a Action, grace time.Duration) (Command, error) {
	words, ok := ways()[c.Engine][a]
	if c.Unmanaged {
		return Command{}, fmt.Errorf("%w: %s is not registered with systemd-machined", ErrNoWay, safetext.Escape(c.FullName()))
	}
	if !ok || c.Pod {
		return Command{}, fmt.Errorf("%w: %s of %s", ErrNoWay, a, safetext.Escape(c.FullName()))
	}
	cmd := Command{User: c.User, Async: strings.HasPrefix(words, "machinectl ")}
	for word := range strings.FieldsSeq(words) {
		switch {
		case word == "{via}":
			cmd.Args = append(cmd.Args, c.Via...)
			continue
		case grace <= 0 && strings.Contains(word, "{grace}"):
			continue
		}
		seconds := strconv.Itoa(int((grace + time.Second - 1) / time.Second))
		cmd.Args = append(cmd.Args, strings.NewReplacer("{id}", c.ID, "{name}", path.Base(c.Name), "{grace}", seconds).Replace(word))
	}
	return cmd, nil
}
