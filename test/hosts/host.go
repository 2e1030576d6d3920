// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
)

// A host is a Debian suite with a kernel and engines of its own.
type host struct {
	name     string // of the suite too
	packages []string
	selected []job // what runs without -pkg
}

// A job is one run of a package's test binary.
type job struct {
	pkg  string // as go test names it, from the module's root
	run  string // regular expression of -run; "" is all
	skip string // the same of -skip
	user string // root or tester
}

// always are the packages that every host has.
var always = strings.Fields("linux-image-cloud-amd64 systemd-sysv dbus udev libpam-systemd apparmor busybox-static bubblewrap uidmap " +
	"iproute2 procps util-linux kmod runc crun strace")

// hosts are all there are. What a newer suite has and an older has not is left
// out there.
var hosts = []host{
	{
		name:     "sid",
		packages: strings.Fields("docker.io docker-cli podman containerd lxc incus systemd-container slirp4netns fuse-overlayfs dbus-user-session"),
		selected: []job{
			{pkg: "./test/hosts/guest", user: "root"},
			{pkg: "./test/hosts/guest", user: "tester"},
			{pkg: "./internal/cgroup", user: "root"},
		},
	},
	{
		name:     "bookworm",
		packages: strings.Fields("podman lxd systemd-container dbus-user-session"),
		selected: []job{
			{pkg: "./test/hosts/guest", user: "root"},
			{pkg: "./test/hosts/guest", user: "tester"},
		},
	},
	{
		name:     "bullseye",
		packages: strings.Fields("dbus-user-session"),
		selected: []job{
			{pkg: "./test/hosts/guest", user: "root"},
			{pkg: "./test/hosts/guest", user: "tester"},
		},
	},
}

// find returns the hosts of a list of names that commas separate.
func find(names string) ([]host, error) {
	var found []host
next:
	for name := range strings.SplitSeq(names, ",") {
		for _, h := range hosts {
			if h.name == name {
				found = append(found, h)
				continue next
			}
		}
		known := make([]string, len(hosts))
		for i, h := range hosts {
			known[i] = h.name
		}
		return nil, fmt.Errorf("no host %q: there are %s", name, strings.Join(known, ", "))
	}
	return found, nil
}
