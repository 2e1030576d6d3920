// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Status is /proc/PID/status (proc_pid_status(5)), as far as it is used. User
// and group numbers are those of the reader's user namespace; one that has no
// number there reads 65534.
type Status struct {
	Name    string // comm, raw: as the process chose it
	State   byte   // R S D T t Z X I
	PPid    int    // 0: the parent is outside of the procfs's pid namespace
	UID     [4]uint32
	GID     [4]uint32 // real, effective, saved, file system
	Groups  []uint32
	NSpid   []int // the process's number on each level, outermost first (4.1)
	Threads int
	Kthread bool // a kernel thread
	Told    bool // whether it is one: the kernel says it (6.7)
	Umask   uint32

	CapInh, CapPrm, CapEff, CapBnd, CapAmb uint64

	NoNewPrivs bool
	Seccomp    int // 0 none, 1 strict, 2 filter
	Filters    int // seccomp filters (5.9); -1 where the kernel does not say

	CPUs string // allowed: hexadecimal words of 32 bits, with commas between them, the last first
}

// ErrFormat says that a file of procfs is not as its manual page has it.
var ErrFormat = errors.New("unexpected format")

// Status reads and parses the status file.
func (d *Dir) Status() (Status, error) {
	b, err := d.ReadFile("status")
	if err != nil {
		return Status{}, err
	}
	return ParseStatus(b)
}

// field is a line of the status file that is used.
type field struct {
	name  string
	parse func(*Status, string) error
	// required are the lines without which a process would look more privileged,
	// or less confined, than it is. Seccomp and Kthread are not in every kernel,
	// Umask is not in the status of a zombie.
	required bool
}

// fields are in the order in which Linux has them, so that each is found where
// the search for the last one ended.
var fields = [...]field{
	{"Umask", func(s *Status, v string) error { return unsigned32(v, 8, &s.Umask) }, false},
	{"State", func(s *Status, v string) error { return letter(v, &s.State) }, true},
	{"PPid", func(s *Status, v string) error { return integer(v, &s.PPid) }, false},
	{"Uid", func(s *Status, v string) error { return four(v, &s.UID) }, true},
	{"Gid", func(s *Status, v string) error { return four(v, &s.GID) }, true},
	{"Groups", func(s *Status, v string) (err error) { s.Groups, err = numbers[uint32](v); return err }, true},
	{"NSpid", func(s *Status, v string) (err error) { s.NSpid, err = numbers[int](v); return err }, true},
	{"Kthread", func(s *Status, v string) error { s.Kthread, s.Told = v == "1", true; return nil }, false},
	{"Threads", func(s *Status, v string) error { return integer(v, &s.Threads) }, false},
	{"CapInh", func(s *Status, v string) error { return hex(v, &s.CapInh) }, true},
	{"CapPrm", func(s *Status, v string) error { return hex(v, &s.CapPrm) }, true},
	{"CapEff", func(s *Status, v string) error { return hex(v, &s.CapEff) }, true},
	{"CapBnd", func(s *Status, v string) error { return hex(v, &s.CapBnd) }, true},
	{"CapAmb", func(s *Status, v string) error { return hex(v, &s.CapAmb) }, true},
	{"NoNewPrivs", func(s *Status, v string) error { s.NoNewPrivs = v == "1"; return nil }, true},
	{"Seccomp", func(s *Status, v string) error { return integer(v, &s.Seccomp) }, false},
	{"Seccomp_filters", func(s *Status, v string) error { return integer(v, &s.Filters) }, false},
	{"Cpus_allowed", func(s *Status, v string) error { s.CPUs = v; return nil }, false},
}

// ParseStatus parses the status file. Name is escaped by the kernel, so that a
// process cannot add lines. Of a line that comes twice the first counts.
func ParseStatus(b []byte) (Status, error) {
	s, seen, at := Status{Filters: -1}, [len(fields)]bool{}, 0
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(line, ":")
		if key == "Name" {
			s.Name = unescapeName(value)
		}
		i := find(key, at)
		if i < 0 || seen[i] {
			continue
		}
		if err := fields[i].parse(&s, strings.TrimSpace(value)); err != nil {
			return Status{}, fmt.Errorf("status: %s: %w: %q", key, ErrFormat, value)
		}
		seen[i], at = true, i+1
	}
	for i, f := range fields {
		if f.required && !seen[i] {
			return Status{}, fmt.Errorf("status: %w: no %s", ErrFormat, f.name)
		}
	}
	if len(s.NSpid) == 0 {
		return Status{}, fmt.Errorf("status: NSpid: %w: it is empty", ErrFormat)
	}
	return s, nil
}

// find is the index of the field called name, -1 if there is none; the search
// begins at the one with index at.
func find(name string, at int) int {
	for n := range fields {
		if i := (at + n) % len(fields); fields[i].name == name {
			return i
		}
	}
	return -1
}

// unescapeName undoes what the kernel does to a comm in status, and to nothing
// else in it: \n for a line feed, \\ for a backslash.
func unescapeName(v string) string {
	v = strings.TrimSuffix(strings.TrimPrefix(v, "\t"), "\n")
	if !strings.Contains(v, `\`) {
		return v
	}
	return strings.NewReplacer(`\n`, "\n", `\\`, `\`).Replace(v)
}

func letter(v string, to *byte) error {
	if v == "" {
		return ErrFormat
	}
	*to = v[0]
	return nil
}

func integer(v string, to *int) (err error) {
	*to, err = strconv.Atoi(v)
	return err
}

func unsigned32(v string, base int, to *uint32) error {
	n, err := strconv.ParseUint(v, base, 32)
	*to = uint32(n)
	return err
}

func hex(v string, to *uint64) (err error) {
	*to, err = strconv.ParseUint(v, 16, 64)
	return err
}

func four(v string, to *[4]uint32) error {
	ns, err := numbers[uint32](v)
	if err != nil || len(ns) != len(to) {
		return ErrFormat
	}
	copy(to[:], ns)
	return nil
}

// numbers parses decimal numbers with white space between them.
func numbers[T int | uint32](v string) ([]T, error) {
	var ns []T
	for f := range strings.FieldsSeq(v) {
		n, err := strconv.ParseUint(f, 10, 32)
		if err != nil {
			return nil, err
		}
		ns = append(ns, T(n))
	}
	return ns, nil
}
