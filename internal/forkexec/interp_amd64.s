// SPDX-License-Identifier: Apache-2.0

#include "textflag.h"

// interpret is the only code that runs between fork and exec. It walks a list
// of ops (see op.go for their layout) for ever; a program ends by calling
// exit_group or execve. It uses no stack, no globals and no other code, and is
// copied as bytes into an image of its own (image.go), so it must not contain a
// CALL or an address of this binary. TestInterpreterCode holds it to that.
//
// BX holds the current op, R12 the header; system calls preserve both, also in
// a forked child. After an exec R12 is 0, as all registers are.
//
// func interpret()
TEXT ·interpret(SB), NOSPLIT|NOFRAME, $0-0
	TESTQ	R12, R12
	JNE	next
	MOVL	$0x10000000, R12      // dataBase
	MOVL	$0x10000010, BX       // dataBase + headerSize: the first op

next:
	MOVQ	56(BX), CX            // op.indirect: bit i says args[i] is an address to load from
	MOVQ	8(BX), DI
	MOVQ	16(BX), SI
	MOVQ	24(BX), DX
	MOVQ	32(BX), R10
	MOVQ	40(BX), R8
	MOVQ	48(BX), R9
	BTQ	$0, CX
	JCC	2(PC)
	MOVQ	(DI), DI
	BTQ	$1, CX
	JCC	2(PC)
	MOVQ	(SI), SI
	BTQ	$2, CX
	JCC	2(PC)
	MOVQ	(DX), DX
	BTQ	$3, CX
	JCC	2(PC)
	MOVQ	(R10), R10
	BTQ	$4, CX
	JCC	2(PC)
	MOVQ	(R8), R8
	BTQ	$5, CX
	JCC	2(PC)
	MOVQ	(R9), R9
	MOVQ	0(BX), AX             // op.code
	TESTQ	AX, AX
	JLT	arithmetic
	SYSCALL

result:
	MOVQ	64(BX), CX            // op.dst
	MOVQ	AX, (CX)
	CMPQ	AX, $-4095
	JCC	failed                // unsigned: -4095..-1 are errors

onward:
	MOVQ	72(BX), BX            // op.ok
	JMP	next

failed:
	NEGQ	AX
	MOVQ	AX, 0(R12)            // the header keeps the last failure: errno
	MOVQ	88(BX), AX
	MOVQ	AX, 8(R12)            // op.step

otherwise:
	MOVQ	80(BX), BX            // op.err
	JMP	next

arithmetic:
	MOVQ	64(BX), CX            // op.dst
	CMPQ	AX, $-1
	JEQ	add
	CMPQ	AX, $-2
	JEQ	multiply
	CMPQ	AX, $-3
	JEQ	and
	CMPQ	AX, $-4
	JEQ	load
	CMPQ	AX, $-5
	JEQ	put
	CMPQ	AX, $-6
	JEQ	same
	MOVQ	DI, AX                // opFail: as if a system call had returned args[0]
	JMP	result

add:
	ADDQ	SI, DI
	JMP	store

multiply:
	IMULQ	SI, DI
	JMP	store

and:
	ANDQ	SI, DI
	JMP	store

load:
	MOVQ	(DI), DI

store:
	MOVQ	DI, (CX)
	JMP	onward

put:
	MOVB	SI, (DI)
	JMP	onward

same:
	CMPQ	DI, SI
	JEQ	onward
	JMP	otherwise

	QUAD	$0x2e646e616274756f   // codeEnd: "outband." marks the end of the bytes to copy

// func codeAddress() *byte
TEXT ·codeAddress(SB), NOSPLIT, $0-8
	LEAQ	·interpret(SB), AX
	MOVQ	AX, ret+0(FP)
	RET
