// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"github.com/outband/outband"
)

// forwarded are the signals that reach the command: those of a keyboard go to
// its process group, as a terminal would send them.
var forwarded = map[os.Signal]bool{
	unix.SIGHUP: true, unix.SIGINT: true, unix.SIGQUIT: true, unix.SIGTSTP: true,
	unix.SIGTERM: false, unix.SIGUSR1: false, unix.SIGUSR2: false,
}

// catch has the signals to forward sent to a channel, but for those that outband
// was told to ignore, by nohup(1) say; with a terminal also its changes of size.
func catch(signals chan<- os.Signal, terminal bool) {
	var wanted []os.Signal
	if terminal {
		wanted = append(wanted, unix.SIGWINCH)
	}
	for s := range forwarded {
		if !signal.Ignored(s) {
			wanted = append(wanted, s)
		}
	}
	if len(wanted) > 0 { // none would mean all
		signal.Notify(signals, wanted...)
	}
}

// forward passes signals on. The group of the command is orphaned, so that
// SIGTSTP would not stop it: SIGSTOP does, and outband stops with it.
func forward(process *outband.Process, signals <-chan os.Signal) {
	for s := range signals {
		sig, _ := s.(unix.Signal)
		switch {
		case sig == unix.SIGTSTP:
			_ = process.SignalGroup(unix.SIGSTOP)
			stopSelf()
			_ = process.SignalGroup(unix.SIGCONT)
		case forwarded[s]:
			_ = process.SignalGroup(sig)
		default:
			_ = process.Signal(sig)
		}
	}
}

// stopSelf stops outband as SIGTSTP would have; it returns when it is continued.
// That it was is told by SIGCONT: the thread that sends the stop may run on for
// a moment.
func stopSelf() {
	self, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return
	}
	defer unix.Close(self)
	continued := make(chan os.Signal, 1)
	signal.Notify(continued, unix.SIGCONT)
	defer signal.Stop(continued)
	if unix.PidfdSendSignal(self, unix.SIGSTOP, nil, 0) == nil {
		<-continued
	}
}
