// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband"
)

// libraryArg makes this program the library's user in a process of its own:
// PID PROGRAM HEAP, HEAP in MiB.
const libraryArg = "__library"

// worker is a process that does the same thing as often as it is told: one line
// with a number on its standard input, one with nanoseconds on its output.
type worker struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// startWorker starts one; it ends with its input, that is with this process.
func startWorker(argv ...string) (*worker, error) {
	w := &worker{cmd: exec.Command(argv[0], argv[1:]...)}
	w.cmd.Stderr = os.Stderr
	var err error
	if w.in, err = w.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	w.out = bufio.NewReader(out)
	return w, w.cmd.Start()
}

// close ends the worker.
func (w *worker) close() error { return errors.Join(w.in.Close(), w.cmd.Wait()) }

// turn returns a contestant's turn: how long one of n rounds took on average.
func (w *worker) turn(n int) func(context.Context) (time.Duration, error) {
	return func(ctx context.Context) (time.Duration, error) {
		stop := context.AfterFunc(ctx, func() { _ = w.cmd.Process.Kill() })
		defer stop()
		if _, err := fmt.Fprintln(w.in, n); err != nil {
			return 0, err
		}
		line, err := w.out.ReadString('\n')
		if err != nil {
			return 0, err
		}
		nanoseconds, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
		return time.Duration(nanoseconds) / time.Duration(n), err
	}
}

// serve is the worker's side: it answers each number with the time that so many
// calls of f took.
func serve(in io.Reader, out io.Writer, f func() error) error {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		n, err := strconv.Atoi(lines.Text())
		if err != nil {
			return err
		}
		begin := time.Now()
		for range n {
			if err := f(); err != nil {
				return err
			}
		}
		fmt.Fprintln(out, time.Since(begin).Nanoseconds())
	}
	return lines.Err()
}

// libraryMain opens a target once and runs a program in it over and over.
func libraryMain(args []string) error {
	if len(args) != 3 {
		return errors.New("want PID PROGRAM HEAP")
	}
	heap, err := touched(args[2])
	if err != nil {
		return err
	}
	defer func() { _ = unix.Munmap(heap) }()
	t, err := outband.Open(context.Background(), "pid:"+args[0])
	if err != nil {
		return err
	}
	defer t.Close()
	return serve(os.Stdin, os.Stdout, func() error { return t.Command(args[1]).Run() })
}

// touched returns so many MiB of memory that has been written to, in small
// pages: those are what a fork would have to copy the tables of.
func touched(mib string) ([]byte, error) {
	n, err := strconv.Atoi(mib)
	if err != nil || n == 0 {
		return nil, err
	}
	memory, err := unix.Mmap(-1, 0, n<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	_ = unix.Madvise(memory, unix.MADV_NOHUGEPAGE) // a kernel without huge pages refuses
	for i := 0; i < len(memory); i += os.Getpagesize() {
		memory[i] = 1
	}
	return memory, nil
}
