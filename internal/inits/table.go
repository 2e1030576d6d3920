// SPDX-License-Identifier: Apache-2.0

package inits

import "golang.org/x/sys/unix"

// Table is all of them. Where an executable may be several, the more special
// comes first.
func Table() []Row {
	return append(systems(), forwarders()...)
}

// systems are inits that start and stop others.
func systems() []Row {
	rt := func(n int) Words {
		return Words{Ask: signals(sigRTMin + unix.Signal(n)), Harder: signals(sigRTMin + unix.Signal(n+10))}
	}
	return []Row{{
		Kind: "systemd", Exe: []string{"systemd"}, Off: rt(4), Reboot: rt(5), Halt: rt(3),
		Source: "systemd(1), signals", Tried: "252",
	}, {
		Kind: "sysvinit", Exe: []string{"init"}, Open: "/initctl",
		Off: Words{Ask: initctl('0')}, Halt: Words{Ask: initctl('0')},
		Reboot: Words{Ask: initctl('6'), Harder: signals(unix.SIGINT)},
		Source: "init(8), initctl.h (struct init_request)", Tried: "3.06",
	}, {
		// Its FIFO /run/openrc/init.ctl is not open but while it reads.
		Kind: "openrc", Exe: []string{"openrc-init"},
		Off: ask(unix.SIGTERM), Reboot: ask(unix.SIGINT), Halt: ask(unix.SIGTERM),
		Source: "openrc-init(8), src/openrc-init/openrc-init.c", Tried: "0.45",
	}, {
		Kind: "runit", Exe: []string{"runit", "runit-init"},
		Off: Words{Ask: runit(0)}, Halt: Words{Ask: runit(0)},
		Reboot: Words{Ask: runit(0o100), Harder: signals(unix.SIGINT)},
		Source: "runit(8), runit-init(8)", Tried: "2.1.2",
	}, {
		// It holds the FIFO of its catch-all logger open, unless built without one.
		Kind: "s6-linux-init", Exe: []string{"s6-svscan"}, Open: "/s6-svscan-log/fifo",
		Off: ask(unix.SIGUSR1), Reboot: ask(unix.SIGINT), Halt: ask(unix.SIGUSR2),
		Source: "s6-linux-init-maker, the scripts in .s6-svscan",
	}, {
		Kind: "s6", Exe: []string{"s6-svscan"}, Off: ask(unix.SIGTERM), Halt: ask(unix.SIGTERM),
		Source: "s6-svscan, signals", Tried: "2.11",
	}, {
		Kind: "busybox", Exe: []string{"busybox*"}, Applet: []string{"init", "linuxrc"},
		Off: ask(unix.SIGUSR2), Reboot: ask(unix.SIGTERM), Halt: ask(unix.SIGUSR1),
		Source: "busybox, init/init.c and init/halt.c", Tried: "1.35",
	}, {
		// SIGUSR1, which is to halt it, does nothing in 4.2.
		Kind: "finit", Exe: []string{"finit"}, Off: ask(unix.SIGUSR2), Reboot: ask(unix.SIGTERM), Halt: ask(unix.SIGUSR2),
		Source: "finit, doc/signals.md", Tried: "4.2",
	}, {
		Kind: "dinit", Exe: []string{"dinit"}, Reboot: ask(unix.SIGINT),
		Off:    Words{Ask: signals(unix.SIGTERM), Harder: signals(unix.SIGQUIT)},
		Halt:   Words{Ask: signals(unix.SIGTERM), Harder: signals(unix.SIGQUIT)},
		Source: "dinit(8), signals",
	}, {
		Kind: "procd", Exe: []string{"procd"}, Off: ask(unix.SIGUSR1), Reboot: ask(unix.SIGTERM), Halt: ask(unix.SIGUSR1),
		Source: "procd, signal.c",
	}}
}

// forwarders are inits that run one program and hand it what they are told. They
// have no word for a reboot.
func forwarders() (rows []Row) {
	for _, r := range []Row{
		{Kind: "tini", Exe: []string{"tini", "tini-static", "docker-init"}, Source: "tini, README.md", Tried: "0.19"},
		{Kind: "dumb-init", Exe: []string{"dumb-init"}, Source: "dumb-init, README.md", Tried: "1.2.5"},
		{Kind: "catatonit", Exe: []string{"catatonit", "podman-init"}, Source: "catatonit, README.md", Tried: "0.1.7"},
		{Kind: "lxc-init", Exe: []string{"init.lxc*", "lxc-init"}, Source: "lxc-execute(1), src/lxc/cmd/lxc_init.c"},
		{Kind: "pause", Exe: []string{"pause"}, Source: "kubernetes, build/pause/linux/pause.c"},
	} {
		r.Forwards, r.Off, r.Halt = r.Kind != "pause", ask(unix.SIGTERM), ask(unix.SIGTERM)
		rows = append(rows, r)
	}
	return rows
}

// signals are words of one signal each.
func signals(sigs ...unix.Signal) (words []Word) {
	for _, s := range sigs {
		words = append(words, Word{Signal: s})
	}
	return words
}

// ask is one signal that asks.
func ask(sig unix.Signal) Words { return Words{Ask: signals(sig)} }

// initctl is the request for a runlevel, in the FIFO where it is now and where
// older ones have it.
func initctl(runlevel byte) []Word {
	// struct init_request: a magic number, the command (1: change the runlevel), the
	// runlevel, how long processes are given (0: as init thinks right), filled up.
	const size, magic, command = 384, 0x03091969, 1
	b := make([]byte, size)
	put := func(at int, n uint32) {
		for i := range 4 {
			b[at+i] = byte(n >> (8 * i)) // of the little-endian machines that Outband is for
		}
	}
	put(0, magic)
	put(4, command)
	put(8, uint32(runlevel))
	return []Word{{FIFO: "/run/initctl", Record: string(b)}, {FIFO: "/dev/initctl", Record: string(b)}}
}

// runit tells it by the modes of two files that it is to stop, and whether it
// comes up again: where Debian has them, and where they are elsewhere.
func runit(reboot uint32) (words []Word) {
	for _, dir := range []string{"/run/runit.", "/etc/runit/"} {
		words = append(words, Word{
			Modes:  []Mode{{Path: dir + "reboot", Mode: reboot}, {Path: dir + "stopit", Mode: 0o100}},
			Signal: unix.SIGCONT,
		})
	}
	return words
}
