// SPDX-License-Identifier: Apache-2.0

package cve

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/test/cve/rig"
)

// attackDeadroot makes a file system that does not answer the container's root
// and working directory, and says on request how often it was asked.
func attackDeadroot([]string) error {
	const device, dir = "/dev/fuse", "/tmp"
	if err := unix.Mknod(device, unix.S_IFCHR|0o666, int(unix.Mkdev(10, 229))); err != nil {
		return err
	}
	f, err := os.OpenFile(device, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", f.Fd())
	if err := unix.Mount("dead", dir, "fuse", 0, options); err != nil {
		return err
	}
	var asked atomic.Int64
	go swallowAll(f, &asked)
	if err := unix.Chroot(dir); err != nil {
		return err
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	fmt.Println("ready")
	for line := ""; ; {
		if _, err := fmt.Scanln(&line); err != nil {
			return nil
		}
		fmt.Println(asked.Load())
	}
}

// swallowAll answers the first request and those whether one may enter the root,
// counts the others and takes them.
func swallowAll(f *os.File, asked *atomic.Int64) {
	const init, access = 26, 34
	buf := make([]byte, 1<<17)
	for {
		if _, err := unix.Read(int(f.Fd()), buf); err != nil {
			return
		}
		var reply []byte // struct fuse_out_header, for init struct fuse_init_out of version 7.31
		switch binary.LittleEndian.Uint32(buf[4:]) {
		case init:
			reply = make([]byte, 16+64)
			binary.LittleEndian.PutUint32(reply[16:], 7)
			binary.LittleEndian.PutUint32(reply[20:], 31)
		case access:
			reply = make([]byte, 16)
		default:
			asked.Add(1)
			continue
		}
		binary.LittleEndian.PutUint32(reply, uint32(len(reply)))
		copy(reply[8:16], buf[8:16])
		_, _ = unix.Write(int(f.Fd()), reply)
	}
}

// TestA27 looks at a container whose root does not answer, with another beside
// it whose first process does not tell its arguments: all is listed, nothing of
// the file system is asked. Who does ask hangs, but for doctor, which gives up.
func TestA27(t *testing.T) {
	begin(t)
	testutil.RequireFUSE(t)
	b := newBox(t, throwaway.Spec{}, rig.Attack("deadroot"))
	if said, ok := b.hear(); !ok || said != "ready" {
		t.Fatalf("%q", said)
	}
	mute := fmt.Sprint(testutil.Mute(t))
	tool := rig.Build(t)
	pid := b.pid()
	for _, args := range [][]string{
		{"ls"}, {"ls", "-a", "-o", "json"}, {"ls", "-o", "wide"}, {"tree"}, {"tree", pid}, {"tree", "--all"}, {"tree", "-o", "json"}, {"sessions"},
		{"pid", pid, "1"}, {"pid", pid, "--from", "host", pid}, {"signal", pid, "0", "1"}, {"inspect", pid}, {"__complete", "tree", ""},
	} {
		r := tool.In(t).Run(args...)
		if r.Code != 0 || r.Hung {
			t.Errorf("%q: %+v", args, r)
		}
		if args[0] == "tree" || args[0] == "ls" {
			checkListed(t, args, r, pid, mute)
		}
	}
	var asked int
	if b.ask(&asked, "asked"); asked != 0 {
		t.Errorf("the container's file system was asked %d times", asked)
	}
	const told = "r.Init.Kind, r.Init.Exe = inits.KindOf(l.proc, c.Init.PID)"
	curious := rig.Build(t, rig.Change{File: "cmd/outband/ls.go", Old: told,
		New: told + `; _, _ = os.Stat(fmt.Sprintf("/proc/%d/root/etc", c.Init.PID))`})
	s := curious.In(t).Start("ls")
	if rig.Within(4*time.Second, s.Ended) {
		t.Errorf("the mutant ends as well: %+v", s.Wait())
	}
	if b.ask(&asked, "asked"); asked == 0 {
		t.Error("the mutant asks for nothing")
	}
	for _, args := range [][]string{{"doctor", pid}, {"doctor", pid, "-o", "json"}} { // it does ask, and gives up
		r := tool.In(t).Run(args...)
		if r.Code != 0 || r.Hung || !strings.Contains(r.Out, "it does not answer") || !strings.Contains(r.Out, "/etc/resolv.conf: filesystem not responding") {
			t.Errorf("%q: %+v", args, r)
		}
	}
	if err := b.Close(); err != nil { // with it goes the file system, and who waits for it
		t.Error(err)
	}
}

// checkListed looks for the container in a listing, and for who is mute where all
// processes are listed.
func checkListed(t *testing.T, args []string, r rig.Result, pid, mute string) {
	t.Helper()
	if !strings.Contains(r.Out, pid) {
		t.Errorf("%q lacks the container: %+v", args, r)
	}
	switch strings.Join(args, " ") {
	case "tree --all":
		line := lineOf(r.Out, mute)
		if !strings.Contains(line, "does not answer") {
			t.Errorf("%q: %q", args, line)
		}
	case "tree -o json":
		if !strings.Contains(r.Out, `{"pids":[`+mute+`],`) || strings.Count(r.Out, `"silent":true`) != 1 {
			t.Errorf("%q: %s is not told to be silent: %s", args, mute, r.Out)
		}
	}
}

// lineOf is the line that begins with a number.
func lineOf(text, number string) string {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimSpace(line), number+" ") {
			return line
		}
	}
	return ""
}
