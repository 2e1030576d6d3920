// SPDX-License-Identifier: Apache-2.0

package pidtree_test

import (
	"context"
	"fmt"
	"os"

	"github.com/outband/outband/engine/all"
	"github.com/outband/outband/pidtree"
)

// Who came in from outside, and into which container's namespace.
func ExampleSnapshot() {
	tree, err := pidtree.Snapshot(context.Background())
	if err != nil {
		return
	}
	_, _ = tree.Containers(context.Background(), all.Engines()) // what is not known has no name
	for i := range tree.Processes {
		if p := &tree.Processes[i]; p.Visitor {
			fmt.Println(p.PIDs, p.Args())
		}
	}
}

// A number of a container's as the host's.
func ExampleSpace_Hold() {
	pidfd, err := os.Open("/run/some.pidfd") // of a process in the container
	if err != nil {
		return
	}
	space, err := pidtree.OpenSpace(pidfd)
	if err != nil {
		return
	}
	defer space.Close()
	held, err := space.Hold(context.Background(), 7, space.Level())
	if err != nil {
		return
	}
	defer held.Pidfd.Close()
	fmt.Println("7 inside is", held.PIDs[0], "here")
}
