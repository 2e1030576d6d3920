// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// options are the command line.
type options struct {
	hosts, pkgs, run, skip, user, out, docs string
	cover                                   bool
	timeout                                 time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.hosts, "host", "sid", "`hosts` to run, separated by commas")
	flag.StringVar(&o.pkgs, "pkg", "", "`packages` whose tests run, separated by commas; none: the host's own selection")
	flag.StringVar(&o.run, "run", "", "tests that run, a `regexp`")
	flag.StringVar(&o.skip, "skip", "", "tests that do not, a `regexp`")
	flag.StringVar(&o.user, "user", "root", "`user` who runs the packages of -pkg: root, tester")
	flag.BoolVar(&o.cover, "cover", false, "measure coverage")
	flag.StringVar(&o.out, "o", "", "`directory` for console log, journal and coverage; none: a temporary one, kept if a test fails")
	flag.StringVar(&o.docs, "docs", "", "`file` to write a report to, docs/hosts.md say")
	flag.DurationVar(&o.timeout, "timeout", patience.all, "bound of one host's run")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer cancel()
	if err := hostsMain(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "hosts:", err)
		cancel()
		os.Exit(1) //nolint:gocritic // cancel was called
	}
}

// errMissing says that something is not installed here.
var errMissing = errors.New("skipped")

// hostsMain runs all that was asked for.
func hostsMain(ctx context.Context, o options, out io.Writer) error {
	chosen, err := find(o.hosts)
	if err != nil {
		return err
	}
	qemu, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		return missing(out, "needs the command qemu-system-x86_64 (package qemu-system-x86, or make deps)")
	}
	if os.Geteuid() != 0 {
		return missing(out, "needs root, to make images")
	}
	var failed error
	var all []report
	for _, h := range chosen {
		r, err := one(ctx, o, h, qemu, out)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", h.name, err))
		}
		all = append(all, r)
	}
	if o.docs != "" {
		failed = errors.Join(failed, writeReport(o.docs, all))
	}
	return failed
}

// missing says what is not there: a failure where everything has to be.
func missing(out io.Writer, what string) error {
	if os.Getenv("OUTBAND_REQUIRE") == "all" {
		return errors.New("required here: " + what)
	}
	fmt.Fprintf(out, "hosts: %v: %s\n", errMissing, what)
	return nil
}

// one runs one host.
func one(ctx context.Context, o options, h host, qemu string, out io.Writer) (report, error) {
	began := time.Now()
	img, err := cached(ctx, cacheDir(os.Getenv), h, h.build)
	if err != nil {
		return report{host: h}, err
	}
	defer img.Close()
	fmt.Fprintf(out, "== host %s: image after %.1f s (%s)\n", h.name, time.Since(began).Seconds(), img.dir)
	work, err := os.MkdirTemp("", "outband-host-"+h.name+"-")
	if err != nil {
		return report{host: h}, err
	}
	defer os.RemoveAll(work)
	kept := o.out
	if kept == "" {
		kept = filepath.Join(os.TempDir(), "outband-hosts")
	}
	kept = filepath.Join(kept, h.name)
	if err := errors.Join(os.RemoveAll(kept), os.MkdirAll(kept, 0o755)); err != nil {
		return report{host: h}, err
	}
	root, err := moduleRoot()
	if err != nil {
		return report{host: h}, err
	}
	drive, err := payload{root: root, host: h, jobs: h.jobs(o), cover: o.cover}.make(ctx, work)
	if err != nil {
		return report{host: h}, err
	}
	fmt.Fprintf(out, "== host %s: drive after %.1f s\n", h.name, time.Since(began).Seconds())
	m := machine{qemu: qemu, image: img, payload: drive, dir: kept, lines: out, limits: patience}
	m.limits.all = o.timeout
	r, err := m.run(ctx)
	rep := report{host: h, results: r, versions: versions(img)}
	summary(out, h, r, time.Since(began))
	if err == nil && len(r.failures()) > 0 {
		err = errors.New("failed:\n\t" + strings.Join(r.failures(), "\n\t"))
	}
	if err != nil {
		return rep, fmt.Errorf("%w\n\tconsole and journal are in %s", err, kept)
	}
	if o.out == "" {
		return rep, os.RemoveAll(kept)
	}
	return rep, nil
}

// summary says what a run came to.
func summary(out io.Writer, h host, r *results, took time.Duration) {
	if r == nil {
		return
	}
	fmt.Fprintf(out, "== host %s: Linux %s, first line %.1f s after power on, all after %.1f s\n", h.name, r.kernel, r.up.Seconds(), took.Seconds())
	for _, j := range r.jobs {
		fmt.Fprintf(out, "== host %s: %s (%s): %d passed, %d failed, %d skipped, %.1f s, exit code %d\n", h.name, j.pkg, j.user,
			j.count("PASS"), j.count("FAIL"), j.count("SKIP"), j.took.Seconds(), j.code)
	}
}

// jobs are those of the command line, or the host's own.
func (h host) jobs(o options) []job {
	var jobs []job
	if o.pkgs == "" {
		for _, j := range h.selected {
			j.run = o.run
			jobs = append(jobs, j)
		}
		return jobs
	}
	for pkg := range strings.SplitSeq(o.pkgs, ",") {
		jobs = append(jobs, job{pkg: pkg, run: o.run, skip: o.skip, user: o.user})
	}
	return jobs
}

// moduleRoot is the directory of go.mod.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	for err == nil && !exists(filepath.Join(dir, "go.mod")) {
		if dir == filepath.Dir(dir) {
			return "", errors.New("not in the module's tree")
		}
		dir = filepath.Dir(dir)
	}
	return dir, err
}
