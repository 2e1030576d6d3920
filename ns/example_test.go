// SPDX-License-Identifier: Apache-2.0

package ns_test

import (
	"fmt"
	"os"

	"github.com/outband/outband/ns"
)

// Which namespaces two processes have in common.
func ExampleSet_Differ() {
	own, err := os.Open("/proc/self")
	if err != nil {
		return
	}
	defer own.Close()
	set, err := ns.Of(own)
	if err != nil {
		return
	}
	other := set
	other[ns.Net], other[ns.PID] = 1, 2
	fmt.Println(set.Differ(other))
	// Output: [pid net]
}

func ExampleParseKinds() {
	kinds, err := ns.ParseKinds("pid,mnt")
	fmt.Println(kinds, err)
	_, err = ns.ParseKinds("mount")
	fmt.Println(err)
	// Output:
	// [pid mnt] <nil>
	// "mount" is no kind of namespace (pid, mnt, net, ipc, uts, user, cgroup, time)
}
