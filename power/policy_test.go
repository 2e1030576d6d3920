// SPDX-License-Identifier: Apache-2.0

package power

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/outband/outband"
	"github.com/outband/outband/engine"
)

// TestLasts has a row for each thing that was seen of an engine: what its
// container becomes when the init dies of SIGINT (off) or SIGHUP (reboot), as
// reboot(2) has it die in a pid namespace.
func TestLasts(t *testing.T) {
	const stays, undone = true, false
	for _, row := range []struct {
		about       string
		c           engine.Container
		off, reboot bool
		why         string // a part of the refusal
	}{
		{"docker without a policy stays exited 130, and exited 129", engine.Container{Engine: "docker", Restart: "no"}, stays, undone, "docker does not start it again (restart policy no)"},
		{"docker whose policy is not known", engine.Container{Engine: "docker"}, stays, undone, "docker does not start it again"},
		{"docker starts it again after 129 and 130", engine.Container{Engine: "docker", Restart: "always"}, undone, stays, "docker starts it again whenever it ends (restart policy always)"},
		{"docker was not asked to stop it", engine.Container{Engine: "docker", Restart: "unless-stopped"}, undone, stays, "restart policy unless-stopped"},
		{"docker takes 130 for a failure, an asked systemd ends with 0", engine.Container{Engine: "docker", Restart: "on-failure"}, undone, undone, "ends"},
		{"docker counts", engine.Container{Engine: "docker", Restart: "on-failure:3"}, undone, undone, "restart policy on-failure:3"},
		{"podman without a policy stays exited 129", engine.Container{Engine: "podman", Restart: "no"}, stays, undone, "podman does not"},
		{"podman starts it again after 129", engine.Container{Engine: "podman", User: "lab", Restart: "always"}, undone, stays, "podman starts"},
		{"LXC reboots, and is stopped after 130", engine.Container{Engine: "lxc", Reboots: true}, stays, stays, ""},
		{"Incus is LXC below", engine.Container{Engine: "incus", Reboots: true}, stays, stays, ""},
		{"systemd-nspawn in its unit starts again for 133", engine.Container{Engine: "nspawn", Reboots: true}, stays, stays, ""},
		{"systemd-nspawn --keep-unit exits 133 and is gone", engine.Container{Engine: "nspawn"}, stays, undone, "nspawn does not"},
		{"containerd has it STOPPED", engine.Container{Engine: "containerd"}, stays, undone, "containerd does not"},
		{"runc run exits 129", engine.Container{Engine: "runc"}, stays, undone, "runc does not"},
		{"crun has it stopped", engine.Container{Engine: "crun"}, stays, undone, "crun does not"},
		{"unshare dies of SIGHUP itself", engine.Container{Engine: engine.Bare}, stays, undone, "nobody is known"},
		{"a pod whose policy is not known", engine.Container{Engine: "containerd", Pod: true}, undone, undone, "who runs the pod may"},
		{"a pod", engine.Container{Engine: "containerd", Pod: true, Restart: "Always"}, undone, stays, "restart policy Always"},
		{"a job", engine.Container{Engine: "containerd", Pod: true, Restart: "Never"}, stays, undone, "restart policy Never"},
		{"a policy of tomorrow", engine.Container{Engine: "docker", Restart: "on-moon"}, undone, undone, "docker may start it again or not"},
	} {
		for a, lasts := range map[Action]bool{
			Off: row.off, Halt: row.off, Kill: row.off, Reboot: row.reboot, Pause: stays, Resume: stays, On: stays,
		} {
			err := Lasts(&row.c, a)
			switch {
			case lasts != (err == nil):
				t.Errorf("%s: %s: %v", row.about, a, err)
			case err != nil && !errors.Is(err, ErrDefeated):
				t.Errorf("%s: %s: %v is not ErrDefeated", row.about, a, err)
			case err != nil && !strings.Contains(err.Error(), row.why):
				t.Errorf("%s: %s: %v, without %q", row.about, a, err, row.why)
			case err != nil && !strings.Contains(outband.Hint(err), "--anyway"):
				t.Errorf("%s: %s: the hint is %q", row.about, a, outband.Hint(err))
			}
		}
	}
}

// TestLooks: what its engine will start again is waited for, and that may take it
// a moment; for what nobody is known to start, one look is enough. An engine that
// was busy took more than a second.
func TestLooks(t *testing.T) {
	docker := func(restart string) *engine.Container { return &engine.Container{Engine: "docker", Restart: restart} }
	for _, row := range []struct {
		about      string
		c          *engine.Container
		exit       string // of the init
		off, after time.Duration
	}{
		{"no engine is known", nil, "SIGINT", lookOff, lookReboot},
		{"nobody supervises it", &engine.Container{Engine: engine.Bare}, "SIGINT", lookOff, lookOff},
		{"no policy", docker("no"), "SIGINT", lookOff, lookOff},
		{"always", docker("always"), "exit 0", lookReboot, lookReboot},
		{"on failure", docker("on-failure"), "SIGINT", lookReboot, lookReboot},
		{"on failure, how it ended is not known", docker("on-failure"), "SIGKILL or reboot(2)", lookReboot, lookReboot},
		{"on failure, which it was not", docker("on-failure"), "exit 0", lookOff, lookOff},
		{"LXC reboots", &engine.Container{Engine: "lxc", Reboots: true}, "SIGINT", lookOff, lookReboot},
		{"a pod whose policy is not known", &engine.Container{Engine: "containerd", Pod: true}, "SIGINT", lookReboot, lookReboot},
	} {
		for a, want := range map[Action]time.Duration{Off: row.off, Halt: row.off, Kill: row.off, Reboot: row.after} {
			p := &puppet{obeys: "SIGKILL", exits: row.exit}
			s := &Switch{box: p, o: Options{Container: row.c}}
			if row.c != nil && want == lookReboot {
				want = DefaultGrace
			}
			if _, err := s.verify(t.Context(), a, end{}, time.Now()); err != nil || p.looked != want {
				t.Errorf("%s: %s, ended with %q: looked for %v, %v, want %v", row.about, a, row.exit, p.looked, err, want)
			}
		}
	}
}

// TestDefeatedHint: both ways out are named, the engine's with its command as a
// person would type it.
func TestDefeatedHint(t *testing.T) {
	id := strings.Repeat("ab", 32)
	for _, row := range []struct {
		c    engine.Container
		a    Action
		want string
	}{
		{engine.Container{Engine: "docker", Name: "web", ID: id, Restart: "always"}, Off,
			"--through-engine has the engine do it (docker stop -- web); --anyway goes on all the same"},
		{engine.Container{Engine: "docker", Name: "web", ID: id}, Reboot,
			"--through-engine has the engine do it (docker restart -- web); --anyway goes on all the same"},
		{engine.Container{Engine: "runc", Name: "web", ID: "web"}, Reboot, "to go on all the same, say so: --anyway"},
	} {
		err := Lasts(&row.c, row.a)
		if got := outband.Hint(err); got != row.want {
			t.Errorf("%s %s: %q, want %q", row.a, row.c.Engine, got, row.want)
		}
	}
}

// A22: the way out is a command line to be copied, and a name one word of it.
func TestDefeatedHintWords(t *testing.T) {
	e := &DefeatedError{Way: []string{"docker", "stop", "x; id #"}}
	if want := "(docker stop 'x; id #')"; !strings.Contains(e.Hint(), want) {
		t.Errorf("%q lacks %q", e.Hint(), want)
	}
}
