// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// scratch is where the parts of the new root are mounted before it is one.
const scratch = "/tmp"

// memorySize bounds each of a host's file systems, by the option of tmpfs(5).
const memorySize = "size=3g,mode=755"

// stage turns the first process of new namespaces into the host's init. It has
// the machine's root still, and nothing of what it mounts reaches the machine.
func stage(p *plan) error {
	for _, h := range p.Hierarchies {
		if err := os.WriteFile(filepath.Join(h.Dir, p.Group, "cgroup.procs"), []byte("0"), 0); err != nil {
			return fmt.Errorf("join the host's cgroup: %w", err)
		}
	}
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("unshare cgroup namespace: %w", err)
	}
	if err := mountAll(p); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(p.Name)); err != nil {
		return err
	}
	if err := loopbackUp(); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	unix.Umask(0o022)
	// The thread that executes has the new cgroup namespace, and becomes the first.
	return syscall.Exec("/proc/self/exe", p.argv(initArg), hostEnv)
}

// hostEnv is the environment of what runs on a host, unless it is told another.
var hostEnv = []string{
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "USER=root",
}

// mountAll makes the host's root and moves there.
func mountAll(p *plan) error {
	root := scratch + "/root"
	steps := []mount{
		{"", "/", "", unix.MS_PRIVATE | unix.MS_REC, ""},
		{"tmpfs", scratch, "tmpfs", 0, memorySize},
		{"overlay", root, "overlay", 0, "lowerdir=/,upperdir=" + scratch + "/upper,workdir=" + scratch + "/work"},
		{"proc", root + "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"sysfs", root + "/sys", "sysfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"tmpfs", root + "/dev", "tmpfs", unix.MS_NOSUID, "mode=755"},
		{"devpts", root + "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620,gid=5"},
		{"tmpfs", root + "/dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
		{"mqueue", root + "/dev/mqueue", "mqueue", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"tmpfs", root + "/tmp", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
		{"tmpfs", root + "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=755"},
	}
	for _, dir := range p.Memory {
		steps = append(steps, mount{"tmpfs", root + dir, "tmpfs", 0, memorySize})
	}
	steps = append(steps, cgroupMounts(p, root)...)
	for _, m := range steps {
		if err := m.do(); err != nil {
			return err
		}
		if m.target == scratch {
			if err := errors.Join(os.Mkdir(scratch+"/upper", 0o755), os.Mkdir(scratch+"/work", 0o755)); err != nil {
				return err
			}
		}
	}
	return errors.Join(devices(root+"/dev"), enterRoot(root))
}

// mount is the arguments of mount(2).
type mount struct {
	source, target, fstype string
	flags                  uintptr
	data                   string
}

// do mounts; a mount point that is missing is made. The target is below a root
// of the package's own, or the machine's in a mount namespace of our own.
func (m mount) do() error {
	if err := os.MkdirAll(m.target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(m.source, m.target, m.fstype, m.flags, m.data); err != nil {
		return fmt.Errorf("mount %s at %s: %w", m.fstype, m.target, err)
	}
	return nil
}

// cgroupMounts mounts the hierarchies as the machine has them, each from the
// host's own group down.
func cgroupMounts(p *plan, root string) []mount {
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	steps := []mount{}
	if len(p.Hierarchies) > 1 {
		steps = append(steps, mount{"tmpfs", root + "/sys/fs/cgroup", "tmpfs", flags, "mode=755"})
	}
	for _, h := range p.Hierarchies {
		switch {
		case h.Unified && p.HideUnified && len(p.Hierarchies) > 1:
		case h.Unified:
			steps = append(steps, mount{"cgroup2", root + h.Dir, "cgroup2", flags, ""})
		default:
			steps = append(steps, mount{"cgroup", root + h.Dir, "cgroup", flags, strings.Join(h.Options, ",")})
		}
	}
	return steps
}

// devices fills a /dev: copies of the machine's nodes that each system has.
func devices(dev string) error {
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty", "fuse", "net/tun", "kmsg"} {
		var st unix.Stat_t
		if err := unix.Stat("/dev/"+name, &st); err != nil {
			continue // not every machine has them all
		}
		err := errors.Join(os.MkdirAll(filepath.Dir(dev+"/"+name), 0o755),
			unix.Mknod(dev+"/"+name, unix.S_IFCHR|0o666, int(st.Rdev)), os.Chmod(dev+"/"+name, 0o666))
		if err != nil {
			return err
		}
	}
	for name, target := range map[string]string{
		"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
	} {
		if err := os.Symlink(target, filepath.Join(dev, name)); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// enterRoot makes root the root directory, and the machine's go.
func enterRoot(root string) error {
	if err := unix.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("let go of the machine's root: %w", err)
	}
	return unix.Chdir("/")
}

// loopbackUp brings up the only interface.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
}
