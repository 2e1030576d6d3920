// SPDX-License-Identifier: Apache-2.0

package throwaway

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrStuck says that a killed container was not gone in time: a process in it
// cannot die, or a visitor is not reaped by its own parent.
var ErrStuck = errors.New("killed, but not gone in time")

// Error is a container that could not be made; nothing of it is left. Where
// the machine's set-up does not allow it, there is a hint, and errors.Is says
// errors.ErrUnsupported. A Start that took too long is context.DeadlineExceeded.
type Error struct {
	Name string // the container's
	Step string // what was being done
	Err  error  // a syscall.Errno where the kernel refused
	hint string
}

func (e *Error) Error() string {
	return "make container " + e.Name + ": " + e.Step + ": " + e.Err.Error()
}

// Unwrap returns the kernel's error.
func (e *Error) Unwrap() error { return e.Err }

// Hint says what is missing and where that is set, or is empty.
func (e *Error) Hint() string { return e.hint }

// Is makes a refusal that has its reason in how the machine is set up an
// errors.ErrUnsupported.
func (e *Error) Is(target error) bool { return target == errors.ErrUnsupported && e.hint != "" }

// kinds are the namespace kinds by their names under /proc/PID/ns.
var kinds = []struct {
	flag uintptr
	name string
}{
	{unix.CLONE_NEWUSER, "user"}, {unix.CLONE_NEWPID, "pid"}, {unix.CLONE_NEWNS, "mnt"},
	{unix.CLONE_NEWUTS, "uts"}, {unix.CLONE_NEWIPC, "ipc"}, {unix.CLONE_NEWNET, "net"},
	{unix.CLONE_NEWCGROUP, "cgroup"}, {unix.CLONE_NEWTIME, "time"},
}

// explain finds out why err came of making the namespaces of mask; proc is
// /proc. It returns "" when the machine's set-up does not account for it.
func explain(err error, mask uintptr, proc fs.FS) string {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return ""
	}
	// A missing kind is EINVAL, as other things are: the directory tells.
	for _, k := range kinds {
		if mask&k.flag == 0 {
			continue
		}
		if _, err := fs.Stat(proc, path.Join("self/ns", k.name)); errors.Is(err, fs.ErrNotExist) {
			return "this kernel is built without " + k.name + " namespaces"
		}
	}
	switch errno {
	case unix.ENOSPC, unix.EUSERS: // EUSERS until 4.9
		return explainLimit(mask, proc)
	case unix.EPERM, unix.EACCES:
		return explainDenied(mask, proc)
	case unix.ENOSYS:
		return "this kernel, or a seccomp filter, does not offer the call"
	case unix.EINVAL:
		if mask&unix.CLONE_NEWTIME != 0 {
			return "entering a time namespace by exec needs Linux 6.2"
		}
	}
	return ""
}

// explainLimit accounts for ENOSPC of clone(2).
func explainLimit(mask uintptr, proc fs.FS) string {
	// namespaces(7): the limits are those of each user namespace on the way up,
	// of which one's own is the one that can be read.
	for _, k := range kinds {
		name := "user/max_" + k.name + "_namespaces"
		if mask&k.flag != 0 && sysctl(proc, name) == "0" {
			return k.name + " namespaces are turned off here: sysctl " + strings.ReplaceAll(name, "/", ".") + "=0"
		}
	}
	if mask&(unix.CLONE_NEWPID|unix.CLONE_NEWUSER) != 0 {
		return "pid and user namespaces nest at most 32 deep, and sysctl user.max_*_namespaces bounds their number"
	}
	return ""
}

// explainDenied accounts for EPERM and EACCES, of clone(2) and of what a fresh
// user namespace should allow.
func explainDenied(mask uintptr, proc fs.FS) string {
	user := mask&unix.CLONE_NEWUSER != 0
	switch {
	case user && sysctl(proc, "kernel/unprivileged_userns_clone") == "0": // Debian before 11
		return "user namespaces are root's alone here: sysctl kernel.unprivileged_userns_clone=0"
	case user && sysctl(proc, "kernel/apparmor_restrict_unprivileged_userns") == "1": // Ubuntu since 23.10
		return "AppArmor takes the rights from user namespaces here: sysctl kernel.apparmor_restrict_unprivileged_userns=1"
	case user:
		return "user namespaces are denied here: a container's seccomp filter, a security module, a chroot, or a /proc with parts covered"
	}
	return "containers are denied here: CAP_SYS_ADMIN is missing, or a seccomp filter or security module forbids it"
}

// sysctl returns a setting, or "" where the kernel has none of the name.
func sysctl(proc fs.FS, name string) string {
	data, err := fs.ReadFile(proc, path.Join("sys", name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// hostProc is where explain looks.
func hostProc() fs.FS { return os.DirFS("/proc") }
