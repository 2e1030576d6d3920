// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// bootTime bounds the way from the first process to a system that is up.
const bootTime = 60 * time.Second

// System is a root file system with an init to boot.
type System struct {
	// Name is what the init is called.
	Name string
	// Args are the first process.
	Args []string

	packages []string          // of Debian; nil: the busybox image
	programs map[string]string // the machine's static programs that go in, by their place inside
	files    map[string]string // configuration
	ready    string            // a shell's words that succeed inside once it is up; "": at once
}

// Systems are all of them.
func Systems() []*System {
	return []*System{
		{Name: "systemd", Args: []string{"/sbin/init"}, packages: []string{"systemd-sysv", "dbus"},
			ready: "systemctl is-system-running | grep -qE 'running|degraded'"},
		{Name: "sysvinit", Args: []string{"/sbin/init"}, packages: []string{"sysvinit-core"}, ready: "runlevel | grep -q '[2-5]$'"},
		{Name: "openrc", Args: []string{"/sbin/openrc-init"}, packages: []string{"openrc"}, ready: "rc-status -r | grep -q default"},
		{Name: "runit", Args: []string{"/sbin/init"}, packages: []string{"runit-init"}, ready: "pidof runsvdir"},
		{Name: "finit", Args: []string{"/sbin/finit"}, packages: []string{"finit"}, ready: "/usr/lib/finit/initctl runlevel | grep -q '[2-5]$'"},
		{Name: "s6", Args: []string{"/usr/bin/s6-svscan", "/service"}, packages: []string{"s6"},
			files: map[string]string{"service/.keep": ""}, ready: "test -e /service/.s6-svscan/control"},
		{Name: "dumb-init", Args: []string{"/usr/bin/dumb-init", "sleep", "1000000"}, packages: []string{"dumb-init"}, ready: "pidof sleep"},
		{Name: "busybox-init", Args: []string{"/bin/init"}, ready: "pidof sleep", files: map[string]string{
			"etc/inittab": "::sysinit:/bin/true\n::respawn:/bin/sleep 1000000\n::ctrlaltdel:/bin/reboot\n"}},
		{Name: "tini", Args: []string{"/bin/tini", "sleep", "1000000"}, programs: map[string]string{"bin/tini": "tini-static"}, ready: "pidof sleep"},
		{Name: "catatonit", Args: []string{"/bin/catatonit", "sleep", "1000000"}, programs: map[string]string{"bin/catatonit": "catatonit"},
			ready: "pidof sleep"},
	}
}

// SystemNeeds are what booting takes beyond nspawn.
func SystemNeeds() []Program {
	return append([]Program{{"nsenter", "util-linux"}, {"tini-static", "tini"}, {"catatonit", "catatonit"}}, debianNeeds...)
}

// OwnUsers has nspawn give a system a user namespace of its own, in which it may
// be switched off.
var OwnUsers = []string{"--private-users=524288:65536", "--private-users-ownership=auto"}

// Boot boots a system under nspawn, which has to be the host's engine and takes
// more of its words, on a file system of its own: some inits make their root
// read-only in the end. One that was booted before has to have ended.
func (h *Host) Boot(ctx context.Context, s *System, extra ...string) (*Container, error) {
	c, err := h.boot(ctx, s, extra)
	if err != nil {
		return nil, fmt.Errorf("boot %s: %w", s.Name, err)
	}
	return c, nil
}

func (h *Host) boot(ctx context.Context, s *System, extra []string) (*Container, error) {
	root := "/var/lib/machines/" + s.Name
	if err := h.fill(ctx, s, root); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, bootTime)
	defer cancel()
	args := append(append(nspawn(s.Name, root), "--console=read-only"), extra...)
	cmd := h.inGroup(s.Name, append(args, s.Args...)...)
	pid, err := h.background(ctx, cmd)
	if err != nil {
		return nil, err
	}
	c := &Container{Name: s.Name, HostPid: pid, host: h, parent: h.parent(pid)}
	if c.Pid, err = h.HostPID(pid); err != nil {
		return nil, err
	}
	err = poll(ctx, func() error {
		if cmd.Ended() {
			return fmt.Errorf("%w: it has ended", errFinal)
		}
		if s.ready == "" {
			return nil
		}
		_, err := h.Do(ctx, "nsenter", "-t", strconv.Itoa(pid), "-a", "sh", "-c", s.ready)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%w: the console says: %s", err, tail(cmd.Said(), 1000))
	}
	return c, nil
}

// fill makes the system's root file system.
func (h *Host) fill(ctx context.Context, s *System, root string) error {
	archive := ""
	var err error
	if s.packages != nil {
		if archive, err = debian(ctx, s.packages...); err != nil {
			return err
		}
	}
	if _, err := h.Do(ctx, "sh", "-c", `mkdir -p "$0" && { ! mountpoint -q "$0" || umount "$0"; } && mount -t tmpfs -o size=1g,mode=755 tmpfs "$0"`, root); err != nil {
		return err
	}
	if archive != "" {
		err = h.extract(ctx, archive, root)
	} else {
		err = h.fillBusybox(s, root)
	}
	for name, content := range s.files {
		err = errors.Join(err, h.write(root+"/"+name, content, 0o644))
	}
	return err
}

// extract unpacks a tar of the machine's on the host.
func (h *Host) extract(ctx context.Context, archive, root string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	cmd := h.Command("tar", "-C", root, "-xpf", "-")
	cmd.Stdin = f
	_, err = cmd.output(ctx)
	return err
}

// fillBusybox writes the busybox image, with programs of the machine's.
func (h *Host) fillBusybox(s *System, root string) error {
	image, err := BusyboxImage()
	if err != nil {
		return err
	}
	for place, name := range s.programs {
		path, err := exec.LookPath(name)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if strings.Contains(string(data), "/ld-linux") {
			return fmt.Errorf("%s is not static", path)
		}
		image.Files = append(image.Files, File{Path: place, Mode: 0o755, Data: data})
	}
	return image.fill(h.Path(root))
}
