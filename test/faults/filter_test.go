// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"encoding/binary"
	"errors"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/sys"
)

// stageFilter gives its thread a filter under which a system call fails, and
// executes what args go on with: NUMBER ERRNO COMMAND ARG... The program is
// executed by that thread, so that all its threads have the filter.
func stageFilter(args []string) error {
	nr, err := strconv.Atoi(args[0])
	errno, eerr := strconv.Atoi(args[1])
	if err := errors.Join(err, eerr); err != nil {
		return err
	}
	// seccomp_data begins with the number of the call. The architecture is not
	// looked at: nothing here calls by another one's table.
	var program []byte
	for _, i := range []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(nr), Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(errno)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	} {
		program = binary.LittleEndian.AppendUint16(program, i.Code)
		program = binary.LittleEndian.AppendUint32(append(program, i.Jt, i.Jf), i.K)
	}
	runtime.LockOSThread()
	if err := sys.SetFilter(program, 0); err != nil { // root needs no no_new_privs for it
		return err
	}
	return unix.Exec(args[2], args[2:], os.Environ())
}
