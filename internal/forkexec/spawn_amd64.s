// SPDX-License-Identifier: Apache-2.0

#include "textflag.h"

// spawn: see spawn_unsafe.go. The child shares the caller's memory and never
// touches its stack: it has the caller's registers, and interpret uses nothing
// else. Its registers are those that system calls preserve.
//
// func spawn(masks *[2]uint64, pidfd *int32, header *byte) (result int)
TEXT ·spawn(SB), NOSPLIT|NOFRAME, $0-32
	MOVQ	masks+0(FP), R13
	MOVQ	header+16(FP), R12
	LEAQ	16(R12), BX           // headerSize: the first op
	MOVL	$2, DI                // SIG_SETMASK: no handler of Go's runs in the child
	MOVQ	R13, SI
	LEAQ	8(R13), DX
	MOVL	$8, R10
	MOVL	$14, AX               // rt_sigprocmask
	SYSCALL
	MOVL	$0x1111, DI           // CLONE_VM | CLONE_PIDFD | SIGCHLD
	XORL	SI, SI                // the stack: the same
	MOVQ	pidfd+8(FP), DX
	XORL	R10, R10
	XORL	R8, R8
	MOVL	$56, AX               // clone
	SYSCALL
	TESTQ	AX, AX
	JEQ	child
	MOVQ	AX, result+24(FP)
	MOVL	$2, DI
	LEAQ	8(R13), SI
	XORL	DX, DX
	MOVL	$8, R10
	MOVL	$14, AX
	SYSCALL
	RET

child:
	JMP	·interpret(SB)
