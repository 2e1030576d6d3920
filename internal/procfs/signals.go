// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"bytes"
	"strconv"
	"strings"
)

// ParseSignals returns from /proc/PID/status which signals a process blocks and
// for which it has handlers; signal n is bit n-1. ok is false where one of the
// two is missing.
func ParseSignals(status []byte) (blocked, caught uint64, ok bool) {
	found := 0
	for line := range bytes.Lines(status) {
		name, value, _ := strings.Cut(string(line), ":")
		var to *uint64
		switch name {
		case "SigBlk":
			to = &blocked
		case "SigCgt":
			to = &caught
		default:
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		if err != nil {
			return 0, 0, false
		}
		*to = n
		found++
	}
	return blocked, caught, found == 2
}
