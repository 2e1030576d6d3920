// SPDX-License-Identifier: Apache-2.0

package forkexec

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// Where a program lies in the memory of the process that runs it. The assembly
// files know dataBase and headerSize.
const (
	dataBase   = 0x10000000
	headerSize = 16 // errno and step of the last failure
)

// A program is a list of ops and the data they work on. It is built by calls
// in the order of execution; labels name ops that others jump to. Building
// makes no system call.
type program struct {
	ops    []pendingOp
	labels []int // label to index of an op; -1 while it is not placed
	names  map[label]string
	data   []byte
	blocks []block // what was put into data, for listings
	relocs []reloc // words of data that hold addresses of data
	faults map[Step]unix.Errno
	failed label // where an op goes that fails and does not say otherwise
}

// A label is a place in a program.
type label int

// next is the label of whatever op follows.
const next label = -1

// pendingOp is an op whose addresses are not known yet.
type pendingOp struct {
	code    int64
	step    uint64
	words   [6]word
	to      word
	ok, err label
}

// reloc says that the word at data[at] holds an address.
type reloc struct {
	at int
	w  word
}

// A block is a range of data, up to the next one; text if it is a string.
type block struct {
	start int
	text  bool
}

// A word is an argument: a number, an address of data, or the content of data.
type word struct {
	n        uint64 // the number, or the offset in data
	data     bool
	indirect bool // the argument is what the word at the address holds
}

// num is the number n as an argument; negative numbers keep their sign.
func num[T ~int | ~int32 | ~int64 | ~uint32 | ~uint64 | ~uintptr](n T) word {
	return word{n: uint64(n)}
}

// A variable is a word of data that ops read and write.
type variable struct{ offset uint64 }

// address is where v lies; value is what it holds when the op runs.
func (v variable) address() word { return word{n: v.offset, data: true} }
func (v variable) value() word   { return word{n: v.offset, data: true, indirect: true} }

// at is the address n bytes after w, which must be an address of data.
func at(w word, n int) word { w.n += uint64(n); return w }

func newProgram(faults map[Step]unix.Errno) *program {
	p := &program{faults: faults, names: map[label]string{}}
	p.failed = p.label()
	return p
}

// makeRoom makes room for a usual session, so that little is copied.
func (p *program) makeRoom() {
	p.ops, p.data = make([]pendingOp, 0, 256), make([]byte, 0, 12<<10)
	p.blocks, p.relocs = make([]block, 0, 160), make([]reloc, 0, 64)
	p.labels = append(make([]int, 0, 80), p.labels...)
}

// label makes a label that place puts somewhere, later or earlier.
func (p *program) label() label {
	p.labels = append(p.labels, -1)
	return label(len(p.labels) - 1)
}

// named is a label with a name for listings.
func (p *program) named(name string) label {
	l := p.label()
	p.names[l] = name
	return l
}

// place makes l the label of the op that comes next.
func (p *program) place(l label) {
	if p.labels[l] >= 0 {
		panic("forkexec: label placed twice")
	}
	p.labels[l] = len(p.ops)
}

// here makes a label of the op that comes next.
func (p *program) here() label { l := p.label(); p.place(l); return l }

// onFailure makes l the place where ops go from now on that fail and do not
// say otherwise.
func (p *program) onFailure(l label) { p.failed = l }

// call emits a system call that belongs to step s.
func (p *program) call(s Step, nr uintptr, args ...word) *pendingOp {
	code := int64(nr)
	if errno, ok := p.faults[s]; ok {
		code, args = opFail, []word{num(-int(errno))}
	}
	return p.emit(s, code, args)
}

// compute emits arithmetic.
func (p *program) compute(code int64, args ...word) *pendingOp { return p.emit(StepNone, code, args) }

func (p *program) emit(s Step, code int64, args []word) *pendingOp {
	o := pendingOp{code: code, step: uint64(s), ok: next, err: p.failed}
	copy(o.words[:], args)
	p.ops = append(p.ops, o)
	return &p.ops[len(p.ops)-1]
}

// set emits v = w.
func (p *program) set(v variable, w word) *pendingOp { return p.compute(opAdd, w, num(0)).into(v) }

// jump continues at l.
func (p *program) jump(l label) { p.compute(opAdd).then(l) }

// unless jumps to l if a and b differ; if jumps to l if they are equal.
func (p *program) unless(a, b word, l label) { p.compute(opSame, a, b).orElse(l) }
func (p *program) ifSame(a, b word, l label) { p.compute(opSame, a, b).then(l).orElse(next) }

// into stores the result in v.
func (o *pendingOp) into(v variable) *pendingOp { o.to = v.address(); return o }

// then continues at l after success; orElse at l after an error.
func (o *pendingOp) then(l label) *pendingOp   { o.ok = l; return o }
func (o *pendingOp) orElse(l label) *pendingOp { o.err = l; return o }

// tolerate goes on with the next op whatever the result is.
func (o *pendingOp) tolerate() { o.err = next }

// variable makes a word that holds n at the start.
func (p *program) variable(n uint64) variable { return variable{p.words(word{n: n}).n} }

// words puts words one after the other into data and returns their address.
func (p *program) words(ws ...word) word {
	start := p.reserve(8 * len(ws))
	for i, w := range ws {
		where := int(start.n) + 8*i
		if w.data {
			p.relocs = append(p.relocs, reloc{where, w})
			continue
		}
		binary.LittleEndian.PutUint64(p.data[where:], w.n)
	}
	return start
}

// reserve puts n zero bytes into data, aligned to words, and returns their
// address.
func (p *program) reserve(n int) word {
	start := len(p.data)
	p.blocks = append(p.blocks, block{start: start})
	p.data = append(p.data, make([]byte, (n+7)/8*8)...)
	return word{n: uint64(start), data: true}
}

// text puts s with a final NUL into data and returns its address.
func (p *program) text(s string) word {
	w := p.reserve(len(s) + 1)
	copy(p.data[w.n:], s)
	p.blocks[len(p.blocks)-1].text = true
	return w
}

// texts puts strings and a list of their addresses that NULL ends into data
// and returns the address of the list: an argv.
func (p *program) texts(ss []string) word {
	ws := make([]word, 0, len(ss)+1)
	for _, s := range ss {
		ws = append(ws, p.text(s))
	}
	return p.words(append(ws, num(0))...)
}

// link resolves every address and returns the data segment of an image: header,
// ops, data.
func (p *program) link() ([]byte, error) { return p.linkAt(dataBase) }

// linkAt is link for a program that lies at base.
func (p *program) linkAt(base uint64) ([]byte, error) {
	dataStart := base + headerSize + opSize*uint64(len(p.ops)+1)
	scratch := p.reserve(8)
	out := make([]byte, headerSize+opSize*(len(p.ops)+1)+len(p.data))
	for i := range p.ops {
		if err := p.linkOp(i, out[headerSize+opSize*i:], dataStart, scratch); err != nil {
			return nil, err
		}
	}
	// Falling off the end is a defect of the program: it exits at once.
	end := out[headerSize+opSize*len(p.ops):]
	op{code: unix.SYS_EXIT_GROUP, args: [6]uint64{255}}.put(end)
	for _, r := range p.relocs {
		binary.LittleEndian.PutUint64(p.data[r.at:], r.w.resolve(dataStart))
	}
	copy(end[opSize:], p.data)
	return out, nil
}

// linkOp writes op i to out as the interpreter reads it. What nobody wants goes
// to scratch.
func (p *program) linkOp(i int, out []byte, dataStart uint64, scratch word) (err error) {
	pending, first := &p.ops[i], dataStart-opSize*uint64(len(p.ops)+1)
	o := op{code: pending.code, step: pending.step}
	for n, w := range pending.words {
		o.args[n] = w.resolve(dataStart)
		if w.indirect {
			o.indirect |= 1 << n
		}
	}
	if !pending.to.data {
		pending.to = scratch
	}
	o.dst = pending.to.resolve(dataStart)
	if o.ok, err = p.resolveLabel(pending.ok, i, first); err != nil {
		return err
	}
	if o.err, err = p.resolveLabel(pending.err, i, first); err != nil {
		return err
	}
	o.put(out)
	return nil
}

// resolve turns an offset into an address.
func (w word) resolve(dataStart uint64) uint64 {
	if w.data {
		return dataStart + w.n
	}
	return w.n
}

// resolveLabel returns the address of the op that l names, seen from op i, where
// that of op 0 is first.
func (p *program) resolveLabel(l label, i int, first uint64) (uint64, error) {
	index := i + 1
	if l != next {
		index = p.labels[l]
	}
	if index < 0 {
		return 0, fmt.Errorf("forkexec: op %d (%s) jumps to a label that is nowhere", i, Step(p.ops[i].step))
	}
	return first + opSize*uint64(index), nil
}

// put writes o as the interpreter reads it.
func (o op) put(b []byte) {
	le := binary.LittleEndian
	b = b[:opSize]
	le.PutUint64(b, uint64(o.code))
	for i, a := range o.args {
		le.PutUint64(b[8+8*i:], a)
	}
	for i, n := range [...]uint64{o.indirect, o.dst, o.ok, o.err, o.step} {
		le.PutUint64(b[56+8*i:], n)
	}
}
