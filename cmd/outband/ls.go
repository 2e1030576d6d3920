// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/outband/outband/engine"
	"github.com/outband/outband/engine/all"
	"github.com/outband/outband/internal/inits"
	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/registry"
	"github.com/outband/outband/internal/safetext"
	"github.com/outband/outband/internal/share"
	"github.com/outband/outband/ns"
	"github.com/outband/outband/pidtree"
)

// lsFlags are the flags of ls.
type lsFlags struct {
	output, engine string
	all            bool
}

// lsNames are those of the verb.
var lsNames = []string{"ls", "list"}

func (p *program) lsCommand() *cobra.Command {
	var f lsFlags
	c := &cobra.Command{
		Use:     "ls",
		Aliases: lsNames[1:],
		Short:   "List containers, whatever made them",
		Long: `List the containers that run: those that an engine has a name for, and each
other pid namespace by the number of its first process. No daemon is woken: what
the engines have written down is read, and compared with what the kernel says.

With -o wide also what let visitors in, where that can be told: outband, docker
exec, nsenter …

State: running; paused (frozen); stopping (its first process is on its way out);
zombie (that has ended and is not reaped yet); stopped (with -a).
With -o wide also: RESTART, when its engine starts it again; EXIT, how it ended;
FROZEN BY, who paused it, if by outband. What only root may know of a container
is "-", in JSON null.`,
		Example: "  outband ls\n  outband ls -a --engine docker\n  outband ls -o name | xargs -I{} outband enter {} -- hostname",
		Args:    cobra.NoArgs,

		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			return failure("ls", p.ls(c.Context(), c.OutOrStdout(), &f))
		},
	}
	c.Flags().BoolVarP(&f.all, "all", "a", false, "stopped containers too")
	c.Flags().StringVar(&f.engine, "engine", "", "only those of the engine with this `name`")
	_ = c.RegisterFlagCompletionFunc("engine", func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return engineNames(), cobra.ShellCompDirectiveNoFileComp
	})
	outputFlag(c, &f.output, "wide", "json", "name")
	return c
}

// listed is a container as JSON has it: a contract with scripts.
type listed struct {
	Name   string `json:"name"`
	Engine string `json:"engine"`
	User   string `json:"user,omitempty"` // whose engine it is, if another's than root's or one's own
	// ID and PIDNS are null where the caller may not know them, PIDNS also where it
	// does not run.
	ID    *string `json:"id"`
	Init  *first  `json:"init"` // null where it does not run
	State string  `json:"state"`
	PIDNS *space  `json:"pidns"`
	Level int     `json:"level"`
	Procs int     `json:"procs"`
	// Visitors are in it now, those in containers inside of it not counted.
	Visitors int        `json:"visitors"`
	Via      []string   `json:"via,omitempty"` // what let them in, where it can be told
	Started  *time.Time `json:"started"`
	// What its engine has written down of it, see engine.Container.
	Restart    string      `json:"restart"`
	Reboots    bool        `json:"reboots"`
	StopSignal string      `json:"stop_signal"`
	Exit       *lastExit   `json:"exit"`       // null where it never ended, or runs again
	Supervisor *supervisor `json:"supervisor"` // null where there is none
	// FrozenBy is who froze it; null where it is not, or by others than outband.
	FrozenBy *frozenFacts `json:"frozen_by"`

	full string
}

type lastExit struct {
	Code int       `json:"code"`
	At   time.Time `json:"at"`
	OOM  bool      `json:"oom"`
}

type supervisor struct {
	Name string `json:"name"`
	PID  int    `json:"pid"`
}

type first struct {
	PID  int    `json:"pid"`
	PIDs []int  `json:"pids"`
	Kind string `json:"kind"`
	Exe  string `json:"exe"`
}

type space struct {
	Dev uint64 `json:"dev"`
	Ino ns.ID  `json:"ino"`
}

func (p *program) ls(ctx context.Context, w io.Writer, f *lsFlags) error {
	if ctx == nil {
		ctx = context.Background()
	}
	if names := engineNames(); f.engine != "" && !slices.Contains(names, f.engine) {
		return fmt.Errorf("%w: there is no engine called %q (%s)", errUsage, f.engine, strings.Join(names, ", "))
	}
	collectLess()
	var err error
	if p.processes, err = pidtree.Open(); err != nil {
		return err
	}
	defer p.processes.Close()
	wanted := fullGlance
	if !f.all && (f.output == "" || f.output == "name") {
		wanted = briefGlance
	}
	tree, containers, err := p.look(ctx, wanted)
	if err != nil {
		return err
	}
	proc, err := procfs.Open()
	if err != nil {
		return err
	}
	defer proc.Close()
	l := newLister(proc, tree)
	l.frozen = p.frozen(l)
	shown := slices.DeleteFunc(containers, func(c engine.Container) bool {
		return !f.all && c.Init.PID == 0 || f.engine != "" && c.Engine != f.engine
	})
	return printList(w, l.rows(shown), f.output)
}

// engineNames are the names that engines' containers begin with.
func engineNames() []string {
	names := []string{"demo"}
	for _, e := range all.Engines() {
		if more, ok := e.(engine.Prefixer); ok {
			names = append(names, more.Prefixes()...)
		}
		names = append(names, e.Name())
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// lister makes rows of containers.
type lister struct {
	proc   *procfs.FS
	tree   *pidtree.Tree
	own    []procfs.Group // the caller's, which are not frozen
	mounts func() []procfs.Mount
	still  map[string]bool // whether cgroups are frozen, by the text that tells them
	text   []byte          // where that is read
	boot   time.Time
	dev    uint64 // of all namespaces
	frozen []registry.Frozen
}

func newLister(proc *procfs.FS, tree *pidtree.Tree) *lister {
	l := &lister{proc: proc, tree: tree, still: map[string]bool{}, text: make([]byte, procfs.CgroupSize)}
	var mountinfo []byte
	if self, err := proc.Process(os.Getpid()); err == nil {
		mountinfo, _ = self.ReadFile("mountinfo")
		l.own, _ = self.Groups()
		if f, err := ns.OpenOf(self.File(), ns.PID); err == nil {
			var st unix.Stat_t
			if unix.Fstat(int(f.Fd()), &st) == nil {
				l.dev = st.Dev
			}
			f.Close()
		}
		self.Close()
	}
	l.mounts = func() []procfs.Mount { return procfs.ParseMounts(mountinfo) }
	l.boot = procfs.Boot()
	return l
}

// rows are the rows of containers.
func (l *lister) rows(containers []engine.Container) []listed {
	rows := make([]listed, len(containers))
	share.Each(len(containers), func() func(int) {
		own := *l
		own.still, own.text = map[string]bool{}, make([]byte, procfs.CgroupSize)
		return func(i int) { rows[i] = own.row(&containers[i]) }
	})
	return rows
}

func (l *lister) row(c *engine.Container) listed {
	r := listed{
		Name: c.Name, Engine: c.Engine, User: c.User, State: string(c.State), full: c.FullName(),
		Restart: c.Restart, Reboots: c.Reboots, StopSignal: c.StopSignal,
	}
	if c.ID != "" {
		r.ID = &c.ID
	}
	if c.Exit != nil {
		r.Exit = &lastExit{c.Exit.Code, c.Exit.At.UTC(), c.Exit.OOM}
	}
	if c.Supervisor != nil {
		r.Supervisor = &supervisor{c.Supervisor.Name, c.Supervisor.PID}
	}
	process := l.tree.Find(c.Init.PID)
	if c.Init.PID == 0 || process == nil || process.Start != c.Init.Start {
		return r
	}
	r.Init = &first{PID: c.Init.PID, PIDs: c.Init.PIDs}
	if r.Level = process.Level(); c.Init.PIDNS != 0 {
		r.PIDNS = &space{l.dev, c.Init.PIDNS}
	}
	l.count(&r, process, process)
	started := procfs.StartTime(l.boot, c.Init.Start)
	r.Started = &started
	r.Init.Kind, r.Init.Exe = inits.KindOf(l.proc, c.Init.PID)
	if c.State == engine.Running && l.isFrozen(c.Init.PID) {
		r.State = string(engine.Paused)
	}
	r.FrozenBy = frozenBy(l.frozen, registry.Init{PID: c.Init.PID, Started: c.Init.Start, PIDNS: uint64(c.Init.PIDNS)})
	return r
}

// count counts the processes of a container, and the visitors in its own pid
// namespace, and gathers what let them in.
func (l *lister) count(r *listed, of, at *pidtree.Process) {
	r.Procs++
	if at.Visitor && at.PIDNS == of.PIDNS {
		r.Visitors++
		if at.Via != "" && !slices.Contains(r.Via, at.Via) {
			r.Via = append(r.Via, at.Via)
		}
	}
	for child := range l.tree.Children(at) {
		l.count(r, of, child)
	}
}

// printList prints rows in a format.
func printList(w io.Writer, rows []listed, format string) error {
	switch format {
	case "json":
		return printJSON(w, rows)
	case "name":
		for _, r := range rows {
			if _, err := fmt.Fprintln(w, safetext.Escape(r.full)); err != nil {
				return err
			}
		}
		return nil
	}
	head := []string{"NAME", "ENGINE", "STATE", "PID", "INIT", "PROCS", "VISITORS", "AGE"}
	if format == "wide" {
		head = append(head, "VIA", "LEVEL", "PIDNS", "RESTART", "EXIT", "FROZEN BY", "ID", "EXE")
	}
	tw := newTable(w)
	fmt.Fprintln(tw, strings.Join(head, "\t"))
	for _, r := range rows {
		fmt.Fprintln(tw, strings.Join(r.cells(format == "wide"), "\t"))
	}
	return tw.Flush()
}

// cells are a row for people. Names of pods and of other users' containers are
// those that they are found by.
func (r *listed) cells(wide bool) []string {
	name := r.Name
	if r.User != "" || strings.HasPrefix(r.full, "pod:") {
		name = r.full
	}
	cells := []string{safetext.Escape(name), r.Engine, r.State, "-", "-", strconv.Itoa(r.Procs), strconv.Itoa(r.Visitors), "-"}
	if r.Init != nil {
		cells[3], cells[4], cells[7] = strconv.Itoa(r.Init.PID), r.Init.Kind, age(time.Since(*r.Started))
	}
	if !wide {
		return cells
	}
	extra := []string{orElse(strings.Join(r.Via, ", "), "-"), "-", "-", orElse(safetext.Escape(r.Restart), "-"), r.Exit.String(), r.FrozenBy.String(), "-", "-"}
	if r.Init != nil {
		extra[1], extra[7] = strconv.Itoa(r.Level), orElse(safetext.Escape(r.Init.Exe), "-")
	}
	if r.PIDNS != nil {
		extra[2] = fmt.Sprint(r.PIDNS.Ino)
	}
	if r.ID != nil {
		extra[6] = safetext.Escape(*r.ID)
	}
	return append(cells, extra...)
}

// String is how a container ended, for people.
func (e *lastExit) String() string {
	switch {
	case e == nil:
		return "-"
	case e.OOM:
		return fmt.Sprintf("%d (memory)", e.Code)
	}
	return fmt.Sprint(e.Code)
}

// age is a duration in its largest unit.
func age(d time.Duration) string {
	for _, unit := range []struct {
		size time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}} {
		if d >= unit.size {
			return fmt.Sprintf("%d%s", d/unit.size, unit.name)
		}
	}
	return fmt.Sprintf("%ds", max(d, 0)/time.Second)
}
