// SPDX-License-Identifier: Apache-2.0

// Package outband gets into a running container from the outside, whatever made
// it, and leaves nothing behind.
//
// A Target is a container that is held, by its first process. A command runs in
// it confined exactly as that process is: namespaces, cgroup, identity,
// capabilities, no_new_privs, limits.
//
//	t, err := outband.Open(ctx, "pid:1234")
//	defer t.Close()
//	out, err := t.Command("ps", "ax").Output()
//
// It may be used from any goroutine of any program; the caller's own
// namespaces, threads and descriptors stay as they are. It needs Linux 5.9 and
// the right to enter: root, or the owner of a rootless container.
package outband
