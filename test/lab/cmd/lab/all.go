// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/outband/outband/test/lab"
)

// beside are engines that get on with each other, and a container of each.
func beside() []struct {
	engine *lab.Engine
	name   string
} {
	return []struct {
		engine *lab.Engine
		name   string
	}{
		{lab.LXCRootless(), "chat"}, // before the user has other files, which its set-up would own
		{lab.Docker(), "web"}, {lab.DockerRootless(), "shop"}, {lab.Podman(), "db"}, {lab.PodmanRootless(), "notes"},
		{lab.CRI(), "front"}, {lab.Containerd(), "cache"}, {lab.LXC(), "mail"}, {lab.Nspawn(), "build"}, {lab.RunC(), "job"},
		{lab.Crun(), "task"}, {lab.Bubblewrap(), "sandbox"}, {lab.Firejail(), "jail"}, {lab.Unshare(), "nameless"},
	}
}

// showAll starts a container of each engine on one host, and shows what the
// program at path says of them.
func showAll(ctx context.Context, w io.Writer, path string) (err error) {
	program, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	image, err := lab.BusyboxImage()
	if err != nil {
		return err
	}
	host, err := lab.Start(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, host.Close()) }()
	if err := os.WriteFile(host.Path("/usr/local/bin/outband"), program, 0o755); err != nil {
		return err
	}
	for _, b := range beside() {
		if missing := b.engine.Missing(); missing != "" {
			return fmt.Errorf("%s needs %s: make deps", b.engine.Name, missing)
		}
		with, err := host.With(ctx, b.engine)
		if err != nil {
			return err
		}
		if _, err := with.Run(ctx, b.name, image, lab.Options{}); err != nil {
			return err
		}
	}
	for _, line := range []string{"outband ls", "outband enter db -- ps", "outband tree | cut -c1-100"} {
		out, err := host.Do(ctx, "sh", "-c", line)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "$ %s\n%s\n", line, out)
	}
	return nil
}
