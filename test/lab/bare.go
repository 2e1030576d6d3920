// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
)

// Nspawn is systemd-nspawn without a systemd to register with. The host's
// network namespace is not the machine's, and the container has its own.
func Nspawn() *Engine {
	return &Engine{
		Name: "nspawn", Needs: []Program{{"systemd-nspawn", "systemd-container"}}, version: []string{"systemd-nspawn", "--version"},
		run: func(ctx context.Context, h *Host, name string, image *Image, o Options) (int, error) {
			root := "/var/lib/machines/" + name
			if o.NoMkdir || o.Filters != 0 {
				return 0, ErrNotOffered
			}
			if err := image.unpack(h.Path(root)); err != nil {
				return 0, err
			}
			args := append(append(nspawn(name, root), "--console=pipe"), o.Extra...)
			return h.background(ctx, h.inGroup(name, append(args, o.args(image)...)...))
		},
	}
}

// nspawn is the command line that all its containers have in common: nobody is
// told of them, and nothing of the host's is written to.
func nspawn(name, root string) []string {
	return []string{"systemd-nspawn", "-q", "--register=no", "--keep-unit", "--private-network", "--link-journal=no",
		"--resolv-conf=off", "--timezone=off", "-M", name, "-D", root}
}

// inGroup prepares a command that runs in a cgroup of its own, in the two
// hierarchies by which systemd tells units apart.
func (h *Host) inGroup(name string, args ...string) *Command {
	const join = `for d in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
	[ ! -e $d/cgroup.procs ] || { mkdir -p "$d/$0" && echo 0 >"$d/$0/cgroup.procs"; } || exit 1
done; exec "$@"`
	return h.Command(append([]string{"sh", "-c", join, name}, args...)...)
}

// Bubblewrap is root's bwrap: its own process is the first of the pid namespace,
// and the command the second.
func Bubblewrap() *Engine {
	return &Engine{
		Name: "bwrap", Needs: []Program{{"bwrap", "bubblewrap"}}, version: []string{"bwrap", "--version"},
		run: runBubblewrap,
	}
}

func runBubblewrap(ctx context.Context, h *Host, name string, image *Image, o Options) (int, error) {
	if o.NoMkdir {
		return 0, ErrNotOffered
	}
	root := "/lab/" + name
	if err := image.unpack(h.Path(root)); err != nil {
		return 0, err
	}
	args := []string{"bwrap", "--unshare-all", "--bind", root, "/", "--proc", "/proc", "--dev", "/dev",
		"--clearenv", "--setenv", "PATH", "/bin:/sbin"}
	opened := ""
	for i := range o.Filters {
		args = append(args, "--add-seccomp-fd", strconv.Itoa(3+i))
		opened += fmt.Sprintf(" %d<%s.filter", 3+i, root)
	}
	if err := h.write(root+".filter", string(allowAll), 0o644); err != nil {
		return 0, err
	}
	args = append([]string{"sh", "-c", `exec "$0" "$@"` + opened}, append(args, o.Extra...)...)
	return h.background(ctx, h.As(append(args, o.args(image)...)...))
}

// allowAll is a program of one instruction, BPF_RET SECCOMP_RET_ALLOW, in the
// byte order of the machines that there are engines for.
var allowAll = []byte{0x06, 0, 0, 0, 0, 0, 0xff, 0x7f}

// Firejail is root's firejail without a profile: its own process is the first of
// the pid namespace. It makes files and mounts in /run/firejail that stay.
func Firejail() *Engine {
	return &Engine{
		Name: "firejail", Needs: []Program{{"firejail", "firejail"}}, version: []string{"firejail", "--version"},
		setup: func(_ context.Context, h *Host) error {
			return errors.Join(h.write("/etc/firejail/firejail.config", "chroot yes\n", 0o644), h.write("/lab/kthread", "kthreadd\n", 0o644))
		},
		run: runFirejail,
	}
}

func runFirejail(ctx context.Context, h *Host, name string, image *Image, o Options) (int, error) {
	if o.NoMkdir || o.Filters != 0 {
		return 0, ErrNotOffered
	}
	root := "/lab/" + name
	if err := image.unpack(h.Path(root)); err != nil {
		return 0, err
	}
	for _, dir := range []string{"/dev", "/etc", "/proc", "/run", "/sys", "/tmp", "/var/tmp"} { // it wants these
		if err := os.MkdirAll(h.Path(root+dir), 0o755); err != nil {
			return 0, err
		}
	}
	// Where it sees no process of the kernel's it takes itself for contained
	// already, and only executes the command.
	const start = `mount --bind /lab/kthread /proc/1/comm && exec "$@"`
	args := append([]string{"unshare", "--mount", "sh", "-c", start, "sh", "firejail", "--noprofile", "--quiet", "--chroot=" + root}, o.Extra...)
	cmd := h.Command(append(args, o.args(image)...)...)
	cmd.Env = []string{"PATH=/bin:/sbin:/usr/bin"}
	return h.background(ctx, cmd)
}

// Unshare is unshare(1) and a chroot: namespaces and nothing else.
func Unshare() *Engine {
	return &Engine{
		Name: "unshare", Needs: []Program{{"unshare", "util-linux"}}, version: []string{"unshare", "--version"},
		run: func(ctx context.Context, h *Host, name string, image *Image, o Options) (int, error) {
			if o.NoMkdir || o.Filters != 0 {
				return 0, ErrNotOffered
			}
			root := "/lab/" + name
			if err := image.unpack(h.Path(root)); err != nil {
				return 0, err
			}
			args := append([]string{"unshare", "--fork", "--pid", "--mount", "--net", "--ipc", "--uts", "--kill-child",
				"--root=" + root, "--mount-proc"}, o.Extra...)
			cmd := h.As(append(args, o.args(image)...)...)
			cmd.Env = []string{"PATH=/bin:/sbin"}
			return h.background(ctx, cmd)
		},
	}
}

// rootless is an engine as the host's ordinary user runs it.
func rootless(e *Engine, more ...Program) *Engine {
	root := e.setup
	delete(e.words, Pause) // takes a cgroup of its own
	e.Name, e.User, e.Needs = e.Name+"-rootless", &User{userID, userID}, append(e.Needs, more...)
	e.setup = func(ctx context.Context, h *Host) error {
		if root != nil {
			if err := root(ctx, h); err != nil {
				return err
			}
		}
		return h.addUser()
	}
	return e
}

// BubblewrapRootless is a user's bwrap.
func BubblewrapRootless() *Engine { return rootless(Bubblewrap()) }

// UnshareRootless is a user's unshare, who is root inside.
func UnshareRootless() *Engine {
	e := rootless(Unshare())
	run := e.run
	e.run = func(ctx context.Context, h *Host, name string, image *Image, o Options) (int, error) {
		o.Extra = append([]string{"--user", "--map-root-user"}, o.Extra...)
		return run(ctx, h, name, image, o)
	}
	return e
}
