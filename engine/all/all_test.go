// SPDX-License-Identifier: Apache-2.0

package all_test

import (
	"testing"

	"github.com/outband/outband/engine"
	"github.com/outband/outband/engine/all"
)

// Whoever has a container's engine can ask it again: containers of Incus say so of
// themselves, and are LXC's adapter's.
func TestByPrefix(t *testing.T) {
	for engineOf, adapter := range map[string]string{
		"docker": "docker", "podman": "podman", "containerd": "containerd", "lxc": "lxc", "incus": "lxc", "lxd": "lxc", "nspawn": "nspawn",
		"runc": "oci", "crun": "oci", "youki": "oci", "bare": "bare", "docker@user": "docker",
	} {
		if found := engine.ByPrefix(all.Engines(), engineOf); len(found) != 1 || found[0].Name() != adapter {
			t.Errorf("%s: %v, want %s", engineOf, found, adapter)
		}
	}
	if found := engine.ByPrefix(all.Engines(), "dock"); len(found) != 0 {
		t.Errorf("%v", found)
	}
}
