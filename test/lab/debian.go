// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// debianTime bounds the build of one root file system.
const debianTime = 8 * time.Minute

// debianNeeds are what builds one.
var debianNeeds = []Program{{"mmdebstrap", "mmdebstrap"}, {"tar", "tar"}}

// minbase makes a tar ($2) of Debian's smallest system with an apt, in memory
// mounted at $1.
const minbase = `set -eu
mount -t tmpfs -o size=2g none "$1"
mmdebstrap --quiet --variant=minbase --include=procps --aptopt='Acquire::Check-Valid-Until "false"' --dpkgopt=force-unsafe-io \
	--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
	bookworm "$1/root"
tar -C "$1/root" --numeric-owner --one-file-system -cpf "$2" .
`

// with makes a tar ($2) of another ($3) with packages. No daemon starts in it.
const with = `set -eu
work=$1 out=$2 base=$3
shift 3
mount -t tmpfs -o size=2g none "$work"
root=$work/root
mkdir "$root"
tar -C "$root" -xpf "$base"
cp /etc/resolv.conf "$root/etc/resolv.conf"
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
mount -t proc proc "$root/proc"
export DEBIAN_FRONTEND=noninteractive
chroot "$root" apt-get -q update
chroot "$root" apt-get -q -y -o Dpkg::Options::=--force-unsafe-io install --no-install-recommends "$@"
umount "$root/proc"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root"/var/cache/apt/archives/*.deb "$root/usr/sbin/policy-rc.d"
tar -C "$root" --numeric-owner --one-file-system -cpf "$out" .
`

// debian returns a tar of a Debian system with packages, from the cache or from
// the distribution's mirror.
func debian(ctx context.Context, packages ...string) (string, error) {
	for _, p := range debianNeeds {
		if _, err := exec.LookPath(p.Name); err != nil {
			return "", fmt.Errorf("needs the command %s (package %s)", p.Name, p.Package)
		}
	}
	c, err := openCache()
	if err != nil {
		return "", err
	}
	base, err := c.get(ctx, minbase+runtime.GOARCH, func(path string) error { return build(ctx, minbase, path) })
	if err != nil || len(packages) == 0 {
		return base, err
	}
	return c.get(ctx, minbase+with+runtime.GOARCH+strings.Join(packages, " "), func(path string) error {
		return build(ctx, with, path, append([]string{base}, packages...)...)
	})
}

// build runs a script as the first process of pid and mount namespaces, which end
// with it.
func build(ctx context.Context, script, out string, args ...string) error {
	work, err := os.MkdirTemp("", "outband-lab-")
	if err != nil {
		return err
	}
	defer os.Remove(work) // what was mounted is gone with the namespace
	log, err := memory("build")
	if err != nil {
		return err
	}
	defer log.Close()
	ctx, cancel := context.WithTimeout(ctx, debianTime)
	defer cancel()
	argv := []string{"-c", "mount -t proc proc /proc && " + script, "sh", work, out}
	cmd := exec.CommandContext(ctx, "sh", append(argv, args...)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL, Setpgid: true, Cloneflags: unix.CLONE_NEWPID,
		Unshareflags: unix.CLONE_NEWNS, // whose mounts package syscall makes private
	}
	runtime.LockOSThread() // the parent whose death it is
	defer runtime.UnlockOSThread()
	err = cmd.Run()
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("it was ended: %w", ctx.Err())
	}
	if err != nil {
		return fmt.Errorf("build a Debian system: %w: %s", err, tail(contents(log), 600))
	}
	return nil
}

// tail is the end of a text, of about n bytes.
func tail(text string, n int) string {
	text = strings.TrimSpace(text)
	if len(text) <= n {
		return text
	}
	return "…" + text[len(text)-n:]
}
