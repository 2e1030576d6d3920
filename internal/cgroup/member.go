// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"strings"

	"github.com/outband/outband/internal/procfs"
)

// InSession tells whether a process that is in these groups belongs to a session
// of Outband's, one that left it running included. Root of a container who may
// make groups can give one such a name: it says where a process is, not that it
// may be trusted.
func InSession(groups []procfs.Group) bool {
	for name := range strings.SplitSeq(Unified(groups), "/") {
		if ours(name) {
			return true
		}
	}
	return false
}
