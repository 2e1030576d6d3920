// SPDX-License-Identifier: Apache-2.0

// Command bench compares outband with what else puts a command inside a
// container, and writes docs/benchmarks.md and docs/benchmarks.svg.
//
//	go run ./test/bench [-rounds N] [-quick] [-growth | -only CONTEST] [-o DIRECTORY]
//
// What is compared takes turns in one run, of some five minutes; only ratios are
// claimed. It makes its containers itself and takes them down, and it needs
// root and a machine that has nothing else to do.
//
// Files: contest.go who takes turns and what is claimed of it; cli.go,
// library.go, relay.go, scale.go, listing.go, doctor.go, power.go the contests;
// memory.go what is measured once; terminal.go what a terminal feels like; names.go
// what a name costs; lab.go and oci.go the containers; worker.go and floor.c the
// processes that run in loops; stats.go, report.go, chart.go what comes out.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/throwaway"
	engines "github.com/outband/outband/test/lab"
)

func main() {
	engines.Main(os.Args)
	throwaway.Main(os.Args) // does not return if this is the first process of a container
	if helper := helpers()[first(os.Args[1:])]; helper != nil {
		if err := helper(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	var o options
	flag.IntVar(&o.rounds, "rounds", 300, "rounds of each contest; those with pauses take a tenth")
	flag.BoolVar(&o.quick, "quick", false, "a few rounds, to see that all of it works")
	flag.StringVar(&o.out, "o", "docs", "`directory` for benchmarks.md and benchmarks.svg")
	flag.BoolVar(&o.growth, "growth", false, "only how the tree grows, which takes a minute")
	flag.StringVar(&o.only, "only", "", "a `contest`, Tree say: no other takes place, and its rows are printed instead of written")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer cancel()
	if err := bench(ctx, o, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		cancel()
		os.Exit(1) //nolint:gocritic // cancel was called
	}
}

// helpers are what the program does in the processes that it starts of itself,
// by their first argument.
func helpers() map[string]func(args []string) error {
	return map[string]func([]string) error{
		libraryArg: libraryMain, sessionsArg: sessionsMain, peakArg: peakMain, hideArg: hideMain,
	}
}

func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

// options are the command line.
type options struct {
	rounds int
	quick  bool
	out    string
	growth bool
	only   string
}

// bench measures everything and writes the report.
func bench(ctx context.Context, o options, log *os.File) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("entering and making containers needs root: run it as root")
	}
	l, err := openLab(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	if o.only == "" {
		if err := l.growthPage(ctx, o, log); err != nil || o.growth {
			return err
		}
	}
	r := report{machine: machine(), versions: l.versions(ctx)}
	contests, err := l.contests(ctx, o)
	if err != nil {
		return err
	}
	if err := r.compete(ctx, contests, o.only, log); err != nil {
		return fmt.Errorf("%w %s", err, strings.Join(l.notes, " "))
	}
	if o.only != "" {
		r.rows(os.Stdout)
		return nil
	}
	if r.figures, err = l.figures(ctx, o); err != nil {
		return err
	}
	r.notes = l.notes
	return r.write(o.out)
}

// compete has the contests take place, or the only one that is asked for.
func (r *report) compete(ctx context.Context, contests []*contest, only string, log *os.File) error {
	for _, c := range contests {
		if only != "" && only != c.title {
			continue
		}
		taken, err := c.run(ctx, progress(log, c.title))
		if err != nil {
			return err
		}
		r.add(c, taken)
	}
	if len(r.times) == 0 {
		return fmt.Errorf("there is no contest called %q here", only)
	}
	return nil
}

// contests are all of them, with the numbers of rounds that o asks for.
func (l *lab) contests(ctx context.Context, o options) ([]*contest, error) {
	s := scaleOf(o)
	library, err := l.libraryContests(ctx, s)
	if err != nil {
		return nil, err
	}
	all := append(append(l.cliContests(s), library...), l.relayContest(s))
	for _, c := range []*contest{l.treeContest(ctx, s), l.listContest(ctx, s), l.doctorContest(ctx, s), l.powerContest(s)} {
		if c != nil {
			all = append(all, c)
		}
	}
	return all, nil
}

// progress shows on a terminal how far a contest is, and on anything else only
// that it has begun.
func progress(log *os.File, title string) func(done, of int) {
	_, err := unix.IoctlGetTermios(int(log.Fd()), unix.TCGETS)
	return func(done, of int) {
		switch {
		case err == nil && done == of:
			fmt.Fprintf(log, "\r%s: %d rounds\x1b[K\n", title, of)
		case err == nil:
			fmt.Fprintf(log, "\r%s: %d of %d\x1b[K", title, done, of)
		case done == 0:
			fmt.Fprintf(log, "%s: %d rounds\n", title, of)
		}
	}
}

// write writes both files.
func (r *report) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return errors.Join(
		writeFile(filepath.Join(dir, "benchmarks.md"), r.markdown),
		writeFile(filepath.Join(dir, "benchmarks.svg"), r.chart))
}

func writeFile(name string, content func(io.Writer)) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	content(f)
	return f.Close()
}
