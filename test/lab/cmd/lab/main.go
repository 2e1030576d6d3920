// SPDX-License-Identifier: Apache-2.0

// Command lab starts a container of a real engine on a host of its own, for
// people who want to try something on it, and ends both on Ctrl-C.
//
//	go run ./test/lab/cmd/lab list
//	go run ./test/lab/cmd/lab run ENGINE [IMAGE]
//	go run ./test/lab/cmd/lab all OUTBAND
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/test/lab"
)

const usage = `usage: lab list
       lab run ENGINE [IMAGE]
       lab all OUTBAND    a container of each engine on one host, as that program shows them
IMAGE is busybox (the default) or scratch; for nspawn also an init to boot, as
in "lab run nspawn systemd". It takes root.
`

func main() {
	lab.Main(os.Args) // does not return in the processes of a host
	ctx, cancel := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	err := run(ctx, os.Args[1:])
	cancel()
	switch {
	case errors.Is(err, errUsage):
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("usage")

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 1 && args[0] == "list":
		list()
		return nil
	case len(args) == 2 && args[0] == "all":
		return showAll(ctx, os.Stdout, args[1])
	case len(args) == 2 && args[0] == "run":
		return runOne(ctx, args[1], "busybox")
	case len(args) == 3 && args[0] == "run":
		return runOne(ctx, args[1], args[2])
	}
	return errUsage
}

// list prints the engines, and what is missing for them.
func list() {
	for _, e := range lab.Engines() {
		state := "ready"
		if missing := e.Missing(); missing != "" {
			state = "missing: " + missing
		}
		fmt.Printf("%-16s %s\n", e.Name, state)
	}
}

// images are what can be run, by name.
var images = map[string]func() (*lab.Image, error){"busybox": lab.BusyboxImage, "scratch": lab.ScratchImage}

// find returns the engine of that name, which has all it needs.
func find(name string) (*lab.Engine, error) {
	var names []string
	for _, e := range lab.Engines() {
		names = append(names, e.Name)
		if e.Name != name {
			continue
		}
		if missing := e.Missing(); missing != "" {
			return nil, fmt.Errorf("%s needs %s: make deps", name, missing)
		}
		return e, nil
	}
	return nil, fmt.Errorf("no engine %q; there are %s", name, strings.Join(names, ", "))
}

// starter returns what starts an image, or boots an init.
func starter(engine *lab.Engine, image string) (func(context.Context, *lab.Host) (*lab.Container, error), error) {
	for _, s := range lab.Systems() {
		if s.Name == image && engine.Name == "nspawn" {
			return func(ctx context.Context, h *lab.Host) (*lab.Container, error) { return h.Boot(ctx, s) }, nil
		}
	}
	build, ok := images[image]
	if !ok {
		return nil, fmt.Errorf("no image %q; there are busybox and scratch, and inits for nspawn", image)
	}
	i, err := build()
	return func(ctx context.Context, h *lab.Host) (*lab.Container, error) {
		return h.Run(ctx, "web", i, lab.Options{})
	}, err
}

// runOne starts a container, says how to get at it, and ends it with ctx.
func runOne(ctx context.Context, engineName, imageName string) (err error) {
	engine, err := find(engineName)
	if err != nil {
		return err
	}
	begin, err := starter(engine, imageName)
	if err != nil {
		return err
	}
	host, err := lab.Start(ctx, engine)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, host.Close()) }()
	c, err := begin(ctx, host)
	if err != nil {
		return err
	}
	fmt.Printf(`%s %s runs the container %s of %s
  its first process: %d here, %d on its host
  enter it:          outband enter %d
  on its host:       nsenter -t %d -a        (a machine of its own: mounts, network, cgroups)
`, engine.Name, host.Version(ctx), c.Name, imageName, c.Pid, c.HostPid, c.Pid, host.Init)
	if exec := c.ExecArgs("sh"); exec != nil {
		fmt.Printf("  the engine's way:  %s      (there)\n", strings.Join(exec, " "))
	}
	fmt.Println("Ctrl-C ends it.")
	<-ctx.Done()
	return nil
}
