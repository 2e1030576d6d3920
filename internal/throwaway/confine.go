// SPDX-License-Identifier: Apache-2.0

package throwaway

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/sys"
)

// capable tells whether the main thread has a capability in effect.
func capable(capability int) bool {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(status), "\nCapEff:\t")
	line, _, _ := strings.Cut(rest, "\n")
	mask, err := strconv.ParseUint(line, 16, 64)
	return err == nil && mask&(1<<capability) != 0
}

// allCaps lists the capabilities of the running kernel: those of the bounding
// set, which for a fresh user namespace is all of them.
func allCaps() []uintptr {
	var all []uintptr
	for c := uintptr(0); c < 64; c++ {
		if on, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0); err == nil && on >= 0 {
			all = append(all, c)
		}
	}
	return all
}

// confineSteps makes the stage what init is to be. Each keeps what the next
// ones need: /proc files are written before a change of ids makes them root's,
// the bounding set shrinks while CAP_SETPCAP is there, and filters, which may
// forbid all the others, are last.
func (s *stage) confineSteps() []step {
	return []step{
		{name: "set oom_score_adj", do: s.oomScore},
		{name: "set scheduling", do: s.scheduling},
		{name: "set limits", do: s.limits},
		{name: "shrink the bounding set", do: s.bounding},
		{name: "set groups", do: s.groups},
		{name: "set ids", do: s.ids},
		{name: "set capabilities", do: s.caps},
		{name: "set no_new_privs", do: s.noNewPrivs},
		{name: "set filters", do: s.filters},
	}
}

// oomScore is EACCES for less than before without CAP_SYS_RESOURCE.
func (s *stage) oomScore() error {
	if s.OOMScoreAdj == 0 {
		return nil
	}
	return os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(s.OOMScoreAdj)), 0)
}

// limits sets rlimits and umask. EPERM for more than the hard limit that was
// inherited. Go restores RLIMIT_NOFILE at the exec unless it was set here; a Go
// program, as the applets are, raises its soft limit again.
func (s *stage) limits() error {
	unix.Umask(s.Umask)
	for resource, limit := range s.Rlimits {
		if err := unix.Setrlimit(resource, &limit); err != nil {
			return err
		}
	}
	return nil
}

// bounding drops capabilities for good (CAP_SETPCAP, else EPERM).
func (s *stage) bounding() error {
	for _, c := range allCaps() {
		if s.DropCaps&(1<<c) == 0 {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
			return err
		}
	}
	return nil
}

// groups sets exactly those asked for. Where setgroups is denied, which is the
// rule without privilege, the creator's stay: EPERM if others were asked for.
func (s *stage) groups() error {
	denied, err := os.ReadFile("/proc/self/setgroups")
	if err == nil && strings.HasPrefix(string(denied), "deny") && len(s.Groups) == 0 {
		return nil
	}
	return unix.Setgroups(s.Groups)
}

// ids changes all three of each kind. EINVAL for an id that is not mapped.
func (s *stage) ids() error {
	uid, gid := s.UID, s.GID
	if uid == 0 {
		uid = firstID(s.UIDMap)
	}
	if gid == 0 {
		gid = firstID(s.GIDMap)
	}
	// Else setresuid(2) from 0 to another takes the permitted set with it.
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return err
	}
	// Groups first: setresgid(2) needs what setresuid(2) takes out of effect.
	if err := unix.Setresgid(gid, gid, gid); err != nil {
		return err
	}
	return unix.Setresuid(uid, uid, uid)
}

// caps leaves the ambient set as asked and the inheritable one equal to it; the
// exec works out the others from those. What leaves the inheritable set leaves
// the ambient one with it (capabilities(7)).
func (s *stage) caps() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData // 32 capabilities each
	if err := unix.Capget(&header, &data[0]); err != nil {
		return err
	}
	for i := range data {
		data[i].Effective = data[i].Permitted // setresuid has cleared it
		data[i].Inheritable = uint32(s.AmbientCaps >> (32 * i))
	}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return err
	}
	for _, c := range allCaps() {
		if s.AmbientCaps&(1<<c) == 0 {
			continue
		}
		if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, c, 0, 0); err != nil {
			return err
		}
	}
	return nil
}

// noNewPrivs cannot be undone, and holds for all that is executed from here on.
func (s *stage) noNewPrivs() error {
	if !s.NoNewPrivs {
		return nil
	}
	return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
}

// filters needs CAP_SYS_ADMIN or no_new_privs, else EACCES.
func (s *stage) filters() error {
	for _, f := range s.Filters {
		if err := sys.SetFilter(f.Program, f.Flags); err != nil {
			return err
		}
	}
	return nil
}

// scheduling is EPERM or EACCES for less nice than before without CAP_SYS_NICE.
func (s *stage) scheduling() error {
	if s.Nice != 0 {
		if err := unix.Setpriority(unix.PRIO_PROCESS, 0, s.Nice); err != nil {
			return err
		}
	}
	if s.CPUs == 0 {
		return nil
	}
	var set unix.CPUSet
	for cpu := range 64 {
		if s.CPUs&(1<<cpu) != 0 {
			set.Set(cpu)
		}
	}
	return unix.SchedSetaffinity(0, &set)
}
