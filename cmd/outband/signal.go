// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/sys"
	"github.com/outband/outband/pidtree"
)

func (p *program) signalCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "signal TARGET SIGNAL PID...",
		Short: "Send a signal to processes of a container",
		Long: `Send a signal to processes of a container, PID as seen inside. SIGNAL is a name,
with SIG before it or without, a number, SIGRTMIN+n or SIGRTMAX-n; 0 only asks
whether the process is there.

The first process of a pid namespace gets no signal for which it has no handler
(pid_namespaces(7)), SIGKILL and SIGSTOP excepted: that is told. SIGCONT continues
it in any case. Nothing is sent unless all processes are there.

Processes of one's own pid namespace are refused: kill(1) is for them.`,
		Example:           "  outband signal web HUP 1\n  outband signal web SIGRTMIN+3 1\n  outband signal web KILL 27 28",
		Args:              cobra.MinimumNArgs(3),
		ValidArgsFunction: p.completeSignals,
		RunE: func(c *cobra.Command, args []string) error {
			return failure("signal "+args[0], asOwner(p.signal(c.Context(), args[0], args[1], args[2:])))
		},
	}
}

func (p *program) signal(ctx context.Context, target, word string, words []string) error {
	sig, err := parseSignal(word)
	if err != nil {
		return err
	}
	pids, err := parsePids(words)
	if err != nil {
		return err
	}
	space, err := p.space(ctx, target)
	if err != nil {
		return err
	}
	defer space.Close()
	if space.Level() == 0 {
		return fmt.Errorf("%w: it is in one's own pid namespace", errRefused)
	}
	var all []*pidtree.Held
	defer func() {
		for _, h := range all {
			h.Pidfd.Close()
		}
	}()
	for _, pid := range pids {
		h, err := space.Hold(ctx, pid, space.Level())
		if err != nil {
			return err
		}
		all = append(all, h)
		if h.PIDs[0] == os.Getpid() {
			return fmt.Errorf("%w: process %d is outband itself", errRefused, pid)
		}
	}
	for i, h := range all {
		p.warnIgnored(h, sig, pids[i])
		if err := sys.Signal(h.Pidfd, sig, false); err != nil {
			if errors.Is(err, unix.ESRCH) {
				err = fmt.Errorf("%w: process %d", pidtree.ErrNoProcess, pids[i])
			}
			return err
		}
	}
	return nil
}

// warnIgnored tells when the kernel will drop a signal: the process is number 1
// of its pid namespace and neither handles nor blocks it (sig_task_ignored in
// kernel/signal.c). SIGCONT continues it before that is looked at (prepare_signal).
func (p *program) warnIgnored(h *pidtree.Held, sig unix.Signal, pid int) {
	if h.PIDs[len(h.PIDs)-1] != 1 || slices.Contains([]unix.Signal{0, unix.SIGKILL, unix.SIGSTOP, unix.SIGCONT}, sig) {
		return
	}
	proc, err := procfs.Open()
	if err != nil {
		return
	}
	defer proc.Close()
	dir, err := proc.Process(h.PIDs[0])
	if err != nil {
		return
	}
	defer dir.Close()
	status, err := dir.ReadFile("status")
	if err != nil || sys.Signal(h.Pidfd, 0, false) != nil {
		return
	}
	blocked, caught, ok := procfs.ParseSignals(status)
	if bit := uint64(1) << (sig - 1); ok && (blocked|caught)&bit == 0 {
		p.say("note: process %d is the first of its pid namespace and has no handler for %s: it is ignored (SIGKILL and SIGSTOP work)", pid, signalName(sig))
	}
}

// Real-time signals as the C library numbers them: it keeps two for itself.
const (
	sigRTMin = 34
	sigRTMax = 64
)

// parseSignal reads a signal as kill(1) does.
func parseSignal(word string) (unix.Signal, error) {
	bad := fmt.Errorf("%w: %q is no signal", errUsage, word)
	if n, err := strconv.ParseUint(word, 10, 8); err == nil && n <= sigRTMax {
		return unix.Signal(n), nil
	}
	name := strings.ToUpper(word)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	for _, end := range []struct {
		name string
		at   int
		sign string
	}{{"SIGRTMIN", sigRTMin, "+"}, {"SIGRTMAX", sigRTMax, "-"}} {
		rest, ok := strings.CutPrefix(name, end.name)
		if !ok {
			continue
		}
		if rest == "" {
			return unix.Signal(end.at), nil
		}
		digits, signed := strings.CutPrefix(rest, end.sign)
		n, err := strconv.ParseUint(digits, 10, 8)
		if !signed || err != nil || n > sigRTMax-sigRTMin {
			return 0, bad
		}
		if end.sign == "-" {
			return unix.Signal(end.at - int(n)), nil
		}
		return unix.Signal(end.at + int(n)), nil
	}
	if sig := unix.SignalNum(name); sig != 0 {
		return sig, nil
	}
	return 0, bad
}

// signalName names a signal as parseSignal reads it.
func signalName(sig unix.Signal) string {
	switch name := unix.SignalName(sig); {
	case name != "":
		return name
	case sig == sigRTMin:
		return "SIGRTMIN"
	case sig > sigRTMin && sig <= sigRTMax:
		return fmt.Sprintf("SIGRTMIN+%d", sig-sigRTMin)
	}
	return "signal " + strconv.Itoa(int(sig))
}
