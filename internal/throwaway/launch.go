// SPDX-License-Identifier: Apache-2.0

package throwaway

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// The arguments by which Main knows a stage and an applet.
const (
	stageArg  = "__throwaway"
	appletArg = "__applet"
)

// The descriptors that a stage finds.
const (
	controlFD = 3 // a SOCK_SEQPACKET connection, one message each way a record
	configFD  = 4 // a pipe with the plan as JSON
)

// wholeMap is the uid_map of the machine's own user namespace, with its blanks
// made one. It is text because its last number is no int on 32-bit machines.
const wholeMap = "0 0 4294967295"

// The default ids of containers of the machine's root, as in /etc/subuid.
const (
	subIDs     = 100000
	subIDCount = 65536
)

// launch executes exe as p's stage, in p's namespaces, and sends it p. The
// stage is a child of the calling thread and dies with it. Descriptors of std
// that are nil become /dev/null. Every error is an *Error.
func launch(ctx context.Context, p *plan, exe string, std [3]*os.File, control *os.File) (*os.Process, error) {
	if err := p.resolveIDs(); err != nil {
		return nil, &Error{Name: p.Name, Step: "read own ids", Err: err}
	}
	// A pipe and not an argument: the plan may be longer than those may be, and
	// neither it nor anything else of the creator is to be seen in /proc.
	configR, configW, err := os.Pipe()
	if err != nil {
		return nil, &Error{Name: p.Name, Step: "make a pipe", Err: err}
	}
	defer configR.Close()
	defer configW.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, &Error{Name: p.Name, Step: "open " + os.DevNull, Err: err}
	}
	defer null.Close()
	// An outer level passes on what the innermost one keeps.
	files := []*os.File{null, null, null, control, configR}
	for i, f := range std {
		if p.keeps(i) && f != nil {
			files[i] = f
		}
	}
	proc, err := os.StartProcess(exe, []string{"outband", stageArg}, &os.ProcAttr{
		Dir: "/", Env: []string{}, Files: files, Sys: p.attributes(),
	})
	if err != nil {
		// The path says nothing: it was the clone, the id maps or the exec.
		err = errors.Unwrap(err)
		hint := explain(err, p.Namespaces, hostProc())
		if errors.Is(err, unix.EACCES) && !public(exe) {
			hint = "the running binary may not be executed by other users, whom the container's ids are"
		}
		return nil, &Error{p.Name, "create namespaces", err, hint}
	}
	if err := p.send(ctx, proc, configW); err != nil {
		_ = proc.Kill()
		_, _ = proc.Wait()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = context.DeadlineExceeded
		}
		return nil, &Error{Name: p.Name, Step: "hand over the plan", Err: err}
	}
	return proc, nil
}

// public tells whether other users may read and execute a file.
func public(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode()&0o005 == 0o005
}

// send places the stage in its cgroups and lets it begin. A stage waits for its
// plan before it does anything, so nothing of the container is ever outside.
func (p *plan) send(ctx context.Context, proc *os.Process, config *os.File) error {
	for _, dir := range p.Cgroups {
		// The number is that of a child that is not reaped yet.
		file := filepath.Join(dir, "cgroup.procs")
		if err := os.WriteFile(file, []byte(strconv.Itoa(proc.Pid)), 0); err != nil {
			return err
		}
	}
	data, err := json.Marshal(p)
	if err != nil {
		return err
	}
	// A stage that does not read is killed with the deadline of its creator.
	if deadline, ok := ctx.Deadline(); ok {
		if err := config.SetWriteDeadline(deadline); err != nil {
			return err
		}
	}
	_, err = config.Write(data)
	return err
}

// keeps tells whether p, or the level of it that executes, owns descriptor i.
func (p *plan) keeps(i int) bool {
	return p.Std[i] || slices.ContainsFunc(p.Inner, func(q *plan) bool { return q.keeps(i) })
}

// attributes is how a stage of p is born.
func (p *plan) attributes() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{
		Setsid: true, // no terminal of the creator's
		// Until the handshake sets it again. Package syscall takes getppid() == 0,
		// which a new pid namespace has, for a dead parent and kills the child;
		// the first process of the namespace is immune to that.
		Pdeathsig:  syscall.SIGKILL,
		Cloneflags: p.Namespaces,
	}
	if !p.User {
		return attr
	}
	attr.UidMappings, attr.GidMappings = p.UIDMap, p.GIDMap
	attr.GidMappingsEnableSetgroups = !p.DenySetgroups
	// The creator's own ids need not be mapped: the stage would be 65534, which
	// owns nothing and cannot become anybody else after the exec.
	uid, gid := firstID(p.UIDMap), firstID(p.GIDMap)
	attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), NoSetGroups: p.DenySetgroups}
	if uid != 0 {
		// Only root keeps its capabilities over the stage's exec by itself.
		attr.AmbientCaps = allCaps()
	}
	return attr
}

// resolveIDs fills in the id maps that were left open. They depend on what the
// creator, which for inner containers is a stage, has itself.
func (p *plan) resolveIDs() error {
	if !p.User {
		return nil
	}
	var err error
	if p.UIDMap == nil {
		p.UIDMap, err = defaultMap("/proc/self/uid_map", unix.CAP_SETUID, os.Geteuid())
	}
	if p.GIDMap == nil && err == nil {
		p.GIDMap, err = defaultMap("/proc/self/gid_map", unix.CAP_SETGID, os.Getegid())
	}
	// user_namespaces(7): gid_map can be written without CAP_SETGID only after
	// "deny", and "deny" is for ever, for all namespaces below too.
	denied, derr := os.ReadFile("/proc/self/setgroups")
	p.DenySetgroups = p.DenySetgroups || !capable(unix.CAP_SETGID) ||
		strings.HasPrefix(string(denied), "deny")
	return errors.Join(err, derr)
}

// defaultMap is the map of a container for which none was asked.
func defaultMap(file string, needed, id int) ([]IDMap, error) {
	if !capable(needed) {
		// user_namespaces(7): without the capability, one's own id alone.
		return []IDMap{{ContainerID: 0, HostID: id, Size: 1}}, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if strings.Join(strings.Fields(string(text)), " ") == wholeMap {
		return []IDMap{{ContainerID: 0, HostID: subIDs, Size: subIDCount}}, nil
	}
	// Root of a user namespace has no others to give.
	own, err := parseIDMap(string(text))
	return identity(own), err
}
