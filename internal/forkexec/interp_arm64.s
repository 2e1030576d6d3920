// SPDX-License-Identifier: Apache-2.0

#include "textflag.h"

// interpret: see interp_amd64.s. R19 holds the current op, R20 the header;
// system calls preserve both, also in a forked child.
//
// func interpret()
TEXT ·interpret(SB), NOSPLIT|NOFRAME, $0-0
	CBNZ	R20, next
	MOVD	$0x10000000, R20      // dataBase
	ADD	$16, R20, R19         // the first op

next:
	MOVD	56(R19), R9           // op.indirect: bit i says args[i] is an address to load from
	MOVD	8(R19), R0
	MOVD	16(R19), R1
	MOVD	24(R19), R2
	MOVD	32(R19), R3
	MOVD	40(R19), R4
	MOVD	48(R19), R5
	TBZ	$0, R9, 2(PC)
	MOVD	(R0), R0
	TBZ	$1, R9, 2(PC)
	MOVD	(R1), R1
	TBZ	$2, R9, 2(PC)
	MOVD	(R2), R2
	TBZ	$3, R9, 2(PC)
	MOVD	(R3), R3
	TBZ	$4, R9, 2(PC)
	MOVD	(R4), R4
	TBZ	$5, R9, 2(PC)
	MOVD	(R5), R5
	MOVD	0(R19), R8            // op.code
	TBNZ	$63, R8, arithmetic
	SVC

result:
	MOVD	64(R19), R9           // op.dst
	MOVD	R0, (R9)
	CMN	$4095, R0
	BCS	failed                // unsigned: -4095..-1 are errors

onward:
	MOVD	72(R19), R19          // op.ok
	B	next

failed:
	NEG	R0, R0
	MOVD	R0, 0(R20)            // the header keeps the last failure: errno
	MOVD	88(R19), R0
	MOVD	R0, 8(R20)            // op.step

otherwise:
	MOVD	80(R19), R19          // op.err
	B	next

arithmetic:
	MOVD	64(R19), R9           // op.dst
	CMN	$1, R8
	BEQ	add
	CMN	$2, R8
	BEQ	multiply
	CMN	$3, R8
	BEQ	and
	CMN	$4, R8
	BEQ	load
	CMN	$5, R8
	BEQ	put
	CMN	$6, R8
	BEQ	same
	B	result                // opFail: as if a system call had returned args[0]

add:
	ADD	R1, R0, R0
	B	store

multiply:
	MUL	R1, R0, R0
	B	store

and:
	AND	R1, R0, R0
	B	store

load:
	MOVD	(R0), R0

store:
	MOVD	R0, (R9)
	B	onward

put:
	MOVB	R1, (R0)
	B	onward

same:
	CMP	R1, R0
	BEQ	onward
	B	otherwise

	DWORD	$0x2e646e616274756f   // codeEnd: "outband." marks the end of the bytes to copy

// func codeAddress() *byte
TEXT ·codeAddress(SB), NOSPLIT, $0-8
	MOVD	$·interpret(SB), R0
	MOVD	R0, ret+0(FP)
	RET
