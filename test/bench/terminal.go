// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/outband/outband/internal/pty"
)

// terminalFigures measure what a session on a terminal feels like: how much
// later a key is echoed than on a terminal that the same program has directly,
// and how long it takes until there is a prompt.
func (l *lab) terminalFigures(ctx context.Context, s scale) ([]figure, error) {
	const prompt = " # " // of the container's own shell
	argv := []string{l.outband, "--run-dir", l.state, "enter", "pid:" + strconv.Itoa(l.box.Pid()), "/bin/sh"}
	direct, err := sit(ctx, []string{filepath.Join(l.root, "bin/cat")}, "")
	if err != nil {
		return nil, err
	}
	defer direct.end()
	entered, err := sit(ctx, argv, prompt)
	if err != nil {
		return nil, err
	}
	defer entered.end()
	var plain, through, prompts []float64
	keys := min(10*s.rounds, 1000) // a line holds some more
	for range keys {
		for _, d := range []struct {
			*desk
			into *[]float64
		}{{direct, &plain}, {entered, &through}} {
			took, err := d.key()
			if err != nil {
				return nil, err
			}
			*d.into = append(*d.into, took.Seconds()*1000)
		}
	}
	for range s.rounds + 1 {
		begin := time.Now()
		d, err := sit(ctx, argv, prompt)
		if err != nil {
			return nil, err
		}
		prompts = append(prompts, time.Since(begin).Seconds()*1000)
		d.end()
	}
	one, two, shell := summarize(plain).Median, summarize(through).Median, summarize(prompts[1:])
	return []figure{
		{"key to echo, added", two - one, 0.2, "ms", fmt.Sprintf("%d keys in turn, median on a terminal of a session less that on a terminal itself, %.3f - %.3f", keys, two, one)},
		{"prompt of a session on a terminal", shell.Median, 10, "ms", fmt.Sprintf("from the start of `outband enter` to the prompt of /bin/sh, median of %d", shell.N)},
	}, nil
}

// A desk is a program on a terminal, and who sits there.
type desk struct {
	master  *os.File
	process *os.Process
}

// sit starts a program on a terminal and waits until it says something.
func sit(ctx context.Context, argv []string, ready string) (*desk, error) {
	master, peer, err := pty.Pair()
	if err != nil {
		return nil, err
	}
	defer peer.Close()
	process, err := os.StartProcess(argv[0], argv, &os.ProcAttr{
		Files: []*os.File{peer, peer, peer}, Env: append(os.Environ(), "TERM=dumb"),
		Sys: &syscall.SysProcAttr{Setsid: true, Setctty: true},
	})
	if err != nil {
		master.Close()
		return nil, err
	}
	d := &desk{master, process}
	if err := d.see(ctx, ready); err != nil {
		d.end()
		return nil, fmt.Errorf("%s: %w", shown(argv), err)
	}
	return d, nil
}

// see reads until text is shown.
func (d *desk) see(ctx context.Context, text string) error {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(turnTimeout)
	}
	var said []byte
	buf := make([]byte, 4096)
	for !bytes.Contains(said, []byte(text)) {
		if ready, _ := pty.Readable(d.master, nil, time.Until(deadline)); !ready {
			return fmt.Errorf("shows %q, not %q", said, text)
		}
		n, err := d.master.Read(buf)
		if err != nil {
			return fmt.Errorf("shows %q, not %q: %w", said, text, err)
		}
		said = append(said, buf[:n]...)
	}
	return nil
}

// key types one key and returns the time until it is echoed. Without a pause
// the next one would be typed while threads are still on their way to sleep.
func (d *desk) key() (time.Duration, error) {
	time.Sleep(time.Millisecond)
	one := []byte{'x'}
	begin := time.Now()
	if _, err := d.master.Write(one); err != nil {
		return 0, err
	}
	for one[0] = 0; one[0] != 'x'; {
		if _, err := d.master.Read(one); err != nil {
			return 0, err
		}
	}
	return time.Since(begin), nil
}

// end hangs up.
func (d *desk) end() {
	_ = d.process.Kill()
	_, _ = d.process.Wait()
	d.master.Close()
}
