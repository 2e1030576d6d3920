// SPDX-License-Identifier: Apache-2.0

package forkexec

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// An instruction as "go tool objdump" prints it.
type instruction struct {
	address uint64
	bytes   []byte
	text    string
}

// crossTest is this package's test binary for an architecture.
func crossTest(t *testing.T, arch string) string {
	t.Helper()
	_, err := exec.LookPath("go")
	need(t, err == nil, "the go tool")
	binary := filepath.Join(t.TempDir(), arch+".test")
	c := exec.Command("go", "test", "-c", "-vet=off", "-o", binary, ".")
	c.Env = append(os.Environ(), "GOARCH="+arch, "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", c.Args, err, out)
	}
	return binary
}

// disassemble returns the instructions of interpret as linked into binary, up
// to the end marker.
func disassemble(t *testing.T, binary string) []instruction {
	t.Helper()
	out, err := exec.Command("go", "tool", "objdump", "-s", `forkexec\.interpret$`, binary).Output()
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`^\s+interp_\w+\.s:\d+\s+0x([0-9a-f]+)\s+([0-9a-f]+)\s+(.*?)\s*$`)
	var found []instruction
	var all []byte
	for l := range strings.Lines(string(out)) {
		m := line.FindStringSubmatch(strings.TrimRight(l, "\n"))
		if m == nil {
			continue
		}
		address, _ := strconv.ParseUint(m[1], 16, 64)
		code, err := hex.DecodeString(m[2])
		if err != nil {
			t.Fatalf("%q: %v", l, err)
		}
		if strings.HasSuffix(binary, "arm64.test") { // words are printed as numbers
			code = []byte{code[3], code[2], code[1], code[0]}
		}
		found, all = append(found, instruction{address, code, m[3]}), append(all, code...)
	}
	end := bytes.Index(all, []byte(codeEnd))
	if end < 0 {
		t.Fatalf("no end marker in\n%s", out)
	}
	for i, at := 0, 0; i < len(found); i++ {
		if at >= end {
			return found[:i]
		}
		at += len(found[i].bytes)
	}
	t.Fatal("nothing follows the end marker")
	return nil
}

// forbidden is what would take interpret out of the bytes that are copied, or
// make them depend on where they lie: calls, returns, the stack, addresses
// relative to the program counter. Jumps are judged apart.
var forbidden = map[string]*regexp.Regexp{
	"amd64": regexp.MustCompile(`^(CALL|RET|LEA|PUSH|POP|INT|UD)|\(IP\)|\(SB\)|\bSP\b|\bFS\b|\bGS\b`),
	"arm64": regexp.MustCompile(`^(BL|BLR|BR|CALL|RET|ADR|ADRP|BRK|HVC|MRS|MSR)\b|\(SB\)|\bRSP\b|^(MOV|LDR).*\(PC\)`),
}

// jump finds the target of a jump: absolute on amd64, in words on arm64.
var jump = map[string]*regexp.Regexp{
	"amd64": regexp.MustCompile(`^J\w+ 0x([0-9a-f]+)$`),
	"arm64": regexp.MustCompile(`^(?:JMP|B\w+|TBN?Z|CBN?Z) .*?(-?\d+)\(PC\)$`),
}

// anyJump is what must have a target that jump finds.
var anyJump = regexp.MustCompile(`^(J\w+|B[A-Z.]*|TBN?Z|CBN?Z)\s`)

// TestInterpreterCode holds the interpreter to what its comment says, as it
// comes out of assembler and linker. (Mutants that lost: a CALL, a second
// SYSCALL, LEAQ of a symbol, on arm64 BL, SVC, ADRP.)
func TestInterpreterCode(t *testing.T) {
	gate := map[string]*regexp.Regexp{
		"amd64": regexp.MustCompile(`^SYSCALL\b`),
		"arm64": regexp.MustCompile(`^SVC\b`),
	}
	for _, arch := range []string{"amd64", "arm64"} {
		t.Run(arch, func(t *testing.T) {
			code := disassemble(t, crossTest(t, arch))
			if len(code) < 40 || len(code) > 120 {
				t.Errorf("%d instructions", len(code))
			}
			gates := 0
			for _, i := range code {
				if forbidden[arch].MatchString(i.text) {
					t.Errorf("%#x: %s", i.address, i.text)
				}
				if gate[arch].MatchString(i.text) {
					gates++
				}
				checkJump(t, arch, i, code)
			}
			if gates != 1 {
				t.Errorf("%d system call instructions", gates)
			}
			if arch == "arm64" {
				checkWords(t, code)
			}
			if arch == runtime.GOARCH {
				checkCopy(t, code)
			}
		})
	}
}

// checkJump fails if i jumps out of code.
func checkJump(t *testing.T, arch string, i instruction, code []instruction) {
	t.Helper()
	if anyJump.MatchString(i.text) && !strings.HasPrefix(i.text, "BT") {
		m := jump[arch].FindStringSubmatch(i.text)
		if m == nil {
			t.Errorf("%#x: %s goes nobody knows where", i.address, i.text)
			return
		}
		to, err := strconv.ParseUint(m[1], 16, 64)
		if arch == "arm64" {
			var words int64
			words, err = strconv.ParseInt(m[1], 10, 64)
			to = i.address + uint64(4*words)
		}
		if err != nil || to < code[0].address || to > code[len(code)-1].address {
			t.Errorf("%#x: %s leaves the code (%v)", i.address, i.text, err)
		}
	}
}

// checkWords decodes what on arm64 must not occur, whatever the disassembler
// calls it (Arm ARM, C4.1).
func checkWords(t *testing.T, code []instruction) {
	t.Helper()
	for _, i := range code {
		w := binary.LittleEndian.Uint32(i.bytes)
		switch {
		case w>>26 == 0b100101: // BL
		case w>>25 == 0b1101011: // BR, BLR, RET
		case w&0x1f000000 == 0x10000000: // ADR, ADRP
		case w&0x3b000000 == 0x18000000: // LDR literal
		case w>>24 == 0xd4 && w != 0xd4000001: // exceptions but SVC 0
		default:
			continue
		}
		t.Errorf("%#x: %08x %s", i.address, w, i.text)
	}
}

// checkCopy compares the bytes copied at run time with those on disk.
func checkCopy(t *testing.T, want []instruction) {
	t.Helper()
	var b []byte
	for _, i := range want {
		b = append(b, i.bytes...)
	}
	if !bytes.Equal(code(), b) {
		t.Errorf("code() = %x\nwant     %x", code(), b)
	}
}
