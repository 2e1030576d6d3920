// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/outband/outband"
	"github.com/outband/outband/internal/safetext"
	"github.com/outband/outband/ns"
)

// enterFlags are the flags of enter as they are typed.
type enterFlags struct {
	user, dir, only, cgroup, envFile, acceptLoss, output string
	env                                                  []string
	privileged, passStreams, leave, explain, noInput     bool
	detach, quiet, debug, exposeHost, interactive        bool
	terminal, noTerminal, thaw                           bool
	timeout                                              time.Duration
}

func (p *program) enterCommand() *cobra.Command {
	var f enterFlags
	c := &cobra.Command{
		Use:     "enter TARGET [flags] [--] [COMMAND ARG...]",
		Aliases: enterNames[1:],
		Short:   "Run a command in a container, confined as the container is",
		Long: `Run a command in a container: in its namespaces and cgroup, with the identity,
capabilities, no_new_privs, limits, environment and working directory of its
first process. Without COMMAND: the user's shell from the container's passwd,
else /bin/sh.

Flags end at the first word after TARGET. On a terminal COMMAND gets one of the
container's own; one's own is in raw mode meanwhile. A redirected standard error
stays apart. Otherwise standard input, output and error are relayed by pipes;
what COMMAND does not read of a regular file stays unread, of a pipe it is
consumed.

Exit code: the command's own; 128+n when signal n ended it; 124 timeout; 125
outband failed; 126 not executable; 127 not found.`,
		Example: `  outband enter 1234
  outband enter 1234 -- ps ax
  outband enter pidns:4026532181 -u 1000:1000 -w /srv id
  outband enter cgroup:/lab --explain`,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: p.completeTargets,
		RunE: func(c *cobra.Command, args []string) error {
			target, command, err := split(c.Flags(), args)
			if err != nil {
				return err
			}
			if help, _ := c.Flags().GetBool("help"); help {
				return c.Help()
			}
			return p.enter(&f, target, command)
		},
	}
	f.register(c.Flags())
	return c
}

func (f *enterFlags) register(fl *pflag.FlagSet) {
	fl.SetInterspersed(false)
	fl.StringVarP(&f.user, "user", "u", "", "run as `USER[:GROUP]`: names of the target, or numbers")
	fl.StringVarP(&f.dir, "workdir", "w", "", "working `directory` inside")
	fl.StringArrayVarP(&f.env, "env", "e", nil, "set `NAME=VALUE`, or copy NAME from here (repeatable)")
	fl.StringVar(&f.envFile, "env-file", "", "`file` of NAME=VALUE lines")
	fl.StringVar(&f.only, "only", "", "join only these namespaces: `KINDS` of pid,mnt,net,ipc,uts,user,cgroup,time")
	fl.BoolVar(&f.exposeHost, "expose-host", false, "allow --only that would show the host to the target")
	fl.BoolVar(&f.privileged, "privileged", false, "all capabilities in the target's user namespace, none of its filters")
	fl.StringVar(&f.cgroup, "cgroup", "target", "where the command is accounted: `target|none`")
	fl.StringVar(&f.acceptLoss, "accept-loss", "", "parts of the confinement that may be missing: `LIST` of seccomp,cgroup,lsm,limits")
	fl.BoolVar(&f.passStreams, "pass-streams", false, "hand in one's own descriptors 0, 1, 2")
	fl.BoolVar(&f.leave, "leave", false, "what the command left running stays when it ends")
	fl.DurationVar(&f.timeout, "timeout", 0, "end the command after this `duration`")
	fl.BoolVar(&f.explain, "explain", false, "print the plan, do nothing")
	fl.StringVarP(&f.output, "output", "o", "", "format of --explain: `json`")
	fl.BoolVarP(&f.noInput, "no-stdin", "n", false, "read no standard input")
	fl.BoolVarP(&f.detach, "detach", "d", false, "do not wait; print the session's id")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "no notes on standard error")
	fl.BoolVar(&f.debug, "debug", false, "print the plan's notes and what takes how long")
	fl.BoolVarP(&f.terminal, "tty", "t", false, "a terminal always, of 80x24 where there is none here")
	fl.BoolVarP(&f.noTerminal, "no-tty", "T", false, "a terminal never")
	fl.BoolVarP(&f.interactive, "interactive", "i", false, "accepted without effect")
	fl.BoolVar(&f.thaw, "thaw", false, "thaw a frozen target, which stays so")
	_ = fl.MarkHidden("interactive")
}

// split takes TARGET, the flags behind it and COMMAND apart: flags end at the
// first word after TARGET.
func split(fl *pflag.FlagSet, args []string) (target string, command []string, err error) {
	if len(args) == 0 {
		return "", nil, errors.New("enter: no TARGET given")
	}
	if err := fl.Parse(args[1:]); err != nil {
		return "", nil, fmt.Errorf("enter: %w", err)
	}
	return args[0], fl.Args(), nil
}

// enter runs one command in a container.
func (p *program) enter(f *enterFlags, target string, command []string) error {
	if err := p.enterTarget(f, target, command); err != nil {
		return enterError(target, err)
	}
	return nil
}

// enterError gives an error of enter its exit code.
func enterError(target string, err error) error {
	var status exitStatus
	if errors.As(err, &status) {
		return status
	}
	code := codeUsage
	switch {
	case errors.Is(err, outband.ErrExec) && errors.Is(err, fs.ErrNotExist):
		code = 127
	case errors.Is(err, outband.ErrExec):
		code = 126
	}
	return &verbError{"enter " + safetext.Escape(target), err, code}
}

func (p *program) enterTarget(f *enterFlags, name string, command []string) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	t, err := outband.OpenIn(ctx, name, p.runDir, engines()...)
	if err != nil {
		return err
	}
	defer t.Close()
	cmd := t.CommandContext(ctx, "")
	cmd.Args = command
	if err := f.apply(cmd); err != nil {
		return err
	}
	if err := f.lookUp(ctx, t, cmd); err != nil {
		return err
	}
	if f.explain {
		plan, err := cmd.Plan()
		if err != nil {
			return err
		}
		return explain(p.stdout, plan, f.output)
	}
	v := visit{program: p, enterFlags: f, target: t, cmd: cmd, cancel: cancel}
	return v.run()
}

// apply turns flags into the fields of cmd.
func (f *enterFlags) apply(cmd *outband.Cmd) (err error) {
	switch {
	case f.terminal && (f.noTerminal || f.passStreams || f.detach):
		return fmt.Errorf("%w: -t together with -T, -d or --pass-streams", outband.ErrInvalid)
	case f.cgroup != "target" && f.cgroup != "none":
		return fmt.Errorf("%w: --cgroup %q is neither target nor none", outband.ErrInvalid, f.cgroup)
	case f.output != "" && f.output != "json":
		return fmt.Errorf("%w: %q is no output format (json)", outband.ErrInvalid, f.output)
	}
	if f.only != "" {
		if cmd.Only, err = ns.ParseKinds(f.only); err != nil {
			return fmt.Errorf("%w: --only: %w", outband.ErrInvalid, err)
		}
	}
	if f.acceptLoss != "" {
		if cmd.AcceptLoss, err = outband.ParseLosses(f.acceptLoss); err != nil {
			return err
		}
	}
	if f.cgroup == "none" {
		cmd.Cgroup = outband.CgroupNone
	}
	cmd.Dir, cmd.Privileged, cmd.ExposeHost, cmd.Thaw = f.dir, f.privileged, f.exposeHost, f.thaw
	cmd.PassStreams, cmd.Leave, cmd.Detach = f.passStreams, f.leave, f.detach
	cmd.Terminal = f.wantsTerminal()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if f.noInput && !f.passStreams {
		cmd.Stdin = nil
	}
	cmd.Env, err = f.environment()
	return err
}

// lookUp asks the files of the target for what was given by name, and for the
// shell where there is no command. Nothing is read where neither is needed.
func (f *enterFlags) lookUp(ctx context.Context, t *outband.Target, cmd *outband.Cmd) (err error) {
	if f.user != "" {
		if cmd.User, err = t.LookupUser(ctx, f.user); err != nil {
			return err
		}
	}
	if len(cmd.Args) > 0 {
		return nil
	}
	shell, err := t.Shell(ctx, cmd.User)
	if err != nil {
		return err
	}
	cmd.Args, cmd.Paths = []string{shell}, []string{shell, "/bin/sh"}
	return nil
}

// environment gathers --env-file and --env; a bare NAME copies what the caller
// has, and nothing where it has none.
func (f *enterFlags) environment() ([]string, error) {
	var lines []string
	if f.envFile != "" {
		content, err := os.ReadFile(f.envFile)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(content)) {
			line = strings.TrimRight(line, "\r\n")
			if line != "" && !strings.HasPrefix(line, "#") {
				lines = append(lines, line)
			}
		}
	}
	var env []string
	for _, e := range append(lines, f.env...) {
		if strings.Contains(e, "=") {
			env = append(env, e)
			continue
		}
		if value, ok := os.LookupEnv(e); ok {
			env = append(env, e+"="+value)
		}
	}
	return env, nil
}
