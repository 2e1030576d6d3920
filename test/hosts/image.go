// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// recipe is what is put into a host. job.sh goes in with the second drive.
//
//go:embed recipe
var recipe embed.FS

// recipeFiles are those that an image depends on.
var recipeFiles = []string{"customize.sh", "init.sh", "outband.service", "outband.target"}

// Bounds of the steps on the way to an image, and its size, which is that of a
// file with holes.
const (
	buildTime = 15 * time.Minute
	drive     = "3000M"
)

// mirror is where Debian's packages come from; apt's own settings (a proxy)
// apply.
const mirror = "http://deb.debian.org/debian"

// mmdebstrap is the command that makes a host's root file system. The sources
// are those of the root alone.
func (h host) mmdebstrap(root, recipe, out string) []string {
	args := []string{"mmdebstrap", "--variant=minbase", "--architectures=amd64",
		"--include=" + strings.Join(append(slices.Clone(always), h.packages...), ","),
		"--aptopt=Acquire::Check-Valid-Until \"false\"", "--aptopt=APT::Install-Recommends \"false\""}
	for _, path := range []string{"/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/etc/kernel/postinst.d/*"} {
		args = append(args, "--dpkgopt=path-exclude="+path)
	}
	return append(args, "--dpkgopt=force-unsafe-io",
		fmt.Sprintf("--customize-hook=sh %s/customize.sh \"$1\" %s %s", recipe, recipe, out),
		h.name, root, "deb "+mirror+" "+h.name+" main")
}

// build makes the files of a host in dir: disk, kernel, initrd, versions.
func (h host) build(ctx context.Context, dir string) error {
	if os.Geteuid() != 0 {
		return errors.New("making an image takes root")
	}
	for name, pkg := range map[string]string{"mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs"} {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("needs the command %s (package %s, or make deps)", name, pkg)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, buildTime)
	defer cancel()
	work, root := filepath.Join(dir, "recipe"), filepath.Join(dir, "root")
	if err := writeRecipe(work, recipeFiles); err != nil {
		return err
	}
	if err := fenced(ctx, h.mmdebstrap(root, work, dir)); err != nil {
		return err
	}
	if err := makeDrive(ctx, root, filepath.Join(dir, "disk"), drive); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(root), os.RemoveAll(work))
}

// writeRecipe writes files of the recipe to a directory.
func writeRecipe(dir string, names []string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, name := range names {
		b, err := recipe.ReadFile("recipe/" + name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// fenced runs a command in pid and mount namespaces of its own: what it has
// mounted and started ends with it, however it ends.
func fenced(ctx context.Context, args []string) error {
	script := `mount -t proc proc /proc && exec "$@"`
	cmd := exec.CommandContext(ctx, "nice", append([]string{"-n", "19", "sh", "-c", script, "sh"}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID, Unshareflags: unix.CLONE_NEWNS, // the latter makes mounts private too
	}
	return run(ctx, cmd)
}

// makeDrive makes an ext4 file system of a directory, without mounting it.
func makeDrive(ctx context.Context, dir, file, size string) error {
	cmd := exec.CommandContext(ctx, "mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", dir, file, size)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	return run(ctx, cmd)
}

// run runs a command that ends with this process. The error has the end of what
// it said.
func run(ctx context.Context, cmd *exec.Cmd) error {
	var said tail
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.WaitDelay = 5 * time.Second
	err := tied(cmd, cmd.Run)
	if ctx.Err() != nil {
		err = errors.Join(ctx.Err(), err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", filepath.Base(cmd.Path), err, strings.TrimSpace(said.String()))
	}
	return nil
}

// tied calls f, which starts cmd and waits for it, so that cmd is killed when
// this process ends: the signal comes when the thread that forked does.
func tied(cmd *exec.Cmd, f func() error) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return f()
}

// tail keeps the end of what is written to it.
type tail struct{ b bytes.Buffer }

// tailSize is how much of a command's words an error has.
const tailSize = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.b.Write(p)
	if over := t.b.Len() - tailSize; over > 0 {
		t.b.Next(over)
	}
	return len(p), nil
}

func (t *tail) String() string { return t.b.String() }

var _ io.Writer = (*tail)(nil)
