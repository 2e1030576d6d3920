// SPDX-License-Identifier: Apache-2.0

// Package rig is what the attacks of test/cve and the faults of test/faults
// have in common: builds of the program without one of its defences, sessions
// whose every system call can be a stopping place, and attackers.
//
//	supervisor ──▶ the tests (testutil.Main) ──▶ one test, nested (Nest)
//	 owns the       as everywhere                 the first process of a pid
//	 builds                                       namespace, with its own mounts
//
// An attack is written once and run twice: against the program, which must
// keep it out, and against a mutant of it, which must not. A mutant is the
// program built with the line of the defence replaced (go build -overlay);
// nothing in the source tree is touched. A Change whose text is not there
// exactly once fails the test, so that a defence that has moved is noticed.
//
// Attackers are functions of the test binary, which is also what containers
// are made of: Main runs one where the binary is executed as Attack says.
package rig
