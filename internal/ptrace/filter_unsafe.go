// SPDX-License-Identifier: Apache-2.0

package ptrace

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxInstructions of a filter (BPF_MAXINSNS), and the size of each, bytes.
const (
	maxInstructions = 4096
	instructionSize = 8
)

// metadata is struct seccomp_metadata.
type metadata struct {
	index uint64 // of the filter, the oldest first
	flags uint64
}

// filter reads filter i of the tracee, the oldest being 0; ENOENT behind the
// last one, ESRCH while the tracee has not stopped.
func (p Tracee) filter(i int) (Filter, error) {
	buf := make([]byte, maxInstructions*instructionSize)
	n, err := p.request(unix.PTRACE_SECCOMP_GET_FILTER, uintptr(i), unsafe.Pointer(&buf[0]))
	if err != nil {
		return Filter{}, err
	}
	m := metadata{index: uint64(i)}
	_, err = p.request(unix.PTRACE_SECCOMP_GET_METADATA, unsafe.Sizeof(m), unsafe.Pointer(&m))
	if err != nil && !errors.Is(err, unix.EIO) { // before 4.16
		return Filter{}, err
	}
	return Filter{buf[: n*instructionSize : n*instructionSize], uint32(m.flags)}, nil
}

// request is ptrace(2) with the result that package unix does not return.
func (p Tracee) request(request int, addr uintptr, data unsafe.Pointer) (int, error) {
	n, _, errno := unix.Syscall6(unix.SYS_PTRACE, uintptr(request), uintptr(p.PID), addr, uintptr(data), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
