// SPDX-License-Identifier: Apache-2.0

// Package forkexec puts a command inside a target. It holds the only code of
// the module that runs between fork and exec.
//
// A Spec says what has to be done. It is compiled into a program: a list of
// system calls with their arguments, and where to go on success and on error.
// The program and an interpreter of some sixty instructions become a static
// executable of a few kilobytes in sealed memory, and that is what runs outside
// and inside of the target until the command's own execve:
//
//	caller ──clone+exec──▶ warden ──clone3──▶ joiner ──clone3(CLONE_PARENT)──▶ command
//	  ▲  socket: pidfd, status │ reaps, ends      │ everything privileged,      │ numbered inside; holds no
//	  ├────────────────────────┘ the session      │ then gone                   │ more than init does; executes
//	  └─◀── pipe: {step, errno}, or end of file: the command was executed ──────┘
//
// What follows from it:
//   - Nothing of the caller's memory is copied or shared: starting costs the
//     same whatever the caller's size, and there is nothing to steal.
//   - The exe link of a process on its way in is a sealed memory file.
//   - No Go code runs after a fork, so neither race detector, coverage, stack
//     growth nor garbage collector can interfere.
//   - Every call can be made to fail by a fault plan, and listed beforehand.
//
// Files, in reading order: spec.go what is to be done; warden.go, joiner.go and
// shepherd.go the processes; layout.go their common ground; program.go the
// assembler; op.go the instruction; interp_*.s the interpreter; image.go the
// executable; start.go, launch.go and spawn_*.s the caller's side; list.go what a
// program looks like. reader.go and read.go are a second kind of program, which
// reads files of a target and can be given up; press.go and pressing.go a third,
// which calls reboot(2) inside.
//
// docs/adr/0001-plan-as-program.md has the alternatives that were measured.
package forkexec
