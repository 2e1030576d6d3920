// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	engines "github.com/outband/outband/test/lab"
)

// namedBeside is how many other containers there are where names are looked up.
const namedBeside = 9

// nameFigures measure on a host with a real docker what it costs to find a
// container by its name, and to offer names to a shell.
func (l *lab) nameFigures(ctx context.Context, s scale) (figures []figure, err error) {
	docker := engines.Docker()
	if missing := docker.Missing(); missing != "" {
		l.missing("names: %s is missing", missing)
		return nil, nil
	}
	host, err := engines.Start(ctx, docker)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, host.Close()) }()
	pid, err := l.nameContainers(ctx, host)
	if err != nil {
		return nil, err
	}
	enter := func(target string) []string { return []string{"outband", "enter", target, "--", "/bin/true"} }
	field := [][]string{enter("pid:" + strconv.Itoa(pid)), enter("docker:named"), enter("named"), {"outband", "__complete", "enter", ""}}
	taken := make([][]float64, len(field))
	rounds := min(s.rounds, 100)
	for round := range rounds + 1 {
		for i, argv := range field {
			begin := time.Now()
			if _, err := host.Do(ctx, argv...); err != nil {
				return nil, err
			}
			if round > 0 {
				taken[i] = append(taken[i], time.Since(begin).Seconds()*1000)
			}
		}
	}
	median := func(i int) float64 { return summarize(taken[i]).Median }
	how := func(i int) string {
		return fmt.Sprintf("%d times in turn with `enter pid:N`, %d docker containers, medians %.1f - %.1f", rounds, namedBeside+1, median(i), median(0))
	}
	return []figure{
		{"`enter docker:NAME`, added", median(1) - median(0), 5, "ms", how(1)},
		{"`enter NAME`, added", median(2) - median(0), 0, "ms", how(2)},
		{"completion of names", median(3), 50, "ms", fmt.Sprintf("`outband __complete enter \"\"` as a shell calls it, %d times, %d docker containers", rounds, namedBeside+1)},
	}, nil
}

// nameContainers starts what is named, and returns its first process.
func (l *lab) nameContainers(ctx context.Context, host *engines.Host) (pid int, err error) {
	program, err := os.ReadFile(l.outband)
	if err == nil {
		err = os.WriteFile(host.Path("/usr/local/bin/outband"), program, 0o755)
	}
	if err != nil {
		return 0, err
	}
	image, err := engines.BusyboxImage()
	if err != nil {
		return 0, err
	}
	for i := range namedBeside {
		if _, err := host.Run(ctx, fmt.Sprintf("other-%d", i), image, engines.Options{}); err != nil {
			return 0, err
		}
	}
	named, err := host.Run(ctx, "named", image, engines.Options{})
	if err != nil {
		return 0, err
	}
	return named.HostPid, nil
}
