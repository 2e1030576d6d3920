// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"bytes"
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

// required are the lines without which a process would look more privileged, or
// less confined, than it is. Seccomp and Kthread are not in every kernel, Umask
// is not in the status of a zombie.
var required = [...]string{"State", "Uid", "Gid", "Groups", "NSpid", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs"}

// ParseStatus parses the status file. Name is escaped by the kernel, so that a
// process cannot add lines.
func ParseStatus(b []byte) (Status, error) {
	s := Status{Filters: -1}
	fields := map[string]func(string) error{
		"State":           func(v string) error { return letter(v, &s.State) },
		"PPid":            func(v string) error { return integer(v, &s.PPid) },
		"Uid":             func(v string) error { return four(v, &s.UID) },
		"Gid":             func(v string) error { return four(v, &s.GID) },
		"Groups":          func(v string) (err error) { s.Groups, err = numbers[uint32](v); return err },
		"NSpid":           func(v string) (err error) { s.NSpid, err = numbers[int](v); return err },
		"Threads":         func(v string) error { return integer(v, &s.Threads) },
		"Kthread":         func(v string) error { s.Kthread, s.Told = v == "1", true; return nil },
		"Umask":           func(v string) error { return unsigned32(v, 8, &s.Umask) },
		"CapInh":          func(v string) error { return hex(v, &s.CapInh) },
		"CapPrm":          func(v string) error { return hex(v, &s.CapPrm) },
		"CapEff":          func(v string) error { return hex(v, &s.CapEff) },
		"CapBnd":          func(v string) error { return hex(v, &s.CapBnd) },
		"CapAmb":          func(v string) error { return hex(v, &s.CapAmb) },
		"NoNewPrivs":      func(v string) error { s.NoNewPrivs = v == "1"; return nil },
		"Cpus_allowed":    func(v string) error { s.CPUs = v; return nil },
		"Seccomp":         func(v string) error { return integer(v, &s.Seccomp) },
		"Seccomp_filters": func(v string) error { return integer(v, &s.Filters) },
	}
	for line := range bytes.Lines(b) {
		key, value, _ := strings.Cut(string(line), ":")
		if key == "Name" {
			s.Name = unescapeName(value)
		}
		parse, ok := fields[key]
		if !ok {
			continue
		}
		if err := parse(strings.TrimSpace(value)); err != nil {
			return Status{}, fmt.Errorf("status: %s: %w: %q", key, ErrFormat, value)
		}
		delete(fields, key)
	}
	for _, key := range required {
		if fields[key] != nil {
			return Status{}, fmt.Errorf("status: %w: no %s", ErrFormat, key)
		}
	}
	if len(s.NSpid) == 0 {
		return Status{}, fmt.Errorf("status: NSpid: %w: it is empty", ErrFormat)
	}
	return s, nil
}

// unescapeName undoes what the kernel does to a comm in status, and to nothing
// else in it: \n for a line feed, \\ for a backslash.
func unescapeName(v string) string {
	v = strings.TrimSuffix(strings.TrimPrefix(v, "\t"), "\n")
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
