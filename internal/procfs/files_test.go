// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const infinity = unix.RLIM_INFINITY

// sampleLimits is /proc/PID/limits of Linux 6.18, its rows in the kernel's order.
const sampleLimits = `Limit                     Soft Limit           Hard Limit           Units     
Max cpu time              unlimited            unlimited            seconds   
Max file size             1                    2                    bytes     
Max data size             unlimited            unlimited            bytes     
Max stack size            8388608              unlimited            bytes     
Max core file size        0                    unlimited            bytes     
Max resident set          unlimited            unlimited            bytes     
Max processes             96365                96366                processes 
Max open files            1024                 524288               files     
Max locked memory         8388608              8388608              bytes     
Max address space         unlimited            unlimited            bytes     
Max file locks            unlimited            unlimited            locks     
Max pending signals       96365                96365                signals   
Max msgqueue size         819200               819200               bytes     
Max nice priority         0                    0                    
Max realtime priority     0                    0                    
Max realtime timeout      unlimited            18446744073709551614 us        
`

func TestParseLimits(t *testing.T) {
	limits, err := ParseLimits([]byte(sampleLimits))
	if err != nil {
		t.Fatal(err)
	}
	want := map[int]unix.Rlimit{
		unix.RLIMIT_CPU: {Cur: infinity, Max: infinity}, unix.RLIMIT_FSIZE: {Cur: 1, Max: 2},
		unix.RLIMIT_STACK: {Cur: 8 << 20, Max: infinity}, unix.RLIMIT_CORE: {Max: infinity},
		unix.RLIMIT_NPROC: {Cur: 96365, Max: 96366}, unix.RLIMIT_NOFILE: {Cur: 1024, Max: 524288},
		unix.RLIMIT_NICE: {}, unix.RLIMIT_RTTIME: {Cur: infinity, Max: infinity - 1},
	}
	for resource, limit := range want {
		if limits[resource] != limit {
			t.Errorf("%s: %v, want %v", LimitNames()[resource], limits[resource], limit)
		}
	}
}

func TestParseLimitsRefuses(t *testing.T) {
	tests := []struct{ name, old, new string }{
		{"empty", sampleLimits, ""},
		{"a row is missing", "Max nice", "Min nice"},
		{"a row twice in place of another", "Max nice priority", "Max realtime priority"},
		{"no hard limit", "1                    2                    bytes", "1"},
		{"negative", " 1 ", " -1 "},
		{"no number", " 1 ", " x "},
		{"too large", "18446744073709551614", "18446744073709551616"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if _, err := ParseLimits([]byte(strings.Replace(sampleLimits, test.old, test.new, 1))); !errors.Is(err, ErrFormat) {
				t.Errorf("got %v, want ErrFormat", err)
			}
		})
	}
}

// FuzzParseLimits writes what was parsed in the kernel's format and parses it
// again.
func FuzzParseLimits(f *testing.F) {
	f.Add([]byte(sampleLimits))
	f.Add([]byte("Max cpu time  1 1\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		limits, err := ParseLimits(b)
		if err != nil {
			return
		}
		var out bytes.Buffer
		for i, name := range LimitNames() {
			fmt.Fprintf(&out, "%-25s %-20s %-20s units\n", name, showLimit(limits[i].Cur), showLimit(limits[i].Max))
		}
		if again, err := ParseLimits(out.Bytes()); err != nil || again != limits {
			t.Errorf("%v, %v\nwant %v", again, err, limits)
		}
	})
}

func showLimit(n uint64) string {
	if n == infinity {
		return "unlimited"
	}
	return fmt.Sprint(n)
}

func TestParseIDMap(t *testing.T) {
	tests := []struct {
		name, text string
		want       IDMap // nil: ErrFormat
	}{
		{"none yet", "", IDMap{}},
		{"the machine's own", "         0          0 4294967295\n", IDMap{{0, 0, 4294967295}}},
		{"two ranges", "0 1000 1\n1 100000 65536\n", IDMap{{0, 1000, 1}, {1, 100000, 65536}}},
		{"last number", "5 4294967294 1\n", IDMap{{5, 4294967294, 1}}},
		{"out of the reader's sight", "0 4294967295 65536\n65536 7 1\n", IDMap{{65536, 7, 1}}},
		{"two numbers", "0 1\n", nil},
		{"four numbers", "0 1 2 3\n", nil},
		{"empty line", "\n", nil},
		{"negative", "0 -1 1\n", nil},
		{"too large", "0 0 4294967296\n", nil},
		{"around the end inside", "4294967295 0 2\n", nil},
		{"around the end outside", "0 4294967290 6\n", nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := ParseIDMap([]byte(test.text))
			if test.want == nil {
				if !errors.Is(err, ErrFormat) {
					t.Errorf("got %v, %v, want ErrFormat", got, err)
				}
				return
			}
			if err != nil || !slices.Equal(got, test.want) {
				t.Errorf("got %v, %v, want %v", got, err, test.want)
			}
		})
	}
}

func TestIDMap(t *testing.T) {
	m := IDMap{{0, 1000, 1}, {1, 100000, 65536}, {4000000000, 7, 2}}
	tests := []struct {
		inside, outside uint32
		in, out         bool // has a number inside, outside
	}{
		{0, 1000, true, true}, {1, 100000, true, true}, {65536, 165535, true, true}, {4000000001, 8, true, true},
		{65537, 165536, false, false}, {4000000002, 9, false, false}, {4294967295, 4294967295, false, false},
		{3999999999, 6, false, false}, {70000, 0, false, false},
	}
	for _, test := range tests {
		if got, ok := m.Outside(test.inside); ok != test.out || ok && got != test.outside {
			t.Errorf("%d is %d outside, %v; want %d, %v", test.inside, got, ok, test.outside, test.out)
		}
		if got, ok := m.Inside(test.outside); ok != test.in || ok && got != test.inside {
			t.Errorf("%d is %d inside, %v; want %d, %v", test.outside, got, ok, test.inside, test.in)
		}
	}
	if got, ok := (IDMap)(nil).Inside(0); ok {
		t.Errorf("without a map 0 is %d inside", got)
	}
}

// A user namespace may have up to 340 ranges (4.15).
func TestIDMapOfManyRanges(t *testing.T) {
	const ranges, step = 340, 10
	var text bytes.Buffer
	for i := range ranges {
		fmt.Fprintf(&text, "%10d %10d %10d\n", i*step, 1000000-i*step, step)
	}
	m, err := ParseIDMap(text.Bytes())
	if err != nil || len(m) != ranges {
		t.Fatalf("%d ranges, %v", len(m), err)
	}
	for id := uint32(0); id < ranges*step; id++ {
		outside, ok := m.Outside(id)
		back, also := m.Inside(outside)
		if !ok || !also || back != id {
			t.Fatalf("%d is %d outside (%v), which is %d inside (%v)", id, outside, ok, back, also)
		}
	}
}

// FuzzParseIDMap: a number is translated within one range of the map, without
// running over, and never to the one that nobody has.
func FuzzParseIDMap(f *testing.F) {
	for _, seed := range []string{"0 0 4294967295\n", "0 1000 1\n1 100000 65536\n", "0 4294967295 9\n", "4294967295 4294967294 1\n"} {
		f.Add([]byte(seed), uint32(0))
		f.Add([]byte(seed), uint32(5))
	}
	f.Fuzz(func(t *testing.T, b []byte, id uint32) {
		m, err := ParseIDMap(b)
		if err != nil {
			return
		}
		holds := func(in, out uint32) bool {
			return slices.ContainsFunc(m, func(r IDRange) bool {
				return in >= r.Inside && out >= r.Outside && in-r.Inside == out-r.Outside && in-r.Inside < r.Count
			})
		}
		if out, ok := m.Outside(id); ok && (out == noID || !holds(id, out)) {
			t.Errorf("%d is %d outside by %v", id, out, m)
		}
		if in, ok := m.Inside(id); ok && (id == noID || !holds(in, id)) {
			t.Errorf("%d is %d inside by %v", id, in, m)
		}
	})
}

func TestParseGroups(t *testing.T) {
	tests := []struct {
		name, text string
		want       []Group // nil: ErrFormat
	}{
		{"unified", "0::/a/b\n", []Group{{0, "", "/a/b"}}},
		{"both versions", "4:memory:/m\n1:name=systemd:/\n0::/\n", []Group{{4, "memory", "/m"}, {1, "name=systemd", "/"}, {0, "", "/"}}},
		{"several controllers", "3:cpu,cpuacct:/x\n", []Group{{3, "cpu,cpuacct", "/x"}}},
		{"colons, blanks, escapes in the path", "0::/a:b c\x1b[2J\n", []Group{{0, "", "/a:b c\x1b[2J"}}},
		{"outside of the reader's view", "0::/../..\n", []Group{{0, "", "/../.."}}},
		{"removed", "0::/x (deleted)\n", []Group{{0, "", "/x (deleted)"}}},
		{"empty", "", []Group{}},
		{"no path", "0:\n", nil},
		{"relative", "0::a\n", nil},
		{"no number", "x::/\n", nil},
		{"blank line", "\n", nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := ParseGroups([]byte(test.text))
			if test.want == nil {
				if !errors.Is(err, ErrFormat) {
					t.Errorf("got %v, %v, want ErrFormat", got, err)
				}
				return
			}
			if err != nil || !slices.Equal(got, test.want) {
				t.Errorf("got %v, %v, want %v", got, err, test.want)
			}
		})
	}
}

// FuzzParseGroups: what was parsed is the same when written and parsed again.
func FuzzParseGroups(f *testing.F) {
	f.Add([]byte("4:memory:/m\n1:name=systemd:/\n0::/a:b c\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		groups, err := ParseGroups(b)
		if err != nil {
			return
		}
		var out bytes.Buffer
		for _, g := range groups {
			if !strings.HasPrefix(g.Path, "/") {
				t.Errorf("path %q", g.Path)
			}
			fmt.Fprintf(&out, "%d:%s:%s\n", g.Hierarchy, g.Controllers, g.Path)
		}
		if again, err := ParseGroups(out.Bytes()); err != nil || !slices.Equal(again, groups) {
			t.Errorf("%v, %v, want %v", again, err, groups)
		}
	})
}

func TestParseMounts(t *testing.T) {
	tests := []struct {
		name, line string
		want       *Mount
	}{
		{"plain", "36 35 98:0 / /mnt rw,noatime master:1 - ext3 /dev/root rw,errors=continue",
			&Mount{36, 35, "98:0", "/", "/mnt", []string{"rw", "noatime"}, "ext3", "/dev/root", []string{"rw", "errors=continue"}}},
		{"no optional fields", "25 1 0:22 / /sys/fs/cgroup/unified rw - cgroup2 none rw",
			&Mount{25, 1, "0:22", "/", "/sys/fs/cgroup/unified", []string{"rw"}, "cgroup2", "none", []string{"rw"}}},
		{"several optional fields", "1 1 0:1 /a /b rw shared:1 master:2 propagate_from:3 - tmpfs x rw",
			&Mount{1, 1, "0:1", "/a", "/b", []string{"rw"}, "tmpfs", "x", []string{"rw"}}},
		{"named hierarchy", "9 1 0:3 / /c rw - cgroup none rw,name=systemd",
			&Mount{9, 1, "0:3", "/", "/c", []string{"rw"}, "cgroup", "none", []string{"rw", "name=systemd"}}},
		{"escaped", `9 1 0:3 /\040 /a\040-\040b\134n\012\011 rw - tmpfs x\040y rw`,
			&Mount{9, 1, "0:3", "/ ", "/a - b\\n\n\t", []string{"rw"}, "tmpfs", "x y", []string{"rw"}}},
		{"blanks that are not of ASCII", "9 1 0:3 / /a\u00a0b\v\u0085c rw - tmpfs x rw",
			&Mount{9, 1, "0:3", "/", "/a\u00a0b\v\u0085c", []string{"rw"}, "tmpfs", "x", []string{"rw"}}},
		{"source is empty", "9 1 0:3 / /a rw - tmpfs  rw", &Mount{9, 1, "0:3", "/", "/a", []string{"rw"}, "tmpfs", "", []string{"rw"}}},
		{"no separator", "36 35 98:0 / /mnt rw master:1 ext3 /dev/root rw", nil},
		{"no number", "x 1 0:3 / /a rw - tmpfs x rw", nil},
		{"too short", "36 35 98:0 / - ext3 x rw", nil},
		{"nothing behind", "36 35 98:0 / /mnt rw - ext3", nil},
		{"empty", "", nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var want []Mount
			if test.want != nil {
				want = []Mount{*test.want}
			}
			if got := ParseMounts([]byte(test.line + "\n")); !reflect.DeepEqual(got, want) {
				t.Errorf("got  %#v\nwant %#v", got, want)
			}
		})
	}
}

// FuzzParseMounts mounts at any path: it comes out as it is, and what it holds
// never looks like another field.
func FuzzParseMounts(f *testing.F) {
	for _, seed := range []string{"/mnt", "/a b", "/a - cgroup none rw", "/\\040", "/\n9 9 9:9 / / rw - cgroup x rw,pids", "/\u00a0", "/#", "\\"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, point string) {
		if !strings.HasPrefix(point, "/") {
			return // every path does
		}
		// mangle() of fs/proc_namespace.c
		escaped := strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, `\`, `\134`, "#", `\043`).Replace(point)
		got := ParseMounts([]byte("9 1 0:3 / " + escaped + " rw - tmpfs x rw,size=1\n"))
		want := []Mount{{9, 1, "0:3", "/", point, []string{"rw"}, "tmpfs", "x", []string{"rw", "size=1"}}}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %#v\nwant %#v", got, want)
		}
	})
}

// statLine is /proc/PID/stat of a process called comm that started at tick start.
func statLine(comm string, start uint64) []byte {
	return fmt.Appendf(nil, "8953 (%s) S 8952 8953 3408 0 -1 4194304 119 0 0 0 0 0 0 0 20 0 1 0 %d 3133440 406 "+
		"18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n", comm, start)
}

func TestParseStart(t *testing.T) {
	for _, comm := range []string{"sleep", ") S 1", "a) R 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 99 20", "((", "", "\n", "a b"} {
		if got, err := ParseStart(statLine(comm, 4711)); err != nil || got != 4711 {
			t.Errorf("comm %q: %d, %v", comm, got, err)
		}
	}
	whole := string(statLine("x", 4711))
	for name, text := range map[string]string{
		"empty": "", "cut": whole[:strings.Index(whole, " 4711")], "no comm": "1 2 3", "no number": strings.Replace(whole, " 4711", " x", 1),
	} {
		if got, err := ParseStart([]byte(text)); err == nil {
			t.Errorf("%s: %d without an error", name, got)
		}
	}
}

// FuzzParseStart gives a process any name: it started when it started.
func FuzzParseStart(f *testing.F) {
	f.Add(") S 1", uint64(7))
	f.Add("(a) (b)", uint64(1<<63))
	f.Fuzz(func(t *testing.T, comm string, start uint64) {
		if got, err := ParseStart(statLine(comm, start)); err != nil || got != start {
			t.Errorf("comm %q: %d, %v, want %d", comm, got, err, start)
		}
		_, _ = ParseStart([]byte(comm)) // anything at all: no panic
	})
}

func TestStrings(t *testing.T) {
	tests := []struct {
		text string
		want []string
	}{
		{"", nil}, {"a\x00", []string{"a"}}, {"a\x00b\x00", []string{"a", "b"}}, {"a\x00\x00b\x00", []string{"a", "", "b"}},
		{"a\x00b", []string{"a", "b"}}, {"\x00", []string{""}}, {"A=1\nB=2\x00", []string{"A=1\nB=2"}},
	}
	for _, test := range tests {
		if got := Strings([]byte(test.text)); !slices.Equal(got, test.want) {
			t.Errorf("%q: %q, want %q", test.text, got, test.want)
		}
	}
}

func FuzzStrings(f *testing.F) {
	f.Add([]byte("PATH=/bin\x00HOME=/\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got := Strings(b)
		if joined := strings.Join(got, "\x00"); joined != strings.TrimSuffix(string(b), "\x00") {
			t.Errorf("%q came of %q", got, b)
		}
	})
}
