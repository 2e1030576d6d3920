// SPDX-License-Identifier: Apache-2.0

package forkexec

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// emulated is how many programs are run on the other architecture.
const emulated = 25

// imagesVariable names the directory that roleImages writes to.
const imagesVariable = "OUTBAND_TEST_DIR"

// roleImages writes images for the architecture it runs on, N.elf, and what the
// model says they do, N.want: a byte for the exit code, and the output.
func roleImages() error {
	for n, entropy := range seeds(emulated) {
		data, err := randomProgram(entropy)
		if n == 0 {
			data, err = edgeProgram()
		}
		if err != nil {
			return err
		}
		m := model{data: bytes.Clone(data)}
		code, err := m.run()
		if err != nil {
			return err
		}
		head, tail := image(data)
		file := make([]byte, segmentAlign, segmentAlign+len(tail))
		copy(file, head)
		name := filepath.Join(os.Getenv(imagesVariable), fmt.Sprint(n))
		if err := os.WriteFile(name+".elf", append(file, tail...), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(name+".want", append([]byte{byte(code)}, m.out...), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// TestEmulated runs images of arm64 under user-mode emulation. (Mutants of
// interp_arm64.s that lost: as those of FuzzInterpreter.)
func TestEmulated(t *testing.T) {
	const emulator = "qemu-aarch64"
	_, err := exec.LookPath(emulator)
	need(t, err == nil, emulator)
	dir := t.TempDir()
	c := exec.Command(emulator, crossTest(t, "arm64"))
	c.Env = append(os.Environ(), roleVariable+"=images", imagesVariable+"="+dir)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", c, err, out)
	}
	for n := range emulated {
		name := filepath.Join(dir, fmt.Sprint(n))
		want, err := os.ReadFile(name + ".want")
		if err != nil {
			t.Fatal(err)
		}
		out, code := runFile(t, exec.Command(emulator, name+".elf"), nil)
		if got := append([]byte{byte(code)}, out...); !bytes.Equal(got, want) {
			t.Errorf("program %d: %x\nwant %x", n, got, want)
		}
	}
}
