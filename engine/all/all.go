// SPDX-License-Identifier: Apache-2.0

// Package all is the list of the engines that Outband knows.
package all

import (
	"github.com/outband/outband/engine"
	"github.com/outband/outband/engine/bare"
	"github.com/outband/outband/engine/containerd"
	"github.com/outband/outband/engine/docker"
	"github.com/outband/outband/engine/lxc"
	"github.com/outband/outband/engine/nspawn"
	"github.com/outband/outband/engine/oci"
	"github.com/outband/outband/engine/podman"
)

// Engines returns one adapter for each engine, the outermost first: of several
// that know the same container, the first names it.
func Engines() []engine.Engine {
	return []engine.Engine{
		docker.Engine{}, podman.Engine{}, lxc.Engine{}, nspawn.Engine{}, containerd.Engine{}, oci.Engine{}, bare.Engine{},
	}
}
