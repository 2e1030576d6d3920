// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

// sampleStatus is what Linux 6.18 shows of a process two levels down, as root
// sees it. Lines that are not used are left out, but for some.
const sampleStatus = "Name:\tsleep\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t812\nNgid:\t0\nPid:\t812\nPPid:\t810\n" +
	"TracerPid:\t0\nUid:\t100000\t100001\t100002\t100003\nGid:\t100010\t100011\t100012\t100013\nFDSize:\t64\n" +
	"Groups:\t4 24 100020 \nNStgid:\t812\t7\t1\nNSpid:\t812\t7\t1\nKthread:\t0\nVmPeak:\t    3060 kB\nThreads:\t2\n" +
	"CapInh:\t0000000000000001\nCapPrm:\t0000000000000003\nCapEff:\t0000000000000002\nCapBnd:\t000001ffffffffff\n" +
	"CapAmb:\t0000000000000004\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t3\nCpus_allowed_list:\t0-1\n"

func sampleParsed() Status {
	return Status{
		Name: "sleep", State: 'S', PPid: 810, UID: [4]uint32{100000, 100001, 100002, 100003},
		GID: [4]uint32{100010, 100011, 100012, 100013}, Groups: []uint32{4, 24, 100020}, NSpid: []int{812, 7, 1},
		Threads: 2, Told: true, Umask: 0o022, CapInh: 1, CapPrm: 3, CapEff: 2, CapBnd: 0x1ffffffffff, CapAmb: 4,
		NoNewPrivs: true, Seccomp: 2, Filters: 3,
	}
}

func TestParseStatus(t *testing.T) {
	tests := []struct {
		name     string
		old, new string // a change of the sample
		change   func(*Status)
	}{
		{"as it is", "", "", func(*Status) {}},
		{"zombie without umask", "Umask:\t0022\nState:\tS (sleeping)", "State:\tZ (zombie)", func(s *Status) { s.Umask, s.State = 0, 'Z' }},
		{"kernel thread", "Kthread:\t0", "Kthread:\t1", func(s *Status) { s.Kthread = true }},
		{"before 6.7", "Kthread:\t0\n", "", func(s *Status) { s.Told = false }},
		{"no groups", "Groups:\t4 24 100020 ", "Groups:\t ", func(s *Status) { s.Groups = nil }},
		{"no seccomp in the kernel", "Seccomp:\t2\nSeccomp_filters:\t3\n", "", func(s *Status) { s.Seccomp, s.Filters = 0, -1 }},
		{"before 5.9", "Seccomp_filters:\t3\n", "", func(s *Status) { s.Filters = -1 }},
		{"parent outside", "PPid:\t810", "PPid:\t0", func(s *Status) { s.PPid = 0 }},
		{"largest number", "Uid:\t100000", "Uid:\t4294967295", func(s *Status) { s.UID[0] = 1<<32 - 1 }},
		{"empty name", "Name:\tsleep", "Name:\t", func(s *Status) { s.Name = "" }},
		{"blanks in the name", "Name:\tsleep", "Name:\t a b ", func(s *Status) { s.Name = " a b " }},
		{"colon in the name", "Name:\tsleep", "Name:\tState: Z", func(s *Status) { s.Name = "State: Z" }},
		{"line feed in the name", "Name:\tsleep", `Name:	a\nUid:	0`, func(s *Status) { s.Name = "a\nUid:\t0" }},
		{"backslash in the name", "Name:\tsleep", `Name:	a\\nb`, func(s *Status) { s.Name = `a\nb` }},
		{"a line twice: the kernel's is the first", "Threads:", "Uid:\t0\t0\t0\t0\nThreads:", func(*Status) {}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			text := strings.Replace(sampleStatus, test.old, test.new, 1)
			want := sampleParsed()
			test.change(&want)
			got, err := ParseStatus([]byte(text))
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
			}
		})
	}
}

func TestParseStatusRefuses(t *testing.T) {
	tests := []struct{ name, old, new string }{
		{"empty", sampleStatus, ""},
		{"no state", "State:\tS (sleeping)\n", ""},
		{"empty state", "S (sleeping)", ""},
		{"no NSpid: before 4.1", "NSpid:\t812\t7\t1\n", ""},
		{"empty NSpid", "NSpid:\t812\t7\t1", "NSpid:\t"},
		{"negative NSpid", "NSpid:\t812\t7", "NSpid:\t812\t-7"},
		{"three user numbers", "\t100003", ""},
		{"five user numbers", "\t100003", "\t100003\t7"},
		{"user number too large", "Uid:\t100000", "Uid:\t4294967296"},
		{"negative user number", "Uid:\t100000", "Uid:\t-1"},
		{"group that is none", "Groups:\t4", "Groups:\t4x"},
		{"capabilities too long", "CapBnd:\t0", "CapBnd:\t10"},
		{"capabilities not hexadecimal", "CapEff:\t0", "CapEff:\tg"},
		{"umask not octal", "0022", "0082"},
		{"seccomp no number", "Seccomp:\t2", "Seccomp:\ttwo"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := ParseStatus([]byte(strings.Replace(sampleStatus, test.old, test.new, 1)))
			if !errors.Is(err, ErrFormat) {
				t.Errorf("got %+v, %v, want ErrFormat", got, err)
			}
		})
	}
}

// A line that is missing must not read as user 0, or as no confinement.
func TestParseStatusMissesNothing(t *testing.T) {
	required := 0
	for _, f := range fields {
		if !f.required {
			continue
		}
		required++
		key := f.name
		var kept []string
		for line := range strings.Lines(sampleStatus) {
			if !strings.HasPrefix(line, key+":") {
				kept = append(kept, line)
			}
		}
		_, err := ParseStatus([]byte(strings.Join(kept, "")))
		if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), key) {
			t.Errorf("without %s: %v, want ErrFormat that names it", key, err)
		}
	}
	if required != 11 {
		t.Errorf("%d lines are required", required)
	}
}

// FuzzParseStatus looks for text that is taken for a status and is not
// complete, or not stable.
func FuzzParseStatus(f *testing.F) {
	for _, seed := range []string{sampleStatus, "", "Name:\t) S 1\n", strings.ReplaceAll(sampleStatus, "\t", " ")} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseStatus(b)
		if err != nil {
			if !errors.Is(err, ErrFormat) || !reflect.DeepEqual(s, Status{}) {
				t.Fatalf("%+v, %v: not an empty status with ErrFormat", s, err)
			}
			return
		}
		if s.State == 0 || len(s.NSpid) == 0 {
			t.Fatalf("%+v is not complete", s)
		}
		for _, pid := range s.NSpid {
			if pid < 0 {
				t.Fatalf("process number %d", pid)
			}
		}
		// What comes behind changes nothing.
		more := append(append(b[:len(b):len(b)], "\nUid:\t0\t0\t0\t0\nState:\tX\n"...), sampleStatus...)
		again, err := ParseStatus(more)
		if err != nil || again.UID != s.UID || again.State != s.State || again.CapBnd != s.CapBnd {
			t.Fatalf("with more lines %+v, %v, before %+v", again, err, s)
		}
	})
}

// FuzzParseStatusName gives a process any name (comm): it must come out as it
// is and change nothing else.
func FuzzParseStatusName(f *testing.F) {
	for _, seed := range []string{"sleep", ") S 1", "a\nUid:\t0\t0\t0\t0", `\n`, `\`, "\x1b[2J", " ", "\t", "\xff\xfe", "…"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, comm string) {
		// proc_task_name() of fs/proc/array.c
		escaped := strings.NewReplacer("\n", `\n`, `\`, `\\`).Replace(comm)
		got, err := ParseStatus([]byte(strings.Replace(sampleStatus, "Name:\tsleep", "Name:\t"+escaped, 1)))
		want := sampleParsed()
		want.Name = comm
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
		}
	})
}
