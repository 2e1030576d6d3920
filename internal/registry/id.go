// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"strings"
	"sync/atomic"
	"time"
)

// An id is the microsecond in which its session began, in ten characters of
// Crockford's base32: short, without characters that look alike (i, l, o, u),
// and in an alphabet that is in the order of its codes, so that ids sort.
// Of two processes that read the same microsecond, O_EXCL tells the later one,
// unless the other's session is over by then; in the log it is the id together
// with the start that is unique.
const (
	idAlphabet   = "0123456789abcdefghjkmnpqrstvwxyz"
	idLen        = 10
	idEpoch      = 1735689600 // 2025-01-01 in seconds: 50 bits last until 2060
	recordSuffix = ".json"
)

// idSource gives ids of which each is later than the one before, even where the
// clock is coarse or set back.
type idSource struct{ last atomic.Int64 }

func (s *idSource) next() string {
	for {
		last := s.last.Load()
		now := max(time.Since(time.Unix(idEpoch, 0)).Microseconds(), last+1)
		if s.last.CompareAndSwap(last, now) {
			return formatID(now)
		}
	}
}

// formatID writes the low 50 bits of v.
func formatID(v int64) string {
	var id [idLen]byte
	for i := idLen - 1; i >= 0; i-- {
		id[i] = idAlphabet[v&31]
		v >>= 5
	}
	return string(id[:])
}

// recordID returns the id that a file's name has; ok is false for files that
// are not records.
func recordID(name string) (id string, ok bool) {
	id, ok = strings.CutSuffix(name, recordSuffix)
	return id, ok && len(id) == idLen && strings.Trim(id, idAlphabet) == ""
}
