// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// startTime bounds the start of a host, endTime its end.
	startTime = 30 * time.Second
	endTime   = 30 * time.Second
)

// Host is a machine of namespaces, see the package. Its methods may be called by
// several goroutines.
type Host struct {
	// Engine is what containers are started with; nil on a bare host.
	Engine *Engine
	*machine
}

// machine is what is one for all engines of a host.
type machine struct {
	// Init is the number of the host's first process, for display.
	Init int
	// Group is the path of the host's cgroup, in every hierarchy.
	Group string

	link   *os.File
	keeper *exec.Cmd
	log    *os.File // what the keeper and the init say
	ended  chan struct{}
	once   sync.Once
	closed error // what Close has returned

	mu     sync.Mutex
	last   int
	calls  map[int]*Command // by the id of the order
	begun  []*Command       // all, for their files
	loaded map[string]bool  // images by the names of their engine and their own
	// parents are what background has started, by the container's first process.
	parents map[int]*Command
}

// Start makes a host and starts the engine on it, if one is given. The caller
// has to Close it; what ends the caller closes it too.
func Start(ctx context.Context, engine *Engine) (*Host, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("a host of its own needs root")
	}
	all, err := hierarchies()
	if err != nil {
		return nil, err
	}
	p := &plan{Name: "lab", Hierarchies: all, Memory: memoryDirs()}
	if engine != nil {
		p.Name, p.HideUnified = "lab-"+engine.Name, engine.hideUnified
	}
	p.Group = fmt.Sprintf("%s%d-lab-%x", groupPrefix, os.Getpid(), time.Now().UnixNano())
	h, err := start(ctx, p)
	if err != nil {
		return nil, err
	}
	if engine == nil {
		return h, nil
	}
	with, err := h.With(ctx, engine)
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return with, nil
}

// With starts an engine on the host, beside what runs there, and returns the host
// as one of that engine. To close either closes both.
func (h *Host) With(ctx context.Context, engine *Engine) (*Host, error) {
	with := &Host{Engine: engine, machine: h.machine}
	if engine.setup != nil {
		if err := engine.setup(ctx, with); err != nil {
			return nil, fmt.Errorf("start %s: %w", engine.Name, err)
		}
	}
	return with, nil
}

// memoryDirs are where engines keep root file systems, and what is not to be
// found in a copy of the machine's.
func memoryDirs() []string {
	return []string{"/lab", "/home", "/var/lib/docker", "/var/lib/containers", "/var/lib/containerd", "/var/lib/lxc", "/var/lib/machines"}
}

// start makes a host without an engine.
func start(ctx context.Context, p *plan) (*Host, error) {
	near, far, err := pair()
	if err != nil {
		return nil, err
	}
	defer far.Close()
	log, err := memory("log")
	if err != nil {
		near.Close()
		return nil, err
	}
	h := &Host{machine: &machine{
		Group: "/" + p.Group, link: near, log: log, keeper: p.keeper(far, log),
		ended: make(chan struct{}), calls: map[int]*Command{}, loaded: map[string]bool{}, parents: map[int]*Command{},
	}}
	if err := h.keeper.Start(); err != nil {
		near.Close()
		log.Close()
		return nil, err
	}
	far.Close() // or the init's end of it would not be the last
	if err := h.await(ctx); err != nil {
		said := h.Log()
		return nil, errors.Join(fmt.Errorf("make a host: %w: %s", err, said), h.Close())
	}
	return h, nil
}

// keeper is the command that keeps a host, with its end of the socket.
func (p *plan) keeper(link, log *os.File) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = p.argv(keeperArg)
	cmd.Env = hostEnv
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{link}
	// A group of its own: a terminal's interrupt is for the caller alone.
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	return cmd
}

// await waits for the init's first word, and finds the init.
func (h *Host) await(ctx context.Context) (err error) {
	first := &Command{done: make(chan struct{}), started: make(chan struct{})}
	h.calls[0] = first
	go h.listen()
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	select {
	case <-first.started:
		h.Init, err = h.HostPID(1)
	case <-h.ended:
		err = errors.New("its init has ended")
	case <-ctx.Done():
		err = ctx.Err()
	}
	return err
}

// pair is a socket that keeps packets apart, its ends blocking.
func pair() (near, far *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(fds[0]), "link"), os.NewFile(uintptr(fds[1]), "link"), nil
}

// memory is a file without a name. What a container keeps open of it keeps
// nobody waiting, as a pipe would.
func memory(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate("outband-lab-"+name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// contents reads a file from its beginning, wherever its writers are.
func contents(f *os.File) string {
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	data := make([]byte, info.Size())
	n, _ := f.ReadAt(data, 0)
	return string(data[:n])
}

// Log is what the host's own processes have said.
func (h *Host) Log() string { return strings.TrimSpace(contents(h.log)) }

// listen passes reports on until the init has ended.
func (h *Host) listen() {
	defer close(h.ended)
	for {
		var r report
		_, ok, err := receive(h.link, &r)
		if err != nil || !ok {
			break
		}
		h.mu.Lock()
		if c := h.calls[r.ID]; c != nil && c.told(r) {
			delete(h.calls, r.ID)
		}
		h.mu.Unlock()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, c := range h.calls {
		c.told(report{Done: true, Code: -1, Failed: "the host has ended"})
		delete(h.calls, id)
	}
}

// HostPID translates a number of the host's to the machine's: of all processes
// in the host's cgroups, the one that has that number one level down.
func (h *Host) HostPID(pid int) (int, error) {
	files, err := filepath.Glob("/proc/[0-9]*/status")
	if err != nil {
		return 0, err
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // gone
		}
		numbers := levels(data)
		if len(numbers) < 2 || numbers[1] != strconv.Itoa(pid) {
			continue
		}
		groups, err := os.ReadFile(filepath.Join(filepath.Dir(file), "cgroup"))
		if err == nil && bytes.Contains(groups, []byte(":"+h.Group)) {
			return strconv.Atoi(numbers[0])
		}
	}
	return 0, fmt.Errorf("no process of the host's has number %d there", pid)
}

// Path is the machine's path of one of the host's: for files of this package's
// own making, as a container's could lead elsewhere.
func (h *Host) Path(path string) string {
	return filepath.Join("/proc", strconv.Itoa(h.Init), "root", path)
}

// Close ends the host with all that is on it, and removes its cgroups. It
// returns an error if something is left; the same if it is called again.
func (h *Host) Close() error {
	h.once.Do(func() { h.closed = h.close() })
	return h.closed
}

func (h *Host) close() error {
	if all, err := hierarchies(); err == nil {
		thawGroup(all, h.Group)
	}
	// Not close: the descriptor is in use by listen.
	_ = unix.Shutdown(int(h.link.Fd()), unix.SHUT_RDWR)
	ended := make(chan error, 1)
	go func() { ended <- h.keeper.Wait() }()
	var err error
	select {
	case err = <-ended:
	case <-time.After(endTime):
		// The init dies with the keeper, and everything with the init.
		err = errors.Join(fmt.Errorf("the host did not end in %v", endTime), h.keeper.Process.Kill(), <-ended)
	}
	<-h.ended
	if err != nil {
		err = fmt.Errorf("end the host: %w: %s", err, h.Log())
	}
	h.link.Close()
	h.log.Close()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.begun { // nobody has waited for some
		c.out.Close()
		c.err.Close()
	}
	return err
}
