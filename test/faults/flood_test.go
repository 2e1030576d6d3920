// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/test/cve/rig"
)

const (
	floodSize = 200 << 20 // bytes
	maxMemory = 32 << 10  // KiB of the tool, whatever flows through it
)

// attackFlood writes 200 MB.
func attackFlood([]string) error {
	block := make([]byte, 1<<20)
	for range floodSize / len(block) {
		if _, err := os.Stdout.Write(block); err != nil {
			return err
		}
	}
	return stay()
}

// TestFlood reads a little of a command that floods, and then no more. The tool
// keeps nothing of what nobody takes, and can be ended all the same.
func TestFlood(t *testing.T) {
	begin(t)
	tool, c := rig.Build(t), box(t)
	for name, read := range map[string]int{"stops": 1 << 20, "reads all": floodSize} {
		t.Run(name, func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			tool := tool.In(t)
			cmd := tool.Command(tool.Args(append([]string{"enter", fmt.Sprint(c.Pid()), "--"}, rig.Attack("flood")...)...)...)
			cmd.Stdout = w
			s := tool.StartCommand(cmd)
			w.Close()
			command := s.Visitor("outband")
			buf := make([]byte, 1<<16)
			for got := 0; got < read; {
				n, err := r.Read(buf)
				if err != nil {
					t.Fatal(err)
				}
				got += n
			}
			if kib := peak(t, s.Process.Pid); kib > maxMemory {
				t.Errorf("the tool took %d KiB at its peak", kib)
			}
			_ = s.Process.Signal(unix.SIGTERM)
			rig.Eventually(t, "the command outlives TERM", func() bool { return !command.Alive() })
			r.Close() // what it wrote last waits for its reader
			if res := s.Wait(); res.Hung || res.Code != 128+int(unix.SIGTERM) && res.Code != 128+int(unix.SIGPIPE) && res.Code != -1 {
				t.Errorf("%+v", res)
			}
			nothingLeft(t, tool, c)
		})
	}
}

// peak is the most memory that a process has had, in KiB.
func peak(t *testing.T, pid int) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSuffix(rig.Status(pid, "VmHWM"), " kB"))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestBackgroundChild has commands that leave children with their pipes open.
// The call ends with the command.
func TestBackgroundChild(t *testing.T) {
	begin(t)
	tool, c := rig.Build(t), box(t)
	for range 10 {
		if r := tool.Run("enter", fmt.Sprint(c.Pid()), "spawn", "sleep", "infinity"); r.Code != 0 || r.Hung {
			t.Fatalf("%+v", r)
		}
		nothingLeft(t, tool, c)
	}
}
