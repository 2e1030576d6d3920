// SPDX-License-Identifier: Apache-2.0

package confine

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/sys"
	"github.com/outband/outband/internal/testutil"
)

// Arguments by which the test binary knows what to become.
const (
	capsArg   = "__caps"   // with a state to take; executes showArg
	showArg   = "__show"   // shows its capabilities
	filterArg = "__filter" // sets a filter of system calls and waits
)

func TestMain(m *testing.M) {
	var job func(string) error
	switch {
	case len(os.Args) == 3 && os.Args[1] == capsArg:
		job = takeAndExecute
	case len(os.Args) == 3 && os.Args[1] == showArg:
		job = func(string) error { return show() }
	case len(os.Args) == 2 && os.Args[1] == filterArg:
		job = func(string) error { return filter() }
	default:
		testutil.Main(m)
	}
	if err := job(os.Args[len(os.Args)-1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// taken is what a process takes before it executes.
type taken struct {
	Real, Effective int // users
	Caps            Caps
	NoRoot          bool
}

// AfterExec is asked what the kernel does, in all shapes that an init and what
// enters beside it may have.
func TestAfterExecIsTheKernels(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	const a, b, c = 1 << unix.CAP_CHOWN, 1 << unix.CAP_KILL, 1 << unix.CAP_SYS_ADMIN
	own := stateOf(t, os.Getpid()).Caps.Bounding
	sets := map[string]Caps{
		"all":                      {Effective: own, Permitted: own, Bounding: own},
		"none":                     {},
		"bounding only":            {Bounding: own},
		"permitted below bounding": {Effective: a, Permitted: a | b, Bounding: a | b | c},
		"inheritable":              {Effective: a, Permitted: a | b, Inheritable: a, Bounding: a | b | c},
		"ambient":                  {Effective: a | b, Permitted: a | b, Inheritable: a | b, Bounding: a | b, Ambient: a},
		"nothing bounding":         {Effective: a, Permitted: a},
	}
	for name, caps := range sets {
		for _, users := range [][2]int{{0, 0}, {0, 1000}, {1000, 0}, {1000, 1000}} {
			for _, noRoot := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%v/noroot %v", name, users, noRoot), func(t *testing.T) {
					before, after := executed(t, taken{users[0], users[1], caps, noRoot})
					want := before.AfterExec(users[0] == 0 && !noRoot, users[1] == 0 && !noRoot)
					if before != caps {
						t.Fatalf("the test holds %+v before its exec, not %+v", before, caps)
					}
					if users[0] != users[1] {
						// Older kernels take this for a set-user-ID program and
						// clear the ambient set: less, and no danger.
						want.Ambient &= after.Ambient
						want.Permitted &= after.Permitted | ^caps.Ambient
						want.Effective &= after.Effective | ^caps.Ambient
					}
					if after != want {
						t.Errorf("%+v\nbecame %+v\nwant   %+v", before, after, want)
					}
				})
			}
		}
	}
}

// executed returns the capabilities of a process that has taken something and
// then executed a file.
func executed(t *testing.T, what taken) (before, after Caps) {
	t.Helper()
	arg, err := json.Marshal(what)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", capsArg, string(arg))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := json.NewDecoder(bufio.NewReader(out))
	if err := lines.Decode(&before); err != nil {
		t.Error(err)
	}
	if err := lines.Decode(&after); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	return before, after
}

// takeAndExecute becomes what arg says and executes the test binary.
func takeAndExecute(arg string) error {
	runtime.LockOSThread() // all of this is the thread's
	var what taken
	if err := json.Unmarshal([]byte(arg), &what); err != nil {
		return err
	}
	for _, step := range []func(taken) error{dropBounding, setSecurebits, setUsers, setCaps} {
		if err := step(what); err != nil {
			return err
		}
	}
	if err := show(); err != nil {
		return err
	}
	return syscall.Exec("/proc/self/exe", []string{"test", showArg, "x"}, nil)
}

func dropBounding(what taken) error {
	for c := range uintptr(unix.CAP_LAST_CAP + 1) {
		if what.Caps.Bounding&(1<<c) != 0 {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
			return fmt.Errorf("drop %d: %w", c, err)
		}
	}
	return nil
}

func setSecurebits(what taken) error {
	const noRoot, keepCaps = 1, 1 << 4
	bits := uintptr(keepCaps)
	if what.NoRoot {
		bits |= noRoot
	}
	return unix.Prctl(unix.PR_SET_SECUREBITS, bits, 0, 0, 0)
}

func setUsers(what taken) error {
	// Not package syscall's, which changes all threads.
	_, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(what.Real), uintptr(what.Effective), uintptr(what.Effective))
	if errno != 0 {
		return errno
	}
	return nil
}

func setCaps(what taken) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	for i := range data {
		shift := 32 * i
		data[i] = unix.CapUserData{Effective: uint32(what.Caps.Effective >> shift),
			Permitted: uint32(what.Caps.Permitted >> shift), Inheritable: uint32(what.Caps.Inheritable >> shift)}
	}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("capset: %w", err)
	}
	for c := range uintptr(unix.CAP_LAST_CAP + 1) {
		if what.Caps.Ambient&(1<<c) == 0 {
			continue
		}
		if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, c, 0, 0); err != nil {
			return fmt.Errorf("ambient %d: %w", c, err)
		}
	}
	return nil
}

// show prints the capabilities of the calling thread.
func show() error {
	text, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		return err
	}
	s, err := procfs.ParseStatus(text)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(Caps{Effective: s.CapEff, Permitted: s.CapPrm,
		Inheritable: s.CapInh, Bounding: s.CapBnd, Ambient: s.CapAmb})
}

// filter sets a filter that allows everything, on all threads, tells so and
// waits for the end of its input.
func filter() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	allow := binary.LittleEndian.AppendUint32([]byte{unix.BPF_RET | unix.BPF_K, 0, 0, 0}, unix.SECCOMP_RET_ALLOW)
	if err := sys.SetFilter(allow, unix.SECCOMP_FILTER_FLAG_TSYNC); err != nil {
		return err
	}
	fmt.Print("x")
	_, err := os.Stdin.Read(make([]byte, 1))
	_ = err // the end
	return nil
}
