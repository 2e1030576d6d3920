// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// chunk is how much the source writes at once and the sink asks for, bytes.
const chunk = 128 << 10

// relayContest compares what goes through outband with what goes through a
// `cat` in the same place of a pipeline. All cats are the same busybox's.
func (l *lab) relayContest(s scale) *contest {
	cat := []string{filepath.Join(l.root, "bin/cat")}
	enter := l.enter(l.box.Pid(), "/bin/cat")
	c := &contest{
		title: "Relay", rounds: max(s.rounds/10, 1),
		claims: []claim{
			{of: "outband enter … cat", to: "cat", bar: 0.7, throughput: true},
			{of: "outband enter … cat", to: "cat | cat", throughput: true},
			{of: "outband enter … cat", to: "cat | cat | cat", throughput: true},
		},
	}
	for _, f := range []struct {
		name  string
		pipes [][]string
	}{
		{"cat", [][]string{cat}},
		{"cat | cat", [][]string{cat, cat}},
		{"cat | cat | cat", [][]string{cat, cat, cat}},
		{"outband enter … cat", [][]string{enter}},
	} {
		what := fmt.Sprintf("%d MiB of zeros through `%s`", s.volume>>20, f.name)
		c.field = append(c.field, contestant{f.name, what, func(ctx context.Context) (time.Duration, error) {
			return pipeline(ctx, s.volume, f.pipes)
		}})
	}
	return c
}

// pipeline sends n bytes through commands that are joined by pipes, and returns
// the time from the first's start until all of them came out.
func pipeline(ctx context.Context, n int64, commands [][]string) (time.Duration, error) {
	begin := time.Now()
	in, source, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	var processes []*os.Process
	for _, argv := range commands {
		out, to, err := os.Pipe()
		if err == nil {
			var p *os.Process
			p, err = os.StartProcess(argv[0], argv, &os.ProcAttr{Files: []*os.File{in, to, os.Stderr}})
			processes = append(processes, p)
			to.Close()
		}
		in.Close()
		if err != nil {
			source.Close()
			return 0, err // what runs ends with its input
		}
		in = out
	}
	sent := make(chan error, 1)
	go func() { sent <- pour(source, n) }()
	got, err := drain(ctx, in)
	d := time.Since(begin)
	err = errors.Join(err, <-sent)
	for _, p := range processes {
		_, werr := p.Wait()
		err = errors.Join(err, werr)
	}
	if err == nil && got != n {
		err = fmt.Errorf("%d bytes went in, %d came out", n, got)
	}
	return d, err
}

// pour writes n zeros and closes w.
func pour(w *os.File, n int64) error {
	defer w.Close()
	zeros := make([]byte, chunk)
	for n > 0 {
		m, err := w.Write(zeros[:min(n, chunk)])
		if err != nil {
			return err
		}
		n -= int64(m)
	}
	return nil
}

// drain counts what comes out of r and closes it; with the context it is closed
// early, which ends the whole pipeline.
func drain(ctx context.Context, r *os.File) (n int64, err error) {
	defer r.Close()
	stop := context.AfterFunc(ctx, func() { _ = r.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, chunk)
	for {
		m, err := r.Read(buf)
		n += int64(m)
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}
