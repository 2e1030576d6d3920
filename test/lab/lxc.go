// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"
	"strings"
)

// LXC is root's LXC.
func LXC() *Engine {
	return &Engine{
		Name: "lxc", version: []string{"lxc-start", "--version"},
		Needs:  []Program{{"lxc-start", "lxc"}, {"lxc-info", "lxc"}, {"lxc-attach", "lxc"}},
		run:    runLXC,
		exec:   func(name string) []string { return []string{"lxc-attach", "-n", name, "--"} },
		remove: func(name string) []string { return []string{"lxc-stop", "-k", "-n", name} },
		pid:    func(name string) []string { return []string{"lxc-info", "-p", "-H", "-n", name} },
		words:  words(map[Verb]string{Pause: "lxc-freeze -n", Resume: "lxc-unfreeze -n", Stop: "lxc-stop -k -n", Again: "lxc-start -n"}),
	}
}

// LXCRootless is a user's LXC: no cgroup of its own, and ids of the user's.
func LXCRootless() *Engine { return rootless(LXC(), Program{"newuidmap", "uidmap"}) }

// lxcIDs are those of a container with a user namespace of its own.
const lxcIDs = `lxc.idmap = u 0 100000 65536
lxc.idmap = g 0 100000 65536
`

// lxcConfig is a container without a network; what it runs is its init.
const lxcConfig = `lxc.uts.name = %[1]s
lxc.rootfs.path = dir:%[3]s/rootfs
lxc.net.0.type = empty
lxc.apparmor.profile = unconfined
lxc.cap.drop = sys_module mac_admin mac_override sys_time
lxc.mount.auto = proc:mixed sys:ro
lxc.init.cmd = %[2]s
lxc.environment = PATH=/bin:/sbin
lxc.tty.max = 1
lxc.pty.max = 1024
`

// noMkdirLXC is the profile of oci.go in LXC's words (lxc.container.conf(5)).
const noMkdirLXC = "2\ndenylist\nmkdir errno 30\nmkdirat errno 30\n"

func runLXC(ctx context.Context, h *Host, name string, image *Image, o Options) (int, error) {
	dir := "/var/lib/lxc/" + name
	if h.Engine.User != nil {
		dir = userHome + "/.local/share/lxc/" + name
	}
	if err := image.unpack(h.Path(dir + "/rootfs")); err != nil {
		return 0, err
	}
	config := fmt.Sprintf(lxcConfig, name, strings.Join(o.args(image), " "), dir)
	if h.Engine.User != nil || o.OwnUsers {
		config += lxcIDs
	}
	if h.Engine.User == nil && o.OwnUsers {
		const own = `chown -R 100000:100000 "$0/rootfs" && chmod 755 /var/lib/lxc "$0" &&
			echo root:100000:65536 > /etc/subuid && cp /etc/subuid /etc/subgid`
		if _, err := h.Do(ctx, "sh", "-c", own, dir); err != nil {
			return 0, err
		}
	}
	if h.Engine.User != nil {
		const own = `chown -R 1001:1001 /home/lab && chown -R 100000:100000 "$0/rootfs" && chmod 755 /home/lab`
		if _, err := h.Do(ctx, "sh", "-c", own, dir); err != nil {
			return 0, err
		}
	}
	if o.NoMkdir {
		if err := h.write(dir+"/seccomp", noMkdirLXC, 0o644); err != nil {
			return 0, err
		}
		config += "lxc.seccomp.profile = " + dir + "/seccomp\n"
	}
	if err := h.write(dir+"/config", config, 0o644); err != nil {
		return 0, err
	}
	log := "/tmp/" + name + ".log"
	args := append([]string{"lxc-start", "-n", name, "-o", log, "-l", "WARN"}, o.Extra...)
	if _, err := h.As(args...).output(ctx); err != nil {
		said, _ := h.Do(ctx, "cat", log)
		return 0, fmt.Errorf("%w: %s", err, said)
	}
	return number(h.As(h.Engine.pid(name)...).output(ctx))
}
