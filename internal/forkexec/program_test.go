// SPDX-License-Identifier: Apache-2.0

package forkexec

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// linked is p's data segment.
func linked(t *testing.T, p *program) []byte {
	t.Helper()
	data, err := p.link()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// opWords are the twelve words of op i.
func opWords(data []byte, i int) []uint64 {
	words := make([]uint64, opSize/8)
	for n := range words {
		words[n] = binary.LittleEndian.Uint64(data[headerSize+opSize*i+8*n:])
	}
	return words
}

// opAddress is where op i lies, dataAddress where the data of n ops does, which
// one more follows.
func opAddress(i int) uint64   { return dataBase + headerSize + opSize*uint64(i) }
func dataAddress(n int) uint64 { return opAddress(n + 1) }

func TestLinkResolves(t *testing.T) {
	p := newProgram(nil)
	fail := p.label()
	p.onFailure(fail)
	v := p.variable(42)
	back := p.here()
	p.call(StepJoin, 7, num(-3), v.address(), v.value()).into(v)
	forward := p.label()
	p.compute(opAnd, num(1), num(2)).then(forward).orElse(back)
	p.place(forward)
	p.place(fail)
	p.jump(back)
	data := linked(t, p)

	vAt, scratch := dataAddress(3), dataAddress(3)+8
	for i, want := range [][]uint64{
		{7, ^uint64(2), vAt, vAt, 0, 0, 0, 1 << 2, vAt, opAddress(1), opAddress(2), uint64(StepJoin)},
		{^uint64(2), 1, 2, 0, 0, 0, 0, 0, scratch, opAddress(2), opAddress(0), uint64(StepNone)},
		{^uint64(0), 0, 0, 0, 0, 0, 0, 0, scratch, opAddress(0), opAddress(2), uint64(StepNone)},
	} {
		if got := opWords(data, i); !slices.Equal(got, want) {
			t.Errorf("op %d is  %#x\nshould be %#x", i, got, want)
		}
	}
	if got := binary.LittleEndian.Uint64(data[vAt-dataBase:]); got != 42 {
		t.Errorf("the variable starts with %d", got)
	}
	if want := int(scratch) + 8 - dataBase; len(data) != want {
		t.Errorf("%d bytes, not %d", len(data), want)
	}
	if !bytes.Equal(data[:headerSize], make([]byte, headerSize)) {
		t.Errorf("the header starts with %x", data[:headerSize])
	}
}

func TestLinkRefusesLabelThatIsNowhere(t *testing.T) {
	for name, jump := range map[string]func(*program, label){
		"then":    func(p *program, l label) { p.call(StepRoot, 0).then(l).orElse(next) },
		"orElse":  func(p *program, l label) { p.call(StepRoot, 0).orElse(l) },
		"failure": func(p *program, l label) { p.onFailure(l); p.call(StepRoot, 0) },
	} {
		p := newProgram(nil)
		p.onFailure(next)
		p.call(StepUmask, 0)
		jump(p, p.label())
		if _, err := p.link(); err == nil || !strings.Contains(err.Error(), "op 1 (change root)") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLabelPlacedTwice(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	p := newProgram(nil)
	l := p.here()
	p.call(StepNone, 0)
	p.place(l)
}

// TestFallingOffTheEnd also shows that a label may stand there.
func TestFallingOffTheEnd(t *testing.T) {
	for name, build := range map[string]func(p *program){
		"no op":  func(*program) {},
		"one op": func(p *program) { p.compute(opAdd) },
		"jump": func(p *program) {
			end := p.label()
			p.jump(end)
			p.call(StepNone, unix.SYS_EXIT_GROUP, num(1))
			p.place(end)
		},
	} {
		p := newProgram(nil)
		p.onFailure(next)
		build(p)
		if _, code := runImage(t, linked(t, p), nil); code != 255 {
			t.Errorf("%s: exit code %d", name, code)
		}
	}
}

func TestDataLayout(t *testing.T) {
	p := newProgram(nil)
	odd := p.text("seven b")             // 8 bytes with its NUL
	even := p.text("eight by")           // 9 bytes, takes 16
	empty := p.text("")                  //
	list := p.texts([]string{"a", "bc"}) // two texts, then three words
	mixed := p.words(num(-1), at(list, 8), num(uint64(1)<<63))
	data := linked(t, p)
	base := dataAddress(0)

	for name, c := range map[string]struct {
		w      word
		offset uint64
		want   []byte
	}{
		"odd":   {odd, 0, []byte("seven b\x00")},
		"even":  {even, 8, []byte("eight by\x00\x00\x00\x00\x00\x00\x00\x00")},
		"empty": {empty, 24, make([]byte, 8)},
		"list":  {list, 48, wordBytes(base+32, base+40, 0)},
		"mixed": {mixed, 72, wordBytes(^uint64(0), base+56, 1<<63)},
	} {
		if c.w.n != c.offset || !c.w.data || c.w.indirect {
			t.Errorf("%s: %+v, should be at %d", name, c.w, c.offset)
		}
		at := int(base-dataBase) + int(c.offset)
		if got := data[at : at+len(c.want)]; !bytes.Equal(got, c.want) {
			t.Errorf("%s: %x, should be %x", name, got, c.want)
		}
	}
	if got := string(data[base-dataBase+32:][:11]); got != "a\x00\x00\x00\x00\x00\x00\x00bc\x00" {
		t.Errorf("the texts of the list: %q", got)
	}
}

// wordBytes are words as they lie in memory.
func wordBytes(ws ...uint64) (b []byte) {
	for _, w := range ws {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	return b
}

// TestFaultPlan replaces calls of the step named, and only these.
func TestFaultPlan(t *testing.T) {
	p := newProgram(map[Step]unix.Errno{StepRoot: unix.EPERM})
	p.onFailure(next)
	p.call(StepRoot, 5, num(1))
	p.call(StepJoin, 6, num(2))
	data := linked(t, p)
	if o := opWords(data, 0); int64(o[0]) != opFail || int64(o[1]) != -int64(unix.EPERM) || Step(o[11]) != StepRoot {
		t.Errorf("the faulty op is %#x", o)
	}
	if o := opWords(data, 1); o[0] != 6 || o[1] != 2 {
		t.Errorf("the other op is %#x", o)
	}
}

func TestStepNames(t *testing.T) {
	seen := map[string]Step{}
	for s := range stepCount {
		name := s.String()
		if other, twice := seen[name]; name == "" || twice {
			t.Errorf("step %d is called %q, as step %d", uint64(s), name, other)
		}
		seen[name] = s
	}
	if got := stepCount.String(); got != "step "+itoa(int(stepCount)) {
		t.Errorf("an unknown step is called %q", got)
	}
}

func TestItoa(t *testing.T) {
	for n, want := range map[int]string{0: "0", 9: "9", 10: "10", 1000: "1000", -1: "-1", -1000: "-1000"} {
		if got := itoa(n); got != want {
			t.Errorf("itoa(%d) = %q", n, got)
		}
	}
}

// TestPollOfNewPidfd waits for a descriptor as Linux stores it: 32 bits. (Mutant
// that lost: noFD of 64 bits, whose upper half then clears the events.)
func TestPollOfNewPidfd(t *testing.T) {
	b := &builder{program: newProgram(nil), spec: &Spec{}}
	failed, child, pidfd, pid, n := b.label(), b.label(), b.variable(noFD), b.variable(0), b.variable(0)
	b.onFailure(failed)
	args := b.words(num(unix.CLONE_PIDFD), pidfd.address(), num(0), num(0), num(int(unix.SIGCHLD)),
		num(0), num(0), num(0), num(0), num(0), num(0))
	b.call(StepForkJoiner, unix.SYS_CLONE3, args, num(88)).into(pid)
	b.ifSame(pid.value(), num(0), child)
	ps := b.polls(1)
	b.watch(ps[0], pidfd.value(), unix.POLLIN)
	b.poll(StepWatch, ps, b.timespec(int(deadline/time.Millisecond))).into(n)
	b.call(StepNone, unix.SYS_EXIT_GROUP, n.value()) // how many are ready
	b.place(child)
	b.exit(0)
	b.place(failed)
	b.call(StepNone, unix.SYS_EXIT_GROUP, lastErrno())
	if _, code := runImage(t, linked(t, b.program), nil); code != 1 {
		t.Errorf("exit code %d", code)
	}
}
