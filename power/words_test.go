// SPDX-License-Identifier: Apache-2.0

package power

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband"
	"github.com/outband/outband/internal/inits"
	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
)

// hold starts a container with a user namespace of its own and takes hold of it.
func hold(t *testing.T, spec throwaway.Spec) (*outband.Target, *throwaway.Container) {
	t.Helper()
	spec.User = true
	c := testutil.Throwaway(t, spec)
	target, err := outband.OpenPidfd(t.Context(), int(c.Pidfd().Fd()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { target.Close() })
	return target, c
}

func names(words []Word) (all []string) {
	for _, w := range words {
		all = append(all, w.How)
	}
	return all
}

// known is an init of a row of the table.
func known(t *testing.T, kind string) Init {
	t.Helper()
	for _, r := range inits.Table() {
		if r.Kind == kind {
			return Init{Kind: kind, row: r}
		}
	}
	t.Fatalf("no row %s", kind)
	return Init{}
}

const term = 1 << (unix.SIGTERM - 1)

// TestWords are the words of inits, and of what is none, in order.
func TestWords(t *testing.T) {
	plain := func(takes uint64) Init { return Init{Kind: Other, row: inits.Row{Kind: Other}, takes: takes} }
	with := func(i Init, stop string, restarts bool) Init {
		i.StopSignal, i.Restarts = stop, restarts
		return i
	}
	for _, c := range []struct {
		what   string
		init   Init
		action Action
		want   string // harder after a stroke
	}{
		{"systemd", known(t, "systemd"), Off, "SIGRTMIN+4 | SIGRTMIN+14"},
		{"systemd", known(t, "systemd"), Reboot, "SIGRTMIN+5 | SIGRTMIN+15"},
		{"systemd", known(t, "systemd"), Halt, "SIGRTMIN+3 | SIGRTMIN+13"},
		{"systemd", known(t, "systemd"), Pause, "|"},
		{"systemd", known(t, "systemd"), Kill, "|"},
		{"systemd of docker", with(known(t, "systemd"), "SIGTERM", true), Reboot, "SIGRTMIN+5 | SIGRTMIN+15"},
		{"openrc", known(t, "openrc"), Reboot, "SIGINT |"},
		{"sysvinit", known(t, "sysvinit"), Off, "write /run/initctl, write /dev/initctl |"},
		{"sysvinit", known(t, "sysvinit"), Reboot, "write /run/initctl, write /dev/initctl | SIGINT"},
		{"busybox", known(t, "busybox"), Halt, "SIGUSR1 |"},
		{"tini", known(t, "tini"), Off, "SIGTERM |"},
		{"tini", known(t, "tini"), Reboot, "|"},
		{"tini that is restarted", with(known(t, "tini"), "", true), Reboot, "SIGTERM |"},
		{"tini before nginx", with(known(t, "tini"), "SIGQUIT", false), Off, "SIGQUIT |"},
		{"tini before nginx", with(known(t, "tini"), "SIGQUIT", true), Reboot, "SIGQUIT |"},
		{"a program", plain(term), Off, "SIGTERM |"},
		{"a program", plain(term), Halt, "SIGTERM |"},
		{"a program", plain(term), Reboot, "|"},
		{"a program", plain(term), Pause, "|"},
		{"a program that is restarted", with(plain(term), "", true), Reboot, "SIGTERM |"},
		{"a program without handlers", plain(0), Off, "|"},
		{"a program with others", plain(^uint64(term)), Off, "|"},
		{"nginx", with(plain(^uint64(0)), "SIGQUIT", false), Off, "SIGQUIT |"},
		{"nginx", with(plain(term), "SIGQUIT", false), Off, "|"},
		{"stopped by SIGKILL", with(plain(^uint64(0)), "SIGKILL", false), Off, "|"},
		{"stopped by nonsense", with(plain(^uint64(0)), "SIGNONSENSE", false), Off, "|"},
		{"stopped as systemd is", with(plain(^uint64(0)), "SIGRTMIN+3", false), Halt, "SIGRTMIN+3 |"},
	} {
		ask, harder := c.init.Words(c.action)
		got := strings.TrimSpace(strings.Join(names(ask), ", ") + " | " + strings.Join(names(harder), ", "))
		if got != c.want {
			t.Errorf("%s, %s: %q, want %q", c.what, c.action, got, c.want)
		}
	}
}

// TestTakes is what status and wait channel tell about signals.
func TestTakes(t *testing.T) {
	status := []byte("Name:\tx\nSigBlk:\t0000000000000001\nSigIgn:\t00000000000000f0\nSigCgt:\t0000000000004000\n")
	for wchan, want := range map[string]uint64{"": 0x4001, "do_epoll_wait": 0x4001, "do_sigtimedwait.isra.0": ^uint64(0)} {
		if got := takes(status, wchan); got != want {
			t.Errorf("%q: %#x, want %#x", wchan, got, want)
		}
	}
	if got := takes(nil, "0"); got != 0 {
		t.Errorf("of nothing: %#x", got)
	}
}

// TestIdentify asks an init of no known kind, with a handler for SIGTERM.
func TestIdentify(t *testing.T) {
	testutil.NoLeaks(t)
	target, c := hold(t, throwaway.Spec{})
	init, err := Identify(t.Context(), target)
	if err != nil || init.Kind != Other || filepath.Base(init.Exe) == "" || !strings.Contains(init.Evidence, init.Exe) {
		t.Fatalf("Identify: %+v, %v", init, err)
	}
	ask, harder := init.Words(Off)
	if !slices.Equal(names(ask), []string{"SIGTERM"}) || harder != nil {
		t.Fatalf("asks %q, harder %q", names(ask), names(harder))
	}
	if err := ask[0].speak(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	state, err := c.Wait(t.Context())
	if err != nil || state.ExitCode() != 0 {
		t.Errorf("after SIGTERM: %v, %v", state, err)
	}
	if i, err := Identify(t.Context(), target); err == nil {
		t.Errorf("one that has ended: %+v", i)
	}
}

// TestSpeak says nothing of a word that cannot be said as a whole.
func TestSpeak(t *testing.T) {
	testutil.NoLeaks(t)
	target, c := hold(t, throwaway.Spec{})
	words := spoken([]inits.Word{
		{FIFO: "/run/initctl", Record: "x", Signal: unix.SIGKILL}, {Modes: []inits.Mode{{Path: "/etc/runit/stopit", Mode: 0o100}}, Signal: unix.SIGKILL},
		{Signal: unix.SIGTERM},
	})
	for _, w := range words[:2] {
		if err := w.speak(t.Context(), target); !errors.Is(err, outband.ErrNotSupported) || target.Alive() != nil {
			t.Errorf("%s: %v, %v", w.How, err, target.Alive())
		}
	}
	if err := words[2].speak(t.Context(), target); err != nil {
		t.Error(err)
	}
	state, err := c.Wait(t.Context())
	if err != nil || state.ExitCode() != 0 {
		t.Errorf("after SIGTERM: %v, %v", state, err)
	}
	for _, w := range words {
		if err := w.speak(t.Context(), target); !errors.Is(err, outband.ErrGone) {
			t.Errorf("%s, when it has ended: %v", w.How, err)
		}
	}
}
