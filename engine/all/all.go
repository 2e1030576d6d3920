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

// Options are what a caller knows of engines that they do not tell themselves. The
// zero value is for callers who know nothing.
type Options struct {
	// DockerHost is where the caller's docker daemon listens, see docker.Engine.
	DockerHost string
	// OCIRoots are where the caller's OCI runtimes keep their state besides those
	// places that are found, see oci.Engine.
	OCIRoots []oci.Root
}

// Engines returns one adapter for each engine, the outermost first: of several
// that know the same container, the first names it.
func Engines() []engine.Engine { return With(Options{}) }

// With is Engines by what the caller knows.
func With(o Options) []engine.Engine {
	return []engine.Engine{
		docker.Engine{Host: o.DockerHost}, podman.Engine{}, lxc.Engine{}, nspawn.Engine{}, containerd.Engine{}, oci.Engine{Roots: o.OCIRoots}, bare.Engine{},
	}
}
