// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// Deadlines of a run: until the host's first line, between two lines, and for
// all of it.
type deadlines struct{ boot, silence, all time.Duration }

var patience = deadlines{boot: 4 * time.Minute, silence: 6 * time.Minute, all: 40 * time.Minute}

// errDied says that a host ended before its job began.
var errDied = errors.New("the host has ended before its first line")

// boots is how often a host is started that dies on the way up. Emulated CPUs
// see each other's changes of code late, of which kernels die now and then.
const boots = 3

// drain is how long what a host has said may take to be read when it has ended.
const drain = 2 * time.Second

// A machine is one run of a host.
type machine struct {
	qemu    string // the program
	image   *image
	payload string    // file of the second drive
	dir     string    // for the console's log and the files that come out
	lines   io.Writer // gets what the host reports, while it runs
	limits  deadlines
}

// run starts the host until it comes up, and returns what its jobs reported.
func (m machine) run(ctx context.Context) (*results, error) {
	for n := 1; ; n++ {
		r, err := m.once(ctx)
		if !errors.Is(err, errDied) || n == boots {
			return r, err
		}
		fmt.Fprintf(m.lines, "== %v: once more (%s)\n", err, m.console())
	}
}

func (m machine) console() string { return filepath.Join(m.dir, "console.log") }

// command is qemu with three pipes: descriptors 3 to 5 are what is said on the
// console, the results, the files.
func (m machine) command(ctx context.Context) *exec.Cmd {
	args := []string{"-n", "19", m.qemu,
		// Never /dev/kvm: where this runs is a guest itself, as a rule.
		"-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2048",
		"-display", "none", "-nodefaults", "-no-user-config", "-no-reboot", "-nic", "none",
		"-kernel", m.image.file("kernel"), "-initrd", m.image.file("initrd"),
		"-append", "console=ttyS0 quiet panic=-1 mitigations=off systemd.show_status=0",
		"-drive", "if=virtio,format=raw,snapshot=on,file=" + m.image.file("disk"),
		"-drive", "if=virtio,format=raw,readonly=on,file=" + m.payload,
		"-device", "virtio-serial-pci"}
	for n, name := range []string{"console", "results", "files"} {
		args = append(args, "-add-fd", fmt.Sprintf("fd=%d,set=%d", 3+n, n),
			"-chardev", fmt.Sprintf("file,id=%s,path=/dev/fdset/%d,append=on", name, n))
	}
	args = append(args, "-serial", "chardev:console",
		"-device", "virtserialport,chardev=results,name=outband.results",
		"-device", "virtserialport,chardev=files,name=outband.files")
	return exec.CommandContext(ctx, "nice", args...)
}

// once boots the host and waits for its end.
func (m machine) once(ctx context.Context) (*results, error) {
	ctx, cancel := context.WithTimeout(ctx, m.limits.all)
	defer cancel()
	log, err := os.Create(m.console())
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := m.command(ctx)
	cmd.WaitDelay = 5 * time.Second
	var said tail
	cmd.Stderr = &said
	var ends [3]*os.File // ours
	for n := range ends {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		defer r.Close()
		defer w.Close()
		ends[n], cmd.ExtraFiles = r, append(cmd.ExtraFiles, w)
	}
	ended := make(chan error, 1)
	go func() {
		ended <- tied(cmd, cmd.Run)
		for _, w := range cmd.ExtraFiles {
			w.Close() // now the readers come to an end
		}
		time.Sleep(drain)
		for _, r := range ends {
			r.Close() // even if somebody else has the other end
		}
	}()
	return m.watch(ctx, cancel, ends, log, ended, &said)
}

// watch reads what comes out until the host has ended, and ends it when a
// deadline has passed.
func (m machine) watch(ctx context.Context, cancel func(), ends [3]*os.File, log io.Writer, ended chan error, said *tail) (*results, error) {
	r := &results{started: time.Now()}
	lines, files := make(chan string), make(chan error, 2)
	go func() { _, err := io.Copy(log, ends[0]); files <- err }()
	go func() { files <- unpack(ends[2], filepath.Join(m.dir, "out")) }()
	go func() {
		defer close(lines)
		for in := bufio.NewScanner(ends[1]); in.Scan(); {
			lines <- in.Text()
		}
		_, _ = io.Copy(io.Discard, ends[1]) // a line longer than any
	}()
	late := time.NewTimer(m.limits.boot)
	defer late.Stop()
	var why error
	for open := true; open; {
		select {
		case line, ok := <-lines:
			if open = ok; ok {
				fmt.Fprintln(m.lines, line)
				r.add(line)
				late.Reset(m.limits.silence)
			}
		case <-late.C:
			why = r.late(m.limits)
			cancel()
		}
	}
	err := <-ended
	files1, files2 := <-files, <-files
	switch {
	case why != nil:
		return r, why
	case ctx.Err() != nil:
		return r, fmt.Errorf("ended after %v: %w", time.Since(r.started).Round(time.Second), ctx.Err())
	case err != nil:
		return r, fmt.Errorf("qemu: %w: %s", err, said)
	case r.up == 0:
		return r, errDied
	case !r.done:
		return r, errors.New("the host has ended before its jobs were done")
	}
	return r, errors.Join(files1, files2)
}

// unpack writes the files of a tar archive below dir.
func unpack(in io.Reader, dir string) error {
	defer func() { _, _ = io.Copy(io.Discard, in) }() // what follows must not block the sender
	root, err := openDir(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for archive := tar.NewReader(in); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("files from the host: %w", err)
		}
		switch h.Typeflag {
		case tar.TypeDir:
			err = root.MkdirAll(h.Name, 0o755)
		case tar.TypeReg:
			err = writeFile(root, h.Name, archive)
		}
		if err != nil {
			return err
		}
	}
}

// openDir makes a directory and opens it as a root that no name leads out of.
func openDir(dir string) (*os.Root, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	return os.OpenRoot(dir)
}

func writeFile(root *os.Root, name string, from io.Reader) error {
	f, err := root.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	return errors.Join(err, f.Close())
}
