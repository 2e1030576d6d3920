// SPDX-License-Identifier: Apache-2.0

package forkexec

import (
	"encoding/binary"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// systemCall is how a system call is listed.
type systemCall struct {
	name string
	args int
}

// systemCalls are those that programs use; all but them are listed by number.
var systemCalls = map[int64]systemCall{
	unix.SYS_CAPSET:            {"capset", 2},
	unix.SYS_CHDIR:             {"chdir", 1},
	unix.SYS_CHROOT:            {"chroot", 1},
	unix.SYS_CLONE:             {"clone", 5},
	unix.SYS_CLONE3:            {"clone3", 2},
	unix.SYS_CLOSE:             {"close", 1},
	unix.SYS_CLOSE_RANGE:       {"close_range", 3},
	unix.SYS_DUP3:              {"dup3", 3},
	unix.SYS_EXECVE:            {"execve", 3},
	unix.SYS_EXIT_GROUP:        {"exit_group", 1},
	unix.SYS_FCHDIR:            {"fchdir", 1},
	unix.SYS_FCHMOD:            {"fchmod", 2},
	unix.SYS_FCHOWN:            {"fchown", 3},
	unix.SYS_FCNTL:             {"fcntl", 3},
	unix.SYS_FSCONFIG:          {"fsconfig", 5},
	unix.SYS_FSMOUNT:           {"fsmount", 3},
	unix.SYS_FSOPEN:            {"fsopen", 2},
	unix.SYS_FSTATFS:           {"fstatfs", 2},
	unix.SYS_GETCWD:            {"getcwd", 2},
	unix.SYS_IOCTL:             {"ioctl", 3},
	unix.SYS_IOPRIO_SET:        {"ioprio_set", 3},
	unix.SYS_KEYCTL:            {"keyctl", 2},
	unix.SYS_MMAP:              {"mmap", 6},
	unix.SYS_OPENAT:            {"openat", 4},
	unix.SYS_PERSONALITY:       {"personality", 1},
	unix.SYS_OPENAT2:           {"openat2", 4},
	unix.SYS_FCHMODAT:          {"fchmodat", 3},
	unix.SYS_PIDFD_OPEN:        {"pidfd_open", 2},
	unix.SYS_PIDFD_SEND_SIGNAL: {"pidfd_send_signal", 4},
	unix.SYS_PPOLL:             {"ppoll", 4},
	unix.SYS_PRCTL:             {"prctl", 5},
	unix.SYS_PREAD64:           {"pread64", 4},
	unix.SYS_PRLIMIT64:         {"prlimit64", 4},
	unix.SYS_PTRACE:            {"ptrace", 4},
	unix.SYS_READ:              {"read", 3},
	unix.SYS_REBOOT:            {"reboot", 4},
	unix.SYS_RECVFROM:          {"recvfrom", 6},
	unix.SYS_RECVMSG:           {"recvmsg", 3},
	unix.SYS_RT_SIGACTION:      {"rt_sigaction", 4},
	unix.SYS_RT_SIGPROCMASK:    {"rt_sigprocmask", 4},
	unix.SYS_SCHED_SETAFFINITY: {"sched_setaffinity", 3},
	unix.SYS_SCHED_SETATTR:     {"sched_setattr", 3},
	unix.SYS_SECCOMP:           {"seccomp", 3},
	unix.SYS_SENDMSG:           {"sendmsg", 3},
	unix.SYS_SENDTO:            {"sendto", 6},
	unix.SYS_SETFSGID:          {"setfsgid", 1},
	unix.SYS_SETFSUID:          {"setfsuid", 1},
	unix.SYS_SETGROUPS:         {"setgroups", 2},
	unix.SYS_SETNS:             {"setns", 2},
	unix.SYS_SETRESGID:         {"setresgid", 3},
	unix.SYS_SETRESUID:         {"setresuid", 3},
	unix.SYS_SETSID:            {"setsid", 0},
	unix.SYS_SOCKETPAIR:        {"socketpair", 4},
	unix.SYS_STATX:             {"statx", 5},
	unix.SYS_UMASK:             {"umask", 1},
	unix.SYS_UNLINKAT:          {"unlinkat", 3},
	unix.SYS_WAIT4:             {"wait4", 4},
	unix.SYS_WAITID:            {"waitid", 5},
	unix.SYS_WRITE:             {"write", 3},
}

// List returns the program that Start carries out for spec, a line for each
// instruction. It makes no system call.
//
// Labels stand at the margin, "lost:". After the step comes the system call,
// what takes its result, where it goes on after success ("then") and after an
// error ("else"); where nothing is said that is the next line. $1 is what a
// word or block of words holds, &$1 its address; at the first mention stands in
// braces what it holds at the start.
func List(spec *Spec) []string {
	return list(assemble(spec, nil, nil, nil).program)
}

// list is List for any program.
func list(p *program) []string {
	l := lister{program: p, seen: map[int]int{}, relocated: map[int]word{}}
	for _, r := range l.relocs {
		l.relocated[r.at] = r.w
	}
	l.nameLabels()
	var lines []string
	for i := range l.ops {
		for _, at := range l.labelsAt(i) {
			lines = append(lines, l.names[at]+":")
		}
		lines = append(lines, "\t"+l.line(&l.ops[i]))
	}
	return lines
}

// lister writes a program down.
type lister struct {
	*program
	seen      map[int]int  // index of a block to the number it is listed by
	relocated map[int]word // address words in data
}

// nameLabels gives names to the labels that have none and that something jumps
// to, in the order of their places.
func (l *lister) nameLabels() {
	var order []label
	used := map[label]bool{}
	for i := range l.ops {
		for _, to := range []label{l.ops[i].ok, l.ops[i].err} {
			if to != next && !used[to] {
				used[to], order = true, append(order, to)
			}
		}
	}
	sort.SliceStable(order, func(i, j int) bool { return l.labels[order[i]] < l.labels[order[j]] })
	n := 0
	for _, to := range order {
		if l.names[to] == "" {
			n++
			l.names[to] = "L" + strconv.Itoa(n)
		}
	}
}

// labelsAt returns the named labels placed at op i.
func (l *lister) labelsAt(i int) []label {
	var found []label
	for at, place := range l.labels {
		if place == i && l.names[label(at)] != "" {
			found = append(found, label(at))
		}
	}
	return found
}

// line is one op.
func (l *lister) line(o *pendingOp) string {
	if o.code < 0 && o.code != opFail {
		return l.arithmetic(o)
	}
	var b strings.Builder
	if o.step != 0 {
		b.WriteString(Step(o.step).String() + ": ")
	}
	if o.code == opFail {
		b.WriteString("fail " + unix.ErrnoName(unix.Errno(-o.words[0].n)))
	} else {
		b.WriteString(l.call(o))
	}
	if o.to.data {
		b.WriteString(" -> " + l.block(o.to.n))
	}
	if o.code == unix.SYS_EXIT_GROUP {
		return b.String()
	}
	return b.String() + l.jump(" then ", o.ok) + l.jump(" else ", o.err)
}

// call is a system call with its arguments.
func (l *lister) call(o *pendingOp) string {
	c, ok := systemCalls[o.code]
	if !ok {
		c = systemCall{fmt.Sprintf("syscall %d", o.code), len(o.words)}
	}
	args := make([]string, c.args)
	for i := range args {
		args[i] = l.word(o.words[i])
	}
	return c.name + "(" + strings.Join(args, ", ") + ")"
}

// arithmetic is an op that is no system call.
func (l *lister) arithmetic(o *pendingOp) string {
	if o.code == opAdd && !o.to.data {
		return strings.TrimSpace(l.jump("goto ", o.ok))
	}
	x, y := l.word(o.words[0]), l.word(o.words[1])
	var text string
	switch o.code {
	case opSame:
		if o.ok == next {
			return "if " + x + " != " + y + l.jump(" goto ", o.err)
		}
		return "if " + x + " == " + y + l.jump(" goto ", o.ok) + l.jump(" else ", o.err)
	case opPut:
		return "byte *" + x + " = " + y
	case opLoad:
		text = "*" + x
	case opMultiply:
		text = x + " * " + y
	case opAnd:
		text = x + " & " + y
	case opAdd:
		text = x + " + " + y
		if y == "0" {
			text = x
		}
	}
	return l.block(o.to.n) + " = " + text + l.jump(" then ", o.ok)
}

// jump is the label to, unless that is the next op.
func (l *lister) jump(how string, to label) string {
	if to == next {
		return ""
	}
	return how + l.names[to]
}

// word is an argument.
func (l *lister) word(w word) string {
	switch {
	case w == lastErrno():
		return "errno"
	case w == lastStep():
		return "step"
	case w == num(dataBase):
		return "&errno"
	case !w.data:
		return number(w.n)
	case w.indirect:
		return l.block(w.n)
	}
	if i := l.find(w.n); l.blocks[i].text {
		return strconv.Quote(string(l.content(i)[:l.textLength(i)]))
	}
	return "&" + l.block(w.n)
}

// number is small numbers in decimal, bit masks in hexadecimal.
func number(n uint64) string {
	if s := int64(n); -4096 < s && s < 4096 {
		return strconv.FormatInt(s, 10)
	}
	return "0x" + strconv.FormatUint(n, 16)
}

// find is the index of the block that offset lies in.
func (l *lister) find(offset uint64) int {
	return sort.Search(len(l.blocks), func(i int) bool { return uint64(l.blocks[i].start) > offset }) - 1
}

// content is what block i holds at the start.
func (l *lister) content(i int) []byte {
	end := len(l.data)
	if i+1 < len(l.blocks) {
		end = l.blocks[i+1].start
	}
	return l.data[l.blocks[i].start:end]
}

// textLength is how much of a text is to be shown: not the final NUL and what
// aligns the next block.
func (l *lister) textLength(i int) int {
	return len(strings.TrimRight(string(l.content(i)), "\x00"))
}

// block names the word at offset, and what its block holds where it is
// mentioned for the first time.
func (l *lister) block(offset uint64) string {
	i := l.find(offset)
	n, known := l.seen[i]
	if !known {
		n = len(l.seen) + 1
		l.seen[i] = n
	}
	name := "$" + strconv.Itoa(n)
	if within := offset - uint64(l.blocks[i].start); within != 0 {
		name += "+" + strconv.FormatUint(within, 10)
	}
	if !known {
		name += l.initial(i)
	}
	return name
}

// initial is what block i holds at the start, without zeros at the end.
func (l *lister) initial(i int) string {
	var words []string
	last := 0
	for at := 0; at < len(l.content(i)); at += 8 {
		text := number(binary.LittleEndian.Uint64(l.content(i)[at:]))
		if w, ok := l.relocated[l.blocks[i].start+at]; ok {
			text = l.word(w)
		}
		if words = append(words, text); text != "0" {
			last = len(words)
		}
	}
	switch {
	case last == 0:
		return ""
	case last < len(words):
		return "{" + strings.Join(words[:last], ", ") + ", ...}"
	}
	return "{" + strings.Join(words, ", ") + "}"
}
