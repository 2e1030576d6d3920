// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Dead is a file system, mounted in a container, that takes requests and answers
// none: not even SIGKILL ends who waits for it (fuse(4)). It is so as long as
// its daemon lives, which is a process of the host's and ends with that.
type Dead struct{ daemon *Command }

// MountDead mounts one over a directory of the container's, in no other mount
// namespace than the container's.
func (c *Container) MountDead(ctx context.Context, dir string) (*Dead, error) {
	return c.host.mountDead(ctx, c.HostPid, dir)
}

// MountDead mounts one over a directory of the host's.
func (h *Host) MountDead(ctx context.Context, dir string) (*Dead, error) {
	return h.mountDead(ctx, 1, dir)
}

func (h *Host) mountDead(ctx context.Context, pid int, dir string) (*Dead, error) {
	d := &Dead{daemon: h.Command("/proc/self/exe")}
	d.daemon.Args = append(d.daemon.Args, argv(deadArg, &deadPlan{pid, dir})[1:]...)
	if err := d.daemon.Start(); err != nil {
		return nil, err
	}
	err := poll(ctx, func() error {
		switch said := d.daemon.Said(); {
		case strings.HasPrefix(said, saidReady):
			return nil
		case d.daemon.Ended():
			return fmt.Errorf("%w: %s", errFinal, said)
		}
		return errors.New("the kernel has not made itself known to it")
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("mount a dead file system at %s: %w", dir, err), d.Abort(ctx))
	}
	return d, nil
}

// What its daemon says.
const saidReady, saidSwallowed = "ready\n", "swallowed\n"

// Swallowed is how many requests it has taken.
func (d *Dead) Swallowed() int { return strings.Count(d.daemon.Said(), saidSwallowed) }

// Abort ends the daemon, and with it the connection: who waits gets
// ECONNABORTED, who comes later ENOTCONN. To be called once.
func (d *Dead) Abort(ctx context.Context) error {
	d.daemon.Kill()
	_, err := d.daemon.Wait(ctx)
	return err
}

// deadPlan is what the daemon is told.
type deadPlan struct {
	Pid int    `json:"pid"` // of the container's first process, as the host counts
	Dir string `json:"dir"` // from the container's root
}

// dead is the daemon. Its thread, to which it is locked, is the only one that
// sees the container's mounts.
func dead(p *deadPlan) error {
	// Not by package os, whose reads do not block here.
	device, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /dev/fuse: %w", err)
	}
	if err := mountDead(p, device); err != nil {
		return err
	}
	return swallow(device)
}

// mountDead joins the container's mount namespace and mounts the file system of
// a device there. The directory is looked up before, from the container's root.
func mountDead(p *deadPlan, device int) error {
	root, err := unix.Open(fmt.Sprintf("/proc/%d/root", p.Pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	dir, err := unix.Openat2(root, p.Dir, &unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT})
	if err != nil {
		return fmt.Errorf("open %s: %w", p.Dir, err)
	}
	mounts, err := unix.Open(fmt.Sprintf("/proc/%d/ns/mnt", p.Pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	// The threads of a process share their directories, which setns(2) refuses.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	if err := unix.Setns(mounts, unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("join the container's mount namespace: %w", err)
	}
	if err := unix.Fchdir(dir); err != nil {
		return err
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", device)
	if err := unix.Mount("dead", ".", "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return err
	}
	return errors.Join(unix.Chdir("/"), unix.Close(root), unix.Close(dir), unix.Close(mounts))
}

// swallow answers the kernel's first request and takes all others.
func swallow(device int) error {
	buf := make([]byte, 1<<17) // more than any request without data
	said := saidReady
	for {
		n, err := unix.Read(device, buf)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ENOENT): // the asker was interrupted
			continue
		case err != nil:
			return err
		}
		if said == saidReady {
			if err := answerInit(device, buf[:n]); err != nil {
				return err
			}
		}
		if _, err := os.Stdout.WriteString(said); err != nil {
			return err
		}
		said = saidSwallowed
	}
}

// answerInit answers FUSE_INIT for version 7.31: a struct fuse_out_header and a
// struct fuse_init_out of <linux/fuse.h>.
func answerInit(device int, request []byte) error {
	const inHeader, outHeader, initOut = 40, 16, 64
	if len(request) < inHeader {
		return fmt.Errorf("a first request of %d bytes", len(request))
	}
	reply := make([]byte, outHeader+initOut)
	binary.NativeEndian.PutUint32(reply, uint32(len(reply)))
	copy(reply[8:16], request[8:16]) // unique
	binary.NativeEndian.PutUint32(reply[16:], 7)
	binary.NativeEndian.PutUint32(reply[20:], 31)
	_, err := unix.Write(device, reply)
	return err
}
