// SPDX-License-Identifier: Apache-2.0

package forkexec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// model is the interpreter once more, in Go, for programs that only compute. Of
// the system calls it knows those whose result is certain.
type model struct {
	data []byte // the data segment; its first byte lies at dataBase
	out  []byte // what was written to descriptor 1
}

// modelError is what makes a program one that the model cannot run.
type modelError string

func (e modelError) Error() string { return string(e) }

// slice is n bytes of memory.
func (m *model) slice(address, n uint64) []byte {
	if at := address - dataBase; address >= dataBase && at+n <= uint64(len(m.data)) && at+n >= at {
		return m.data[at : at+n]
	}
	panic(modelError(fmt.Sprintf("%#x is no address", address)))
}

func (m *model) load(address uint64) uint64 {
	return binary.LittleEndian.Uint64(m.slice(address, 8))
}

func (m *model) store(address, n uint64) {
	binary.LittleEndian.PutUint64(m.slice(address, 8), n)
}

// run executes the program and returns its exit code.
func (m *model) run() (code int, err error) {
	defer func() {
		if e := recover(); e != nil {
			err = e.(modelError)
		}
	}()
	const maxSteps = 100_000
	at := uint64(dataBase + headerSize)
	for range maxSteps {
		nr, args := int64(m.load(at)), [6]uint64{}
		for i := range args {
			if args[i] = m.load(at + 8 + 8*uint64(i)); m.load(at+56)>>i&1 != 0 {
				args[i] = m.load(args[i])
			}
		}
		if nr == unix.SYS_EXIT_GROUP {
			return int(args[0] & 0xff), nil
		}
		onward := at + 80
		if m.step(at, nr, args) {
			onward = at + 72
		}
		at = m.load(onward)
	}
	return 0, modelError("no end")
}

// step carries out the op at address at and tells whether it goes to ok.
func (m *model) step(at uint64, code int64, a [6]uint64) (ok bool) {
	dst := m.load(at + 64)
	switch code {
	case opAdd:
		m.store(dst, a[0]+a[1])
	case opMultiply:
		m.store(dst, a[0]*a[1])
	case opAnd:
		m.store(dst, a[0]&a[1])
	case opLoad:
		m.store(dst, m.load(a[0]))
	case opPut:
		m.slice(a[0], 1)[0] = byte(a[1])
	case opSame:
		return a[0] == a[1]
	default:
		result := m.call(code, a)
		m.store(dst, result)
		if s := int64(result); s >= 0 || s < -4095 { // see syscall(2), -4095 to -1 are errors
			return true
		}
		m.store(dataBase, -result)
		m.store(dataBase+8, m.load(at+88))
		return false
	}
	return true
}

// call is a system call.
func (m *model) call(code int64, a [6]uint64) uint64 {
	switch code {
	case opFail:
		return a[0]
	case unix.SYS_SCHED_YIELD:
		return 0
	case unix.SYS_CLOSE:
		if a[0] == ^uint64(0) {
			return ^uint64(unix.EBADF - 1)
		}
	case unix.SYS_WRITE:
		if a[0] == 1 {
			m.out = append(m.out, m.slice(a[1], a[2])...)
			return a[2]
		}
	}
	panic(modelError(fmt.Sprintf("system call %d%v", code, a)))
}

// A generator makes programs of bytes, so that a fuzzer can.
type generator struct {
	*program
	entropy []byte
	memory  word    // what the program computes with
	pending []label // to be placed later
}

// memoryWords is how many words a random program computes with.
const memoryWords = 8

// randomProgram is ops that jump forward only, taken three times; in the end
// header and memory are written.
func randomProgram(entropy []byte) ([]byte, error) {
	g := &generator{program: newProgram(nil), entropy: entropy}
	g.onFailure(next)
	g.memory = g.reserve(8 * memoryWords)
	copy(g.data[g.memory.n:][:8*memoryWords], entropy)
	rounds := g.program.variable(3)
	again := g.here()
	for len(g.entropy) > 0 {
		g.op()
	}
	for _, l := range g.pending {
		g.place(l)
	}
	g.compute(opAdd, rounds.value(), num(-1)).into(rounds)
	g.unless(rounds.value(), num(0), again)
	g.call(StepReport, unix.SYS_WRITE, num(1), num(dataBase), num(headerSize))
	g.call(StepReport, unix.SYS_WRITE, num(1), g.memory, num(8*memoryWords))
	g.call(StepNone, unix.SYS_EXIT_GROUP, g.cell(7).value())
	return g.link()
}

// byte is the next byte of entropy.
func (g *generator) byte() byte {
	if len(g.entropy) == 0 {
		return 0
	}
	b := g.entropy[0]
	g.entropy = g.entropy[1:]
	return b
}

// cell is a word of the memory.
func (g *generator) cell(n byte) variable {
	return variable{g.memory.n + 8*uint64(n%memoryWords)}
}

// edges are the numbers at which something changes.
var edges = []int64{0, 1, -1, -2, -4094, -4095, -4096, -4097, 4095, 4096, 255, 256, -1 << 63, 1<<63 - 1, 1 << 31, 1<<32 - 1, -1 << 31}

func (g *generator) operand() word {
	switch b := g.byte(); b % 4 {
	case 0:
		return num(int(int8(g.byte())))
	case 1:
		return num(edges[int(g.byte())%len(edges)])
	case 2:
		return at(g.memory, int(g.byte())%(8*memoryWords))
	}
	return g.cell(g.byte()).value()
}

// target is the next op or one further on.
func (g *generator) target() label {
	b := g.byte()
	switch {
	case b%3 == 0:
		return next
	case b%3 == 1 || len(g.pending) == 0:
		g.pending = append(g.pending, g.label())
	}
	return g.pending[int(b)%len(g.pending)]
}

// op emits one op, with a label before it now and then.
func (g *generator) op() {
	if n := len(g.pending); n > 0 && g.byte()%2 == 0 {
		g.place(g.pending[n-1])
		g.pending = g.pending[:n-1]
	}
	var o *pendingOp
	switch b := g.byte(); b % 9 {
	case 0, 1, 2:
		o = g.compute([]int64{opAdd, opMultiply, opAnd}[b%9], g.operand(), g.operand())
	case 3:
		o = g.compute(opLoad, at(g.memory, int(g.byte())%(8*memoryWords-7)))
	case 4:
		o = g.compute(opPut, at(g.memory, int(g.byte())%(8*memoryWords)), g.operand())
	case 5:
		o = g.compute(opSame, g.operand(), g.operand())
	case 6:
		o = g.emit(StepWatch, opFail, []word{g.operand()})
	case 7:
		o = g.call(StepReap, unix.SYS_SCHED_YIELD)
	case 8:
		o = g.call(StepCloseFiles, unix.SYS_CLOSE, num(-1))
	}
	for i := range o.words[2:] {
		o.words[2+i] = g.cell(g.byte()).value() // read, and without effect
	}
	o.into(g.cell(g.byte())).then(g.target()).orElse(g.target())
}

// runImage executes a program and returns what it wrote and its exit code.
func runImage(t testing.TB, data []byte, stdin *os.File) (out []byte, code int) {
	t.Helper()
	f, err := sealed(data)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return runFile(t, &exec.Cmd{Path: "/proc/self/fd/3", ExtraFiles: []*os.File{f}}, stdin)
}

func runFile(t testing.TB, c *exec.Cmd, stdin *os.File) (out []byte, code int) {
	t.Helper()
	if stdin != nil {
		c.Stdin = stdin
	}
	var written bytes.Buffer
	c.Stdout = &written
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	err := runTied(c)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || c.ProcessState.ExitCode() < 0 {
		t.Fatalf("%v: %v, %s", c, err, c.ProcessState)
	}
	return written.Bytes(), c.ProcessState.ExitCode()
}

// edgeProgram has a call return each of the edges and writes, for each, where
// that went (1 onward, 2 to the error) and the header then.
func edgeProgram() ([]byte, error) {
	p := newProgram(nil)
	p.onFailure(next)
	where := p.variable(0)
	for i, n := range edges {
		wrong, done := p.label(), p.label()
		p.emit(Step(i), opFail, []word{num(n)}).into(where).orElse(wrong)
		p.set(where, num(1)).then(done)
		p.place(wrong)
		p.set(where, num(2))
		p.place(done)
		p.call(StepReport, unix.SYS_WRITE, num(1), where.address(), num(8))
		p.call(StepReport, unix.SYS_WRITE, num(1), num(dataBase), num(headerSize))
	}
	p.call(StepNone, unix.SYS_EXIT_GROUP, num(len(edges)))
	return p.link()
}

// TestEdges compares what becomes of them with the model, and that with
// syscall(2): -4095 to -1 are errors.
func TestEdges(t *testing.T) {
	data, err := edgeProgram()
	if err != nil {
		t.Fatal(err)
	}
	m := model{data: bytes.Clone(data)}
	if _, err := m.run(); err != nil {
		t.Fatal(err)
	}
	out, _ := runImage(t, data, nil)
	for i, n := range edges {
		const record = 8 + headerSize
		got, want := out[record*i:][:record], m.out[record*i:][:record]
		if !bytes.Equal(got, want) || (got[0] == 2) != (-4095 <= n && n <= -1) {
			t.Errorf("a call that returns %d: %x, in the model %x", n, got, want)
		}
	}
}

// seeds are reproducible bytes for programs of many sizes.
func seeds(n int) [][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	all := make([][]byte, n)
	for i := range all {
		all[i] = make([]byte, 64+r.IntN(600))
		for j := range all[i] {
			all[i][j] = byte(r.Uint32())
		}
	}
	return all
}

// FuzzInterpreter runs random programs as images and in the model. (Mutants
// that lost: each arithmetic code of interp_amd64.s swapped or dropped, every
// BTQ, the bound of errors one off, "same" without otherwise.)
func FuzzInterpreter(f *testing.F) {
	for _, seed := range seeds(200) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, entropy []byte) {
		if len(entropy) > 4096 {
			t.Skip("too long")
		}
		data, err := randomProgram(entropy)
		if err != nil {
			t.Fatal(err)
		}
		m := model{data: bytes.Clone(data)}
		want, err := m.run()
		if err != nil {
			t.Fatal("the model: ", err)
		}
		out, code := runImage(t, data, nil)
		if code != want || !bytes.Equal(out, m.out) {
			t.Errorf("exit %d, wrote %x\nwant %d,      %x", code, out, want, m.out)
		}
	})
}

// TestSystemCallArguments has mmap(2) prove that all six arguments arrive,
// numbers as well as what variables hold.
func TestSystemCallArguments(t *testing.T) {
	const page, address = 0x10000, 0x20000000
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	content := strings.Repeat("-", page) + "at the second page" + strings.Repeat("-", page)
	if _, err := f.WriteString(content); err != nil {
		t.Fatal(err)
	}
	for indirect := range 1 << 6 {
		p := newProgram(nil)
		failed := p.label()
		p.onFailure(failed)
		args := []word{num(address), num(page), num(unix.PROT_READ), num(unix.MAP_PRIVATE | unix.MAP_FIXED), num(0), num(page)}
		for i, a := range args {
			if indirect>>i&1 != 0 {
				args[i] = p.variable(a.n).value()
			}
		}
		where := p.variable(0)
		p.call(StepExec, unix.SYS_MMAP, args...).into(where)
		p.call(StepExec, unix.SYS_WRITE, num(1), where.value(), num(18))
		p.call(StepNone, unix.SYS_EXIT_GROUP, num(3))
		p.place(failed)
		p.call(StepNone, unix.SYS_EXIT_GROUP, lastErrno())
		data, err := p.link()
		if err != nil {
			t.Fatal(err)
		}
		out, code := runImage(t, data, f)
		if string(out) != "at the second page" || code != 3 {
			t.Errorf("arguments %06b by address: %q, %d", indirect, out, code)
		}
	}
}
