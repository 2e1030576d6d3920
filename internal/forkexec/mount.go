// SPDX-License-Identifier: Apache-2.0

package forkexec

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Sizes of struct statfs and struct statx, bytes, on amd64 and arm64.
const (
	statfsSize = 120
	statxSize  = 256
	mountSize  = statfsSize + statxSize
)

// Mount is what a file system says of itself, see statfs(2).
type Mount struct {
	ID                      uint64 // of the mount that its point led to, as in mountinfo (5.8); 0 where the kernel does not tell
	BlockSize               uint64 // bytes
	Blocks, Free, Available uint64 // of BlockSize; Free with those kept for root
	Inodes, FreeInodes      uint64
}

// Mount returns what a file system said, or why it did not.
func (c Content) Mount() (Mount, error) {
	if c.Err != nil {
		return Mount{}, c.Err
	}
	if len(c.Data) != mountSize {
		return Mount{}, unix.EINVAL
	}
	fs, stat := c.Data[:statfsSize], c.Data[statfsSize:]
	word := func(at int) uint64 { return binary.NativeEndian.Uint64(fs[at:]) }
	m := Mount{BlockSize: word(72), Blocks: word(16), Free: word(24), Available: word(32), Inodes: word(40), FreeInodes: word(48)}
	if m.BlockSize == 0 { // f_frsize, which not all set
		m.BlockSize = word(8)
	}
	if binary.NativeEndian.Uint32(stat)&unix.STATX_MNT_ID != 0 {
		m.ID = binary.NativeEndian.Uint64(stat[144:])
	}
	return m, nil
}
