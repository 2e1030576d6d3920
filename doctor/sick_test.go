// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband"
	"github.com/outband/outband/internal/sys"
	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
)

// sickJob is the first argument by which this binary is the init of a container
// with something wrong, which the second one names.
const sickJob = "__sick"

// sicknesses are what an init does to its container.
func sicknesses() map[string]func() error {
	mount := func(options string) error {
		return errors.Join(os.Mkdir("/mnt", 0o755), unix.Mount("t", "/mnt", "tmpfs", 0, options))
	}
	return map[string]func() error{
		"nothing": func() error { return nil },
		"full": func() error {
			err := mount("size=1m")
			_ = os.WriteFile("/mnt/f", make([]byte, 2<<20), 0o600)
			return err
		},
		"inodes": func() error {
			err := mount("size=1m,nr_inodes=8")
			for i := range 8 {
				_ = os.Mkdir("/mnt/"+itoa(i), 0o755)
			}
			return err
		},
		"failed": func() error { // as ext4 does it: the file system is read-only, its mount is not
			if err := mount("size=1m"); err != nil {
				return err
			}
			fd, err := unix.Fspick(unix.AT_FDCWD, "/mnt", unix.FSPICK_CLOEXEC)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return errors.Join(unix.FsconfigSetFlag(fd, "ro"), unix.FsconfigReconfigure(fd))
		},
		"child": func() error { // that sleeps
			cmd := exec.Command("/bin/outband", sickJob, "nothing")
			out, err := cmd.StdoutPipe()
			if err = errors.Join(err, cmd.Start()); err != nil {
				return err
			}
			_, err = bufio.NewReader(out).ReadString('\n')
			return err
		},
		"zombie": func() error {
			cmd := exec.Command("/bin/true")
			if err := cmd.Start(); err != nil {
				return err
			}
			return unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil) // it is left
		},
		"files": func() error {
			for {
				if _, err := unix.Open("/dev/null", unix.O_RDONLY, 0); err != nil {
					return nil
				}
			}
		},
	}
}

func beSick(name string) int {
	time.Sleep(time.Millisecond) // Go's poller opens files the first time
	job := sicknesses()[name]
	if job == nil {
		job = sicker()[name]
	}
	if err := job(); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("ready")
	for {
		time.Sleep(time.Hour)
	}
}

// start starts a container with something wrong.
func start(t *testing.T, name string, change func(*throwaway.Spec)) *throwaway.Container {
	t.Helper()
	near, far, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	spec := throwaway.Spec{Args: []string{"/bin/outband", sickJob, name}, Stdout: far}
	if change != nil {
		change(&spec)
	}
	c := testutil.Throwaway(t, spec)
	far.Close()
	if line, _ := bufio.NewReader(near).ReadString('\n'); line != "ready\n" {
		t.Fatalf("it says %q", line)
	}
	return c
}

// look examines it.
func look(t *testing.T, c *throwaway.Container) *Report {
	t.Helper()
	var target *outband.Target
	var err error
	if cerr := sys.Control(c.Pidfd(), func(fd int) { target, err = outband.OpenPidfd(context.Background(), fd) }); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	defer target.Close()
	r, err := Examine(context.Background(), target)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// found is what was found, a line each.
func (r *Report) found() (lines []string) {
	for _, f := range r.Findings {
		lines = append(lines, fmt.Sprintf("%s %s: %s", f.Grade, f.About, f.Text))
	}
	return lines
}

// TestSick makes containers in which one thing is wrong, which is what is found.
func TestSick(t *testing.T) {
	testutil.RequireRoot(t)
	for name, want := range map[string]string{
		"nothing": "", "full": "bad file system /mnt: 1.0 MiB of 1.0 MiB in use", "inodes": "bad file system /mnt: 8 of 8 inodes in use",
		"failed": "bad file system /mnt: it has gone read-only by itself (tmpfs)", "zombie": "note processes: 1 process has ended and not reaped",
		"files": "bad open files: 64 of 64 in use (init)",
	} {
		t.Run(name, func(t *testing.T) {
			r := look(t, start(t, name, func(s *throwaway.Spec) {
				s.Rlimits = map[int]unix.Rlimit{unix.RLIMIT_NOFILE: {Cur: 64, Max: 64}}
			}))
			r.Findings = slices.DeleteFunc(r.Findings, func(f Finding) bool { // the machine's own
				return f.About == "cpu" || f.About == "memory" || f.About == "io"
			})
			found := r.found()
			if text := strings.Join(found, "\n"); !strings.HasPrefix(text, want) || (want == "") != (text == "") {
				t.Errorf("%q, want %q; not seen: %v", found, want, r.Unseen)
			}
			if r.Init == nil || r.Init.PIDs[len(r.Init.PIDs)-1] != 1 || r.Processes == nil || r.Network == nil || r.Network.Shared {
				t.Errorf("%+v", r)
			}
		})
	}
}
