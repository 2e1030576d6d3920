// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/outband/outband"
)

const (
	// sessionsArg makes this program open sessions and tell what they take: PID
	// PROGRAM NUMBER HEAP, HEAP in MiB.
	sessionsArg = "__sessions"
	// peakArg makes it run a command some times and tell the largest resident
	// set: TIMES COMMAND...
	peakArg = "__peak"
)

// A figure is something that is measured once.
type figure struct {
	what  string
	value float64
	bar   float64 // the most it may be; 0: none
	unit  string
	how   string
}

// figures measures memory, size, how a terminal feels, and what names cost.
func (l *lab) figures(ctx context.Context, o options) ([]figure, error) {
	s := scaleOf(o)
	info, err := os.Stat(l.outband)
	if err != nil {
		return nil, err
	}
	// From a process of its own: on exec a process takes over the peak of the
	// memory it was forked with (exec_mmap), so a large parent would be measured
	// instead.
	peaks, err := l.ask(ctx, append([]string{peakArg, "10"}, l.enter(l.box.Pid(), "/bin/true")...))
	if err != nil {
		return nil, err
	}
	held, err := l.ask(ctx, []string{sessionsArg, strconv.Itoa(l.box.Pid()), "/bin/sleep", strconv.Itoa(s.held), strconv.Itoa(s.heap)})
	if err != nil {
		return nil, err
	}
	peak := fmt.Sprintf("ru_maxrss by wait4(2), the largest of 10; never less than the %.1f MiB of what starts it", peaks[1]/1024)
	sessions := fmt.Sprintf("smaps_rollup, Pss, %d sessions of `sleep` open by a caller with %d MiB touched", s.held, s.heap)
	terminal, err := l.terminalFigures(ctx, s)
	if err != nil {
		return nil, err
	}
	ends, err := l.powerFigures(ctx, s)
	if err != nil {
		return nil, err
	}
	names, err := l.nameFigures(ctx, s)
	if err != nil {
		return nil, err
	}
	return slices.Concat([]figure{
		{"peak memory of `outband enter`", peaks[0] / 1024, 12, "MiB", peak},
		{"memory of a warden", held[0], 0, "KiB", sessions + ", the largest"},
		{"memory of the caller per session", held[1], 0, "KiB", sessions + ", growth divided by their number"},
		{"both together", held[0] + held[1], 1024, "KiB", "the sum"},
		{"size of the binary", float64(info.Size()) / 1e6, 8, "MB", "CGO_ENABLED=0 go build -trimpath -ldflags '-s -w'"},
	}, terminal, ends, names), nil
}

// ask runs one of the helpers of this program and returns the numbers it prints.
func (l *lab) ask(ctx context.Context, args []string) ([]float64, error) {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
	cmd.Stderr = os.Stderr
	said, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", args[0], err)
	}
	var numbers []float64
	for word := range strings.FieldsSeq(string(said)) {
		n, err := strconv.ParseFloat(word, 64)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", args[0], err)
		}
		numbers = append(numbers, n)
	}
	if len(numbers) != 2 {
		return nil, fmt.Errorf("%s: printed %q", args[0], said)
	}
	return numbers, nil
}

// peakMain prints the largest resident set of a command and its own, in KiB.
// The first is an upper bound: it is never less than the second.
func peakMain(args []string) error {
	if len(args) < 2 {
		return errors.New("want TIMES COMMAND")
	}
	times, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	var peak int64
	for range times {
		_, usage, err := run(context.Background(), args[1:])
		if err != nil {
			return err
		}
		peak = max(peak, usage.Maxrss) // KiB, getrusage(2)
	}
	own, err := kilobytes("/proc/self/status", "VmHWM:")
	if err != nil {
		return err
	}
	fmt.Println(peak, own)
	return nil
}

// sessionsMain opens sessions and prints what a warden takes and by how much
// this process grew for each, in KiB.
func sessionsMain(args []string) error {
	if len(args) != 4 {
		return errors.New("want PID PROGRAM NUMBER HEAP")
	}
	n, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	heap, err := touched(args[3])
	if err != nil {
		return err
	}
	defer func() { _ = unix.Munmap(heap) }()
	ctx, cancel := context.WithCancel(context.Background())
	t, err := outband.Open(ctx, "pid:"+args[0])
	if err != nil {
		cancel()
		return err
	}
	defer t.Close()
	h := holder{ctx: ctx, t: t, program: args[1]}
	defer h.end(cancel)
	return h.measure(n)
}

// holder keeps sessions open.
type holder struct {
	ctx     context.Context
	t       *outband.Target
	program string
	open    []*outband.Cmd
}

// start opens one more session and returns the size of its warden.
func (h *holder) start() (float64, error) {
	cmd := h.t.CommandContext(h.ctx, h.program, "1000")
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	h.open = append(h.open, cmd)
	// The number is that of a child that is not reaped.
	return pss(strconv.Itoa(cmd.Process.Warden()))
}

// end kills them all.
func (h *holder) end(cancel func()) {
	cancel()
	for _, cmd := range h.open {
		_ = cmd.Wait() // it was killed
	}
}

// measure opens n sessions and prints what they take.
func (h *holder) measure(n int) error {
	largest, err := h.start() // with what the first one alone costs
	if err != nil {
		return err
	}
	before, err := pss("self")
	if err != nil {
		return err
	}
	for range n {
		size, err := h.start()
		if err != nil {
			return err
		}
		largest = max(largest, size)
	}
	after, err := pss("self")
	fmt.Println(largest, (after-before)/float64(n))
	return err
}

// pss is the proportional set size of a process in KiB; of this one after a
// collection.
func pss(process string) (float64, error) {
	if process == "self" {
		debug.FreeOSMemory()
	}
	return kilobytes("/proc/"+process+"/smaps_rollup", "Pss:")
}

// kilobytes reads the number of one line of a file of procfs.
func kilobytes(file, line string) (float64, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for text := range strings.Lines(string(content)) {
		if value, ok := strings.CutPrefix(text, line); ok {
			return strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
		}
	}
	return 0, fmt.Errorf("%s: no line %s", file, line)
}
