// SPDX-License-Identifier: Apache-2.0

package throwaway

import (
	"errors"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	// binDir holds the binary and its applets; every PATH has it.
	binDir = "/bin"
	// binary is what the copy of the running program is called.
	binary = "outband"
	// jail is the directory that Spec.Chroot puts the tree in.
	jail = "jail"
	// scratch is covered by the new root while that is built. Any directory
	// would do that has nothing below it that is still needed.
	scratch = "/tmp"
)

// treeSteps gives the container its files.
func (s *stage) treeSteps() []step {
	var steps []step
	if s.Namespaces&unix.CLONE_NEWNS != 0 {
		// Nothing that is mounted from here on reaches the creator's tree.
		steps = append(steps, step{name: "make mounts private", do: func() error {
			return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}})
	}
	switch s.Tree {
	case TreeShared: // a second /proc over the first
		return append(steps, step{name: "mount /proc", do: s.proc})
	case TreeHost:
		return steps
	}
	return append(steps,
		step{name: "mount a tmpfs on " + scratch, do: s.tmpfs},
		step{name: "copy the binary", do: s.copyBinary},
		step{name: "write /etc", do: s.etc},
		step{name: "make device nodes", do: s.devices},
		step{name: "mount devpts", do: s.devpts},
		step{name: "mount /proc", do: s.proc},
		step{name: "change the root", do: s.pivot},
		step{name: "make the root read-only", do: s.seal})
}

// path is where the container's name lies while the root is built.
func (s *stage) path(name string) string { return filepath.Join(s.base, name) }

// tmpfs mounts the new root and makes its directories.
func (s *stage) tmpfs() error {
	unix.Umask(0) // modes below are meant as they are; limits sets it again
	// The size bounds what a container can take of the machine's memory, and is
	// enough for a few copies of a test binary. Device nodes have to work.
	if err := unix.Mount("tmpfs", scratch, "tmpfs", unix.MS_NOSUID, "mode=0755,size=256m"); err != nil {
		return err
	}
	s.base = scratch
	if s.Chroot {
		s.base = filepath.Join(scratch, jail)
	}
	for _, dir := range []string{binDir, "/dev/pts", "/etc", "/proc", "/root", "/run"} {
		if err := os.MkdirAll(s.path(dir), 0o755); err != nil {
			return err
		}
	}
	return unix.Mkdir(s.path("/tmp"), 0o1777)
}

// copyBinary makes a copy, since a bind mount would let the container's root
// write to the program outside (CVE-2019-5736).
func (s *stage) copyBinary() error {
	if err := copyFile("/proc/self/exe", s.path(filepath.Join(binDir, binary))); err != nil {
		return err
	}
	// Links are found by PATH, and make argv[0] and comm the applet's name.
	for name := range applets() {
		if err := os.Symlink(binary, s.path(filepath.Join(binDir, name))); err != nil {
			return err
		}
	}
	needed, err := libraries() // of the creator's binary, as long as this is it
	if err != nil {
		return err
	}
	for _, file := range needed {
		err := os.MkdirAll(filepath.Dir(s.path(file)), 0o755)
		if err = errors.Join(err, copyFile(file, s.path(file))); err != nil {
			return err
		}
	}
	return nil
}

// copyFile makes an executable copy.
func copyFile(name, path string) error {
	from, err := os.Open(name)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Close())
}

// etc writes what names ids and the host.
func (s *stage) etc() error {
	for name, text := range map[string]string{
		"passwd":   "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
		"group":    "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n",
		"hostname": s.Name + "\n",
	} {
		if err := os.WriteFile(s.path("/etc/"+name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// devices makes nodes where that is allowed, else binds the creator's (a user
// namespace cannot make any: EPERM).
func (s *stage) devices() error {
	for name, minor := range map[string]uint32{"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9, "tty": 0} {
		major := uint32(1)
		if name == "tty" {
			major = 5
		}
		path := s.path("/dev/" + name)
		// For everybody, as on every host: users inside need them too.
		err := unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(major, minor)))
		if errors.Is(err, unix.EPERM) {
			err = bindFile("/dev/"+name, path)
		}
		if err != nil {
			return &os.PathError{Op: "mknod", Path: name, Err: err}
		}
	}
	for name, to := range map[string]string{"fd": "", "stdin": "/0", "stdout": "/1", "stderr": "/2"} {
		if err := os.Symlink("/proc/self/fd"+to, s.path("/dev/"+name)); err != nil {
			return err
		}
	}
	return nil
}

// bindFile shows the creator's file at path.
func bindFile(from, path string) error {
	if err := os.WriteFile(path, nil, 0o666); err != nil {
		return err
	}
	return unix.Mount(from, path, "", unix.MS_BIND, "")
}

// devpts mounts an instance of the container's own, whose ptmx is /dev/ptmx.
func (s *stage) devpts() error {
	if s.NoDevpts {
		return nil
	}
	// ptmxmode: the default 0000 leaves the use of it to the host's /dev/ptmx.
	err := unix.Mount("devpts", s.path("/dev/pts"), "devpts", unix.MS_NOSUID|unix.MS_NOEXEC,
		"newinstance,ptmxmode=0666,mode=0620")
	if err != nil {
		return err
	}
	return os.Symlink("pts/ptmx", s.path("/dev/ptmx"))
}

// proc mounts a /proc that counts in the container's pid namespace, which the
// stage is the first process of; without one it is the creator's.
func (s *stage) proc() error {
	if s.Namespaces&unix.CLONE_NEWPID == 0 {
		// A new instance needs rights over the pid namespace (EPERM): the creator's
		// mount, with all that lies on it.
		return unix.Mount("/proc", s.path("/proc"), "", unix.MS_BIND|unix.MS_REC, "")
	}
	return unix.Mount("proc", s.path("/proc"), "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
}

// pivot makes the tree the root and lets go of the creator's. The old root is
// put on top of the new one, from where it is unmounted (pivot_root(2)).
func (s *stage) pivot() error {
	if err := unix.Chdir(scratch); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return err
	}
	// Detached: the stage's own binary is still mapped from there, until the exec.
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return err
	}
	if s.Chroot {
		if err := unix.Chroot("/" + jail); err != nil {
			return err
		}
	}
	s.base, s.exe = "/", filepath.Join(binDir, binary)
	return unix.Chdir("/")
}

// seal makes the mount read-only, which is what container engines do.
func (s *stage) seal() error {
	if !s.ReadOnly {
		return nil
	}
	// A remount sets all flags: those of the first mount have to be named again.
	return unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID, "")
}
