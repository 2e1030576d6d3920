// SPDX-License-Identifier: Apache-2.0

#include "textflag.h"

// spawn: see spawn_amd64.s.
//
// func spawn(masks *[2]uint64, pidfd *int32, header *byte) (result int)
TEXT ·spawn(SB), NOSPLIT|NOFRAME, $0-32
	MOVD	masks+0(FP), R21
	MOVD	header+16(FP), R20
	ADD	$16, R20, R19         // headerSize: the first op
	MOVD	$2, R0                // SIG_SETMASK: no handler of Go's runs in the child
	MOVD	R21, R1
	ADD	$8, R21, R2
	MOVD	$8, R3
	MOVD	$135, R8              // rt_sigprocmask
	SVC
	MOVD	$0x1111, R0           // CLONE_VM | CLONE_PIDFD | SIGCHLD
	MOVD	$0, R1                // the stack: the same
	MOVD	pidfd+8(FP), R2
	MOVD	$0, R3
	MOVD	$0, R4
	MOVD	$220, R8              // clone
	SVC
	CBZ	R0, child
	MOVD	R0, result+24(FP)
	MOVD	$2, R0
	ADD	$8, R21, R1
	MOVD	$0, R2
	MOVD	$8, R3
	MOVD	$135, R8
	SVC
	RET

child:
	B	·interpret(SB)
