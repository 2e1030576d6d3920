// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// limitNames are the rows of /proc/PID/limits, by RLIMIT_*.
var limitNames = []string{
	unix.RLIMIT_CPU: "Max cpu time", unix.RLIMIT_FSIZE: "Max file size", unix.RLIMIT_DATA: "Max data size",
	unix.RLIMIT_STACK: "Max stack size", unix.RLIMIT_CORE: "Max core file size", unix.RLIMIT_RSS: "Max resident set",
	unix.RLIMIT_NPROC: "Max processes", unix.RLIMIT_NOFILE: "Max open files", unix.RLIMIT_MEMLOCK: "Max locked memory",
	unix.RLIMIT_AS: "Max address space", unix.RLIMIT_LOCKS: "Max file locks", unix.RLIMIT_SIGPENDING: "Max pending signals",
	unix.RLIMIT_MSGQUEUE: "Max msgqueue size", unix.RLIMIT_NICE: "Max nice priority", unix.RLIMIT_RTPRIO: "Max realtime priority",
	unix.RLIMIT_RTTIME: "Max realtime timeout",
}

// LimitNames names the resource limits by RLIMIT_*, as procfs does.
func LimitNames() []string { return limitNames }

// nLimits is the number of resource limits (RLIM_NLIMITS).
const nLimits = 16

// Limits are the resource limits of a process by RLIMIT_*, see setrlimit(2).
type Limits [nLimits]unix.Rlimit

// ParseLimits parses /proc/PID/limits.
func ParseLimits(b []byte) (Limits, error) {
	var limits Limits
	found := map[int]bool{}
	for line := range strings.Lines(string(b)) {
		for resource, name := range limitNames {
			rest, ok := strings.CutPrefix(line, name)
			if !ok || !strings.HasPrefix(rest, " ") {
				continue
			}
			fields := strings.Fields(rest)
			if len(fields) < 2 {
				return limits, fmt.Errorf("limits: %w: %q", ErrFormat, line)
			}
			var err1, err2 error
			limits[resource].Cur, err1 = parseLimit(fields[0])
			limits[resource].Max, err2 = parseLimit(fields[1])
			if err := first(err1, err2); err != nil {
				return limits, fmt.Errorf("limits: %w: %q", ErrFormat, line)
			}
			found[resource] = true
		}
	}
	if len(found) != len(limitNames) {
		return limits, fmt.Errorf("limits: %w: %d rows instead of %d", ErrFormat, len(found), len(limitNames))
	}
	return limits, nil
}

func parseLimit(v string) (uint64, error) {
	if v == "unlimited" {
		return unix.RLIM_INFINITY, nil
	}
	return strconv.ParseUint(v, 10, 64)
}

// IDRange is one line of /proc/PID/uid_map or gid_map (user_namespaces(7)):
// Count numbers from Inside on are those from Outside on in the reader's user
// namespace.
type IDRange struct{ Inside, Outside, Count uint32 }

// IDMap is a uid_map or gid_map.
type IDMap []IDRange

// noID is what the kernel shows for numbers that have none in the reader's user
// namespace ((uid_t)-1). Nobody has it.
const noID = 1<<32 - 1

// ParseIDMap parses /proc/PID/uid_map or gid_map. A range that the reader has
// no numbers for is left out: for the reader it is not mapped.
func ParseIDMap(b []byte) (IDMap, error) {
	var m IDMap
	for line := range bytes.Lines(b) {
		ns, err := numbers[uint32](string(line))
		if err != nil || len(ns) != 3 {
			return nil, fmt.Errorf("id map: %w: %q", ErrFormat, line)
		}
		r := IDRange{ns[0], ns[1], ns[2]}
		if r.Outside == noID {
			continue
		}
		if r.Count > noID-r.Inside || r.Count > noID-r.Outside {
			return nil, fmt.Errorf("id map: %w: %q", ErrFormat, line)
		}
		m = append(m, r)
	}
	return m, nil
}

// Inside returns the number inside for a number outside.
func (m IDMap) Inside(outside uint32) (uint32, bool) {
	for _, r := range m {
		if outside >= r.Outside && outside-r.Outside < r.Count {
			return r.Inside + (outside - r.Outside), true
		}
	}
	return 0, false
}

// Outside returns the number outside for a number inside.
func (m IDMap) Outside(inside uint32) (uint32, bool) {
	for _, r := range m {
		if inside >= r.Inside && inside-r.Inside < r.Count {
			return r.Outside + (inside - r.Inside), true
		}
	}
	return 0, false
}

// Group is one line of /proc/PID/cgroup (cgroups(7)): where a process is in one
// hierarchy. The unified hierarchy has number 0 and no controllers.
type Group struct {
	Hierarchy   int
	Controllers string // with commas between them; "name=systemd" for a named one
	Path        string // from the root of the reader's cgroup namespace, raw
}

// Groups reads and parses the cgroup file.
func (d *Dir) Groups() ([]Group, error) {
	b, err := d.ReadFile("cgroup")
	if err != nil {
		return nil, err
	}
	return ParseGroups(b)
}

// ParseGroups parses /proc/PID/cgroup.
func ParseGroups(b []byte) ([]Group, error) {
	var groups []Group
	for line := range bytes.Lines(b) {
		parts := strings.SplitN(strings.TrimSuffix(string(line), "\n"), ":", 3)
		n, err := strconv.Atoi(parts[0])
		if err != nil || len(parts) != 3 || !strings.HasPrefix(parts[2], "/") {
			return nil, fmt.Errorf("cgroup: %w: %q", ErrFormat, line)
		}
		groups = append(groups, Group{n, parts[1], parts[2]})
	}
	return groups, nil
}

// Mount is one line of /proc/PID/mountinfo (proc_pid_mountinfo(5)).
type Mount struct {
	ID, Parent   int
	Device       string // of the file system, "major:minor"
	Root, Point  string // unescaped
	Options      []string
	Type         string
	Source       string // unescaped, as whoever mounted it has it
	SuperOptions []string
}

// ParseMounts parses /proc/PID/mountinfo; lines that are not as the manual has
// them are left out.
func ParseMounts(b []byte) []Mount {
	var mounts []Mount
	for line := range bytes.Lines(b) {
		// Split, not Fields: of all blanks the kernel escapes those of ASCII only.
		before, after, ok := strings.Cut(strings.TrimSuffix(string(line), "\n"), " - ")
		left, right := strings.Split(before, " "), strings.Split(after, " ")
		if !ok || len(left) < 6 || len(right) < 2 {
			continue
		}
		id, err := strconv.Atoi(left[0])
		parent, perr := strconv.Atoi(left[1])
		if err != nil || perr != nil {
			continue
		}
		m := Mount{ID: id, Parent: parent, Device: left[2], Root: unescape(left[3]), Point: unescape(left[4]), Options: strings.Split(left[5], ","), Type: right[0]}
		m.Source, m.SuperOptions = unescape(right[1]), strings.Split(right[len(right)-1], ",")
		mounts = append(mounts, m)
	}
	return mounts
}

// unescape undoes the kernel's \ooo for blanks and backslashes.
func unescape(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				out.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

// ParseStart returns the start time from /proc/PID/stat, in clock ticks since
// boot. It stands behind the comm, which may hold anything; the last ")" ends it.
func ParseStart(b []byte) (uint64, error) {
	const startField = 22 - 3 // of stat, counted from the field after the comm
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) <= startField {
		return 0, fmt.Errorf("stat: %w", ErrFormat)
	}
	return strconv.ParseUint(string(fields[startField]), 10, 64)
}

// Scheduling is how a process is scheduled, see sched(7).
type Scheduling struct {
	Policy   int // SCHED_*
	Nice     int // of SCHED_OTHER and SCHED_BATCH
	Priority int // of SCHED_FIFO and SCHED_RR
}

// ParseScheduling returns how a process is scheduled from /proc/PID/stat.
func ParseScheduling(b []byte) (s Scheduling, err error) {
	const nice, priority, policy = 19 - 3, 40 - 3, 41 - 3 // see ParseStart
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) <= policy {
		return s, fmt.Errorf("stat: %w", ErrFormat)
	}
	for i, to := range map[int]*int{nice: &s.Nice, priority: &s.Priority, policy: &s.Policy} {
		if *to, err = strconv.Atoi(string(fields[i])); err != nil {
			return s, fmt.Errorf("stat: %w: %q", ErrFormat, fields[i])
		}
	}
	return s, nil
}

// Strings splits the content of environ or cmdline.
func Strings(b []byte) []string {
	if len(b) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
}
