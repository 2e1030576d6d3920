// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// binary is what a test binary is called, in its package's directory.
const binary = "package.test"

// testTime bounds one test binary, from inside.
const testTime = 20 * time.Minute

// A payload is the second drive of a run: the test binaries, their testdata, the
// command, and what is to be done with them.
type payload struct {
	root  string // of the module
	host  host
	jobs  []job
	cover bool
}

// make builds the drive in dir and returns its file.
func (p payload) make(ctx context.Context, dir string) (string, error) {
	tree := filepath.Join(dir, "payload")
	if err := writeRecipe(tree, []string{"job.sh"}); err != nil {
		return "", err
	}
	if err := p.command(ctx, filepath.Join(tree, "bin/outband")); err != nil {
		return "", err
	}
	built := map[string]bool{}
	for _, j := range p.jobs {
		if built[j.pkg] {
			continue
		}
		built[j.pkg] = true
		if err := p.test(ctx, j.pkg, filepath.Join(tree, "pkg", clean(j.pkg))); err != nil {
			return "", err
		}
	}
	for name, text := range map[string]string{
		"jobs": p.script(), "host": p.host.name, "require": os.Getenv("OUTBAND_REQUIRE"),
	} {
		if err := os.WriteFile(filepath.Join(tree, name), []byte(text), 0o644); err != nil {
			return "", err
		}
	}
	file := filepath.Join(dir, "payload.img")
	return file, makeDrive(ctx, tree, file, "1000M")
}

// clean is a package's directory below the module's root.
func clean(pkg string) string { return filepath.Clean(strings.TrimPrefix(pkg, "./")) }

// script is what job.sh does: one line for each job.
func (p payload) script() string {
	var b strings.Builder
	for n, j := range p.jobs {
		args := []string{"-test.v", "-test.count=1", "-test.timeout=" + testTime.String()}
		for flag, value := range map[string]string{"run": j.run, "skip": j.skip} {
			if value != "" {
				args = append(args, "-test."+flag+"="+value)
			}
		}
		if p.cover {
			args = append(args, fmt.Sprintf("-test.coverprofile=/tmp/outband/out/cover-%d", n))
		}
		fmt.Fprintf(&b, "%s %s %s", j.user, quote(j.pkg), quote("/mnt/pkg/"+clean(j.pkg)))
		for _, arg := range args {
			b.WriteString(" " + quote(arg))
		}
		b.WriteString("\n")
	}
	return b.String()
}

// quote makes one word for a shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func (p payload) command(ctx context.Context, out string) error {
	args := []string{"build", "-o", out}
	if p.cover {
		args = append(args, "-cover", "-coverpkg=./...")
	}
	return p.gotool(ctx, append(args, "./cmd/outband")...)
}

// test builds a package's test binary, and puts its testdata beside it.
func (p payload) test(ctx context.Context, pkg, dir string) error {
	args := []string{"test", "-c", "-vet=off", "-o", filepath.Join(dir, binary)}
	if p.cover {
		args = append(args, "-cover", "-coverpkg=./...")
	}
	if err := p.gotool(ctx, append(args, pkg)...); err != nil {
		return err
	}
	if !exists(filepath.Join(dir, binary)) {
		return fmt.Errorf("%s has no tests", pkg)
	}
	data := filepath.Join(p.root, clean(pkg), "testdata")
	if _, err := os.Stat(data); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return os.CopyFS(filepath.Join(dir, "testdata"), os.DirFS(data))
}

// gotool runs go, for static programs of the host's architecture.
func (p payload) gotool(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = p.root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	return run(ctx, cmd)
}
