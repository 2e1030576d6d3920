// SPDX-License-Identifier: Apache-2.0

package forkexec

import "fmt"

// op is one instruction of a program, laid out as the interpreter reads it
// (interp_amd64.s and interp_arm64.s know the offsets).
//
// An op performs a system call, or a little arithmetic where code is negative.
// Its result goes to *dst; then ok is the next op, or err where the result is
// an error, whose number and step are left in the header of the data segment.
type op struct {
	code     int64     // offset 0: system call number, or one of the arithmetic codes
	args     [6]uint64 // offset 8
	indirect uint64    // offset 56: bit i set: args[i] is the address of the argument
	dst      uint64    // offset 64: where the result is stored
	ok, err  uint64    // offset 72, 80: addresses of the next op
	step     uint64    // offset 88: what the op belongs to, for reports
}

// opSize is the size of an op in memory, bytes.
const opSize = 96

// Arithmetic codes. Their operands are words of 64 bits.
const (
	opAdd      = -1 // dst = a0 + a1
	opMultiply = -2 // dst = a0 * a1
	opAnd      = -3 // dst = a0 & a1
	opLoad     = -4 // dst = the word at address a0
	opPut      = -5 // the byte at address a0 = a1
	opSame     = -6 // ok where a0 = a1, else err; not a failure
	opFail     = -7 // as a system call that returns a0: what a fault plan puts in
)

// A Step names what an after-fork process was doing when a system call failed.
// The text of a Step is fit for an error message.
type Step uint64

// The steps in the order in which they are taken.
const (
	StepNone Step = iota
	StepStartWarden
	StepHarden
	StepSignals
	StepCloseFiles
	StepHostDirectory
	StepSocket
	StepForkJoiner
	StepTrace
	StepWatch
	StepReport
	StepReadFilters
	StepNull
	StepCgroup
	StepKeyring
	StepOOMScore
	StepLabel
	StepScheduling
	StepLimits
	StepHostIdentity
	StepJoin
	StepRoot
	StepUmask
	StepFilters
	StepTerminal
	StepBounding
	StepSecurebits
	StepGroups
	StepGroup
	StepUser
	StepCapabilities
	StepNoNewPrivs
	StepDirectory
	StepForkCommand
	StepForkShepherd
	StepHandOver
	StepSession
	StepControl
	StepParentDeath
	StepOrphaned
	StepExec
	StepReap
	StepEndSession
	StepForkReader
	StepRead
	StepCompare
	StepPress
	StepTell
	StepAsk
	stepCount
)

var stepNames = [stepCount]string{
	StepNone:          "nothing",
	StepStartWarden:   "start the warden",
	StepHarden:        "make the helper unreadable",
	StepSignals:       "reset signals",
	StepCloseFiles:    "close files",
	StepHostDirectory: "leave the working directory",
	StepSocket:        "connect warden and joiner",
	StepForkJoiner:    "fork the joiner",
	StepTrace:         "suspend system call filters on the way in",
	StepWatch:         "watch the session",
	StepReport:        "report to the caller",
	StepReadFilters:   "read system call filters",
	StepNull:          "open its /dev/null",
	StepCgroup:        "join cgroup",
	StepKeyring:       "join a new session keyring",
	StepOOMScore:      "set oom_score_adj",
	StepLabel:         "take over the security label",
	StepScheduling:    "set scheduling",
	StepLimits:        "set resource limits",
	StepHostIdentity:  "take the identity outside",
	StepJoin:          "join namespaces",
	StepRoot:          "change root",
	StepUmask:         "set umask",
	StepFilters:       "install system call filters",
	StepTerminal:      "open a terminal",
	StepBounding:      "drop from the bounding set",
	StepSecurebits:    "set securebits",
	StepGroups:        "set supplementary groups",
	StepGroup:         "set group",
	StepUser:          "set user",
	StepCapabilities:  "set capabilities",
	StepNoNewPrivs:    "set no_new_privs",
	StepDirectory:     "change working directory",
	StepForkCommand:   "fork into the container",
	StepForkShepherd:  "fork the command",
	StepHandOver:      "hand over the command",
	StepSession:       "start a session",
	StepControl:       "take control of the terminal",
	StepParentDeath:   "tie the command to its session",
	StepOrphaned:      "find the warden alive",
	StepExec:          "execute",
	StepReap:          "wait for the command",
	StepEndSession:    "end the session",
	StepForkReader:    "fork the reader",
	StepRead:          "read a file",
	StepCompare:       "compare pid namespaces",
	StepPress:         "call reboot",
	StepTell:          "tell the init",
	StepAsk:           "ask a file system",
}

func (s Step) String() string {
	if s < stepCount {
		return stepNames[s]
	}
	return fmt.Sprintf("step %d", uint64(s))
}
